"""Suites of tasks for lm-evaluation-harness, as a file names them. Nothing heavy is imported here."""

from pathlib import Path
from typing import Any

import yaml
from pydantic import Field, ValidationError, field_validator

from pta_ray.errors import JobError
from pta_ray.job_file import first_problem
from pta_ray.settings import Settings, expand


class Suite(Settings):
    """Tasks that make one figure: the mean of their metric."""

    name: str
    tasks: list[str] = Field(min_length=1)
    """Tasks or groups of lm-evaluation-harness."""
    num_fewshot: int | None = Field(None, ge=0)
    """Examples in the prompt; by default as many as each task has of itself."""
    metric: str = ""
    """As the harness calls it, `exact_match,strict-match`; by default the first that it reports for the first task."""
    scale: float = 100
    """The figure's unit: 100 for percent, 1 for the metric as it is."""
    runs_code: bool = False
    """Whether the tasks run programs that the model has written; these are left out without `--run-generated-code`."""
    unavailable: str = ""
    """Why the harness cannot run it; then it is named in the results with its published figures only."""
    published: dict[str, float] = Field(default_factory=dict)
    """Figures to compare with, by model."""


class TaskSuites(Settings):
    """A file of suites."""

    suites: list[Suite] = Field(min_length=1)
    include_path: str = ""
    """A directory with tasks of your own."""

    @field_validator("include_path")
    @classmethod
    def _expand_path(cls, value: str) -> str:
        return expand(value)

    @field_validator("suites")
    @classmethod
    def _distinct(cls, value: list[Suite]) -> list[Suite]:
        names = [suite.name for suite in value]
        if len(set(names)) < len(names):
            raise ValueError("two suites have the same name")
        return value


def load_suites(tasks: str) -> TaskSuites:
    """Reads a YAML file of suites, or takes each of several names, separated by commas, for a suite of its own.

    Raises:
        JobError: the file is not as it should be; names the field.
    """
    path = Path(tasks)
    if path.suffix not in {".yaml", ".yml"}:
        return TaskSuites(suites=[Suite(name=name, tasks=[name]) for name in dict.fromkeys(tasks.split(","))])
    try:
        raw: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
        return TaskSuites.model_validate(raw)
    except OSError:
        raise JobError("--tasks", f"there is no file at {path}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise JobError("--tasks", f"{path} is not valid YAML: {' '.join(str(error).split())}") from None
    except ValidationError as error:
        problem = first_problem(error, TaskSuites)
        raise JobError(f"--tasks: {problem.field}", problem.problem) from None
