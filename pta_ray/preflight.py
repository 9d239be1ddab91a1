"""What can be told of a job before anything is loaded: is everything there that it names?"""

import importlib.util
from pathlib import Path

from pta_ray.checkpoint import check_model
from pta_ray.config import Job
from pta_ray.errors import JobError
from pta_ray.text.documents import find_pieces

_DISTRIBUTION = {"vllm": "pip install 'pta-ray[cuda]' (or [cpu])", "transformers": "pip install transformers"}


def check(job: Job) -> None:
    """Refuses a job that cannot run.

    Raises:
        JobError: the output is taken, or a model, an engine or a text is missing; names the field.
    """
    check_output(job.output)
    for i, model in enumerate(job.models):
        field = "target" if i == 0 else f"sources.{i - 1}"
        check_model(f"{field}.model", model.model)
        if importlib.util.find_spec(model.engine) is None:
            raise JobError(f"{field}.engine", f"{model.engine} is not installed: {_DISTRIBUTION[model.engine]}")
    for section, sources in (("train", job.data.train), ("held_out", job.data.held_out)):
        for i, source in enumerate(sources):
            find_pieces(f"data.{section}.{i}", source)


def check_output(output: str) -> None:
    """Refuses an output directory that holds something."""
    path = Path(output)
    if "://" in output:
        raise JobError("output", f"{output} must be a local directory, shared by all hosts of the cluster")
    if path.is_file() or (path.is_dir() and any(path.iterdir())):
        raise JobError("output", f"{output} already holds a result; remove it, or choose another with --set output=DIR")
