"""What can be told of a job before anything is loaded: is everything there that it names?"""

import importlib.util
from pathlib import Path

from pta_ray.cache import Cache, check_settings, open_cache
from pta_ray.checkpoint import check_model
from pta_ray.config import Job, ServedModel, TextSource
from pta_ray.errors import JobError
from pta_ray.text.documents import find_pieces

_DISTRIBUTION = {"vllm": "pip install 'pta-ray[cuda]' (or [cpu])", "transformers": "pip install transformers"}


def check_fuse(job: Job) -> None:
    """Refuses a job that cannot run.

    Raises:
        JobError: the output is taken, or a model, an engine, a text or what the training needs is missing; names the
            field.
    """
    _check_output("output", job.output, "--set output=DIR")
    _check_training(job)
    _check_stream(job)


def check_align(job: Job, output: str) -> None:
    """Refuses a job that cannot run, or whose cache cannot be put where it shall be. Raises as `check_fuse`."""
    _check_output("--output", output, "--output DIR")
    _check_stream(job)


def check_from_cache(job: Job, directory: str) -> Cache:
    """Opens a cache, and refuses a job that cannot be trained from it. The sources and the training text, whose part
    is in the cache, need not be there. Raises as `check_fuse`."""
    _check_output("output", job.output, "--set output=DIR")
    cache = open_cache(directory)
    check_settings(cache, job)
    _check_training(job)
    _check_model("target", job.target)
    _check_text("held_out", job.data.held_out)
    return cache


def _check_stream(job: Job) -> None:
    _check_model("target", job.target)
    for i, model in enumerate(job.sources):
        _check_model(f"sources.{i}", model)
    _check_text("train", job.data.train)
    _check_text("held_out", job.data.held_out)


def _check_model(field: str, model: ServedModel) -> None:
    check_model(f"{field}.model", model.model)
    if importlib.util.find_spec(model.engine) is None:
        raise JobError(f"{field}.engine", f"{model.engine} is not installed: {_DISTRIBUTION[model.engine]}")


def _check_training(job: Job) -> None:
    training = job.training
    if training.validation and not job.data.held_out:
        raise JobError("training.validation", "measures bits per byte on data.held_out, which is empty: name some text")
    if training.lora and importlib.util.find_spec("peft") is None:
        raise JobError("training.lora", "peft is not installed: pip install 'pta-ray[lora]'")
    for tracker in {"wandb", "mlflow"}.intersection(training.trackers):  # TensorBoard's files need no more than Ray
        if importlib.util.find_spec(tracker) is None:
            raise JobError("training.trackers", f"{tracker} is not installed: pip install {tracker}")


def _check_text(section: str, sources: list[TextSource]) -> None:
    for i, source in enumerate(sources):
        find_pieces(f"data.{section}.{i}", source)


def _check_output(field: str, output: str, another: str) -> None:
    path = Path(output)
    if "://" in output:
        raise JobError(field, f"{output} must be a local directory, shared by all hosts of the cluster")
    if path.is_file() or (path.is_dir() and any(path.iterdir())):
        raise JobError(field, f"{output} already holds a result; remove it, or choose another with {another}")
