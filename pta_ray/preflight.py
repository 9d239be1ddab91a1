"""What can be told of a job before anything is loaded: is everything there that it names?"""

import importlib.util
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from pta_ray.cache import Cache, check_settings, open_cache
from pta_ray.checkpoint import check_model
from pta_ray.config import Job, ServedModel, TextSource
from pta_ray.errors import JobError
from pta_ray.evaluation.sandbox import check_sandbox
from pta_ray.evaluation.settings import Evaluation
from pta_ray.evaluation.task_suites import TaskSuites
from pta_ray.growing_cache import check_growing_cache
from pta_ray.text.documents import find_pieces

_PLOTS = (".svg", ".png", ".pdf")
_DISTRIBUTION = {"vllm": "pip install 'pta-ray[cuda]' (or [cpu])", "transformers": "pip install transformers"}


@dataclass(frozen=True)
class Check:
    """One thing that a job needs."""

    field: str
    """Of the job file, that names it."""
    run: Callable[[], object]
    """Raises `JobError` if it is not there."""


def fuse_checks(job: Job, simulated: bool) -> Iterator[Check]:
    """All that a job needs in order to run, each by itself.

    Args:
        simulated: whether the target may learn from what simulated models say.
    """
    yield Check("output", partial(_check_output, "output", job.output, "--set output=DIR"))
    if not simulated:
        yield from _real_checks(job.models)
    yield from _training_checks(job)
    yield from _stream_checks(job)
    if job.target.engine == "simulated":  # then nothing has asked for what is trained
        yield Check("target.model", partial(check_model, "target.model", job.target.model, needs_weights=True))
    if job.data.cache:
        yield Check("data.cache", partial(check_growing_cache, job))


def check_fuse(job: Job, simulated: bool) -> None:
    """Refuses a job that cannot run.

    Args:
        simulated: whether the target may learn from what simulated models say.

    Raises:
        JobError: the output is taken, or a model, an engine, a text or what the training needs is missing, or a model
            is simulated; names the field.
    """
    _run(fuse_checks(job, simulated))


def check_align(job: Job, output: str) -> None:
    """Refuses a job that cannot run, or whose cache cannot be put where it shall be. Raises as `check_fuse`."""
    _check_output("--output", output, "--output DIR")
    _run(_stream_checks(job))


def check_from_cache(job: Job, directory: str, simulated: bool) -> Cache:
    """Opens a cache, and refuses a job that cannot be trained from it. The sources and the training text, whose part
    is in the cache, need not be there. Raises as `check_fuse`."""
    _check_output("output", job.output, "--set output=DIR")
    cache = open_cache(directory)
    check_settings(cache, job)
    if not simulated:
        _run(_real_checks([job.target]))
        if names := simulated_models(cache.description.job, None):
            problem = f"{directory} holds what simulated models said ({', '.join(names)})"
            raise JobError("--from-cache", f"{problem}; align anew, or train from it nevertheless with --simulated")
    _run(_training_checks(job))
    _check_model("target", job.target)
    check_model("target.model", job.target.model, needs_weights=True)
    _run(_text_checks("held_out", job.data.held_out))
    return cache


def check_evaluation(settings: Evaluation, files: Sequence[Path]) -> None:
    """Refuses a comparison of models that are not there, or whose figures would be made up, or on text that is not
    there.

    Args:
        files: that will be written.

    Raises:
        JobError: names the field.
    """
    for i, model in enumerate(settings.models):
        if model.engine == "simulated":
            raise JobError(f"models.{i}.engine", "is simulated: its figures would be made up")
        _check_model(f"models.{i}", model)
    for i, source in enumerate(settings.data):
        find_pieces(f"--data.{i}", source)
    for path in files:
        if path.is_dir() or not path.parent.is_dir():
            raise JobError(str(path), "is a directory" if path.is_dir() else f"there is no directory {path.parent}")


def check_tasks(suites: TaskSuites, run_generated_code: bool) -> None:
    """Refuses tasks that nothing here can run. Raises as `check_evaluation`."""
    if importlib.util.find_spec("lm_eval") is None:
        raise JobError("--tasks", "lm-evaluation-harness is not installed: pip install 'pta-ray[eval]'")
    if suites.include_path and not Path(suites.include_path).is_dir():
        raise JobError("--tasks: include_path", f"there is no directory {suites.include_path}")
    if run_generated_code:
        check_sandbox()


def check_plot(path: Path, has_text: bool) -> None:
    """Refuses a plot that cannot be drawn. Raises as `check_evaluation`."""
    if not has_text:
        raise JobError("--plot", "draws bits per byte: give some text with --data")
    if importlib.util.find_spec("matplotlib") is None:
        raise JobError("--plot", "matplotlib is not installed: pip install 'pta-ray[eval]'")
    if path.suffix not in _PLOTS:
        raise JobError("--plot", f"{path} ends in none of {', '.join(_PLOTS)}")


