"""What `pta-ray evaluate` is asked for. Nothing heavy is imported here."""

from collections.abc import Sequence
from typing import Any

import yaml
from pydantic import Field, ValidationError, field_validator

from pta_ray.config import ServedModel, TextSource
from pta_ray.errors import JobError
from pta_ray.job_file import first_problem
from pta_ray.settings import Settings


class Evaluation(Settings):
    """Models that are compared on text."""

    models: list[ServedModel] = Field(min_length=1)
    """Differences are those from the first."""
    data: list[TextSource] = Field(default_factory=list)
    """The text of each domain."""
    window_bytes: int = Field(4096, ge=64)
    """The longest piece of a document that is read at once. All models read the same pieces whole: where one of them
    has no room for so many, they are shorter for all."""

    @field_validator("models")
    @classmethod
    def _distinct_names(cls, value: list[ServedModel]) -> list[ServedModel]:
        names = [model.name for model in value]
        for index, name in enumerate(names):
            if name in names[:index]:
                raise ValueError(f"two models are called {name!r}; name one of them: '{{model: ..., name: ...}}'")
        return value


def load_evaluation(models: Sequence[str], data: Sequence[str], window_bytes: int, engine: str) -> Evaluation:
    """The models and texts of `pta-ray evaluate`: each is an entry as in a job file, a name or a YAML mapping.

    Args:
        engine: of models that name none of their own.

    Raises:
        JobError: an entry is not as it should be; names it.
    """
    entries = [_entry("MODEL", model) for model in models]
    served = [{"engine": engine, **(entry if isinstance(entry, dict) else {"model": entry})} for entry in entries]
    raw = {"models": served, "data": [_entry("--data", text) for text in data], "window_bytes": window_bytes}
    try:
        return Evaluation.model_validate(raw)
    except ValidationError as error:
        raise first_problem(error, Evaluation) from None


def _entry(field: str, text: str) -> Any:
    try:
        return yaml.safe_load(text) if text.startswith("{") else text
    except yaml.YAMLError:
        raise JobError(field, f"{text!r} is not a YAML mapping") from None
