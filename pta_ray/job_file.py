"""Reads a job file, or what stands for one on the command line, and says what is wrong with it. Nothing heavy is
imported here."""

import difflib
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from pta_ray.config import Job
from pta_ray.errors import JobError
from pta_ray.settings import Settings


def load_job(path: Path, overrides: list[str]) -> Job:
    """Reads a job file and applies `key.sub=value` overrides, whose values are YAML.

    Raises `JobError` with the field and the mend for everything that is wrong with it.
    """
    return checked(read_job(path, overrides))


def read_job(path: Path, overrides: list[str]) -> dict[str, Any]:
    """A job as it is written: keys are not checked, paths are those of the machine that will run it. Raises as
    `load_job`."""
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, IsADirectoryError):
        raise JobError("JOB", f"there is no job file at {path}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise JobError("JOB", f"{path} is not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(raw, dict):
        raise JobError("JOB", f"{path} must hold keys and values: target, sources, data")
    for override in overrides:
        _apply(raw, override)
    raw.setdefault("output", f"runs/{path.stem}")
    return raw


def checked(raw: dict[str, Any]) -> Job:
    """A job whose keys and values are sound. Raises as `load_job`."""
    try:
        return Job.model_validate(raw)
    except ValidationError as error:
        raise first_problem(error, Job) from None


def _apply(raw: dict[str, Any], override: str) -> None:
    key, separator, value = override.partition("=")
    if not separator:
        raise JobError("--set", f"{override!r} is not of the form key=value")
    *parents, last = key.split(".")
    node: Any = raw
    try:
        for part in parents:
            node = node[int(part)] if isinstance(node, list) else node.setdefault(part, {})
        node[int(last) if isinstance(node, list) else last] = yaml.safe_load(value)
    except (ValueError, IndexError, TypeError, AttributeError, yaml.YAMLError):
        raise JobError("--set", f"{key!r} does not lead to a field of this job file") from None


def first_problem(error: ValidationError, root: type[Settings]) -> JobError:
    """What a user is told of settings that are not as `root` has them."""
    problems = error.errors(include_url=False)
    # A misspelt key shows up twice, as unknown and as missing: the unknown one is what the user typed.
    problem = next((p for p in problems if p["type"] == "extra_forbidden"), problems[0])
    field = ".".join(str(part) for part in problem["loc"]) or "job"
    if problem["type"] == "extra_forbidden":
        known = list(_section_at(root, problem["loc"][:-1]).model_fields)
        near = difflib.get_close_matches(str(problem["loc"][-1]), known, n=1)
        mend = f"did you mean {near[0]!r}?" if near else f"known are: {', '.join(known)}"
        return JobError(field, f"unknown key; {mend}")
    if problem["type"] == "missing":
        fields = _section_at(root, problem["loc"][:-1]).model_fields
        needed = ", ".join(name for name, known in fields.items() if known.is_required())
        return JobError(field, f"is missing; needed are: {needed}")
    if problem["type"] == "value_error":
        return JobError(field, problem["msg"].removeprefix("Value error, "))
    message = problem["msg"]
    return JobError(field, f"{message[0].lower()}{message[1:]} (got {problem['input']!r:.80})")


def _section_at(root: type[Settings], location: tuple[int | str, ...]) -> Any:
    """The class of the section at a location."""
    section: Any = root
    for part in location:
        if isinstance(part, str) and part in section.model_fields:
            annotation = section.model_fields[part].annotation
            section = getattr(annotation, "__args__", (annotation,))[0]
    return section