def check_submit(address: str | None, kubernetes: Path | None, render: bool) -> None:
    """Refuses a submission to nowhere, or to two places. Raises as `check_evaluation`."""
    if (address is None) == (kubernetes is None):
        raise JobError("submit", "say where to, with one of --address http://HOST:8265 and --kubernetes DIR")
    if render and not kubernetes:
        raise JobError("--render", "shows what would be applied with --kubernetes DIR")
    if kubernetes and not render and importlib.util.find_spec("kubernetes") is None:
        raise JobError("--kubernetes", "its client is not installed: pip install 'pta-ray[k8s]'")


def simulated_models(job: Job, cache: Cache | None) -> list[str]:
    """Names of the models that make up what they say: of those that score for a job, or did for the cache that it is
    trained from."""
    scoring = [job.target, *cache.description.job.models] if cache else job.models
    return list(dict.fromkeys(model.name for model in scoring if model.engine == "simulated"))


def check_inspect(job: Job, source: str | None, output: Path) -> None:
    """Refuses a job whose target, or whose source of this name (all by default), is not there; the text of the job need
    not be. And a page that cannot be written. Raises as `check_fuse`."""
    check_page(output)
    names = [model.name for model in job.sources]
    if source is not None and source not in names:
        raise JobError("--source", f"no source is called {source!r}; there are: {', '.join(names)}")
    if job.fusion.choice != "min_ce":
        problem = f"is {job.fusion.choice}, and who wins is shown for min_ce only"
        raise JobError("fusion.choice", f"{problem}; choose that with --set fusion.choice=min_ce")
    _run(_model_checks(job, source))


def check_page(output: Path) -> None:
    """Refuses a page that cannot be written."""
    if output.is_dir() or not output.parent.is_dir():
        raise JobError("--output", f"{output} must be a file in a directory that exists")


def _run(checks: Iterable[Check]) -> None:
    """The first that fails refuses the job."""
    for check in checks:
        check.run()


def _real_checks(models: Sequence[ServedModel]) -> Iterator[Check]:
    """Of the target and the sources that follow it, or of the target alone: none is simulated."""
    for i, model in enumerate(models):
        field = "target.engine" if i == 0 else f"sources.{i - 1}.engine"
        yield Check(field, partial(_check_real, field, model))


def _training_checks(job: Job) -> Iterator[Check]:
    training = job.training
    if training.validation:
        yield Check("training.validation", partial(_check_held_out, job))
    if training.lora:
        yield Check("training.lora", partial(_check_package, "training.lora", "peft", "'pta-ray[lora]'"))
    for tracker in training.trackers:
        if tracker != "tensorboard":  # its files need no more than Ray
            yield Check("training.trackers", partial(_check_package, "training.trackers", tracker, tracker))


def _stream_checks(job: Job) -> Iterator[Check]:
    yield from _model_checks(job, None)
    yield from _text_checks("train", job.data.train)
    yield from _text_checks("held_out", job.data.held_out)


def _model_checks(job: Job, only: str | None) -> Iterator[Check]:
    """Of the target and the source of this name, or all of them."""
    yield Check("target.model", partial(_check_model, "target", job.target))
    for i, model in enumerate(job.sources):
        if only in (None, model.name):
            yield Check(f"sources.{i}.model", partial(_check_model, f"sources.{i}", model))


def _text_checks(section: str, sources: list[TextSource]) -> Iterator[Check]:
    for i, source in enumerate(sources):
        field = f"data.{section}.{i}"
        yield Check(field, partial(find_pieces, field, source))


def _check_real(field: str, model: ServedModel) -> None:
    if model.engine == "simulated":
        problem = "is simulated: the target would learn from distributions that are made up"
        raise JobError(field, f"{problem}; choose another engine, or fuse nevertheless with --simulated")


def _check_held_out(job: Job) -> None:
    if not job.data.held_out:
        raise JobError("training.validation", "measures bits per byte on data.held_out, which is empty; name some text")


def _check_package(field: str, package: str, distribution: str) -> None:
    if importlib.util.find_spec(package) is None:
        raise JobError(field, f"{package} is not installed; pip install {distribution}")


def _check_model(field: str, model: ServedModel) -> None:
    check_model(f"{field}.model", model.model, needs_weights=model.engine != "simulated")
    if model.engine != "simulated" and importlib.util.find_spec(model.engine) is None:
        raise JobError(f"{field}.engine", f"{model.engine} is not installed; {_DISTRIBUTION[model.engine]}")


def _check_output(field: str, output: str, another: str) -> None:
    path = Path(output)
    if "://" in output:
        raise JobError(field, f"{output} must be a local directory, shared by all hosts of the cluster")
    if path.is_file() or (path.is_dir() and any(path.iterdir())):
        raise JobError(field, f"{output} already holds a result; remove it, or choose another with {another}")
