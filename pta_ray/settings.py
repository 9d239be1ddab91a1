"""What the sections of files that people write are made of: their base class, paths, ranges and ramps."""

import os
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator


class Settings(BaseModel):
    """Base of every section: unknown keys and wrong types are errors, the string beneath a field documents it."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, protected_namespaces=())


def expand(path: str) -> str:
    """A path with `~` and `$VARIABLE` filled in, absolute if it exists, since actors have other working directories;
    a URI, a hub id and nothing at all pass unchanged."""
    if not path:
        return path
    if "://" in path:
        if "@" in path.split("://", 1)[1].split("/", 1)[0]:
            raise ValueError("credentials do not belong in a job file; set them where the file system looks for them")
        return path
    expanded = Path(os.path.expandvars(path)).expanduser()
    return str(expanded.absolute()) if expanded.exists() else str(expanded)


def _from_number(value: Any) -> Any:
    """A number stands for a range of nothing else."""
    return (value, value) if isinstance(value, int) else value


def _rising(value: tuple[int, int]) -> tuple[int, int]:
    if not 1 <= value[0] <= value[1]:
        raise ValueError(f"is {list(value)}; give a number of at least 1, or [fewest, most]")
    return value


Range = Annotated[tuple[int, int], BeforeValidator(_from_number), AfterValidator(_rising)]
"""How many there are, or `[fewest, most]`."""


class _Ramp(Settings):
    start: float
    end: float

    @model_validator(mode="before")
    @classmethod
    def _from_number(cls, value: Any) -> Any:
        return value if isinstance(value, dict | _Ramp) else {"start": value, "end": value}

    def at(self, progress: float) -> float:
        """Its value when a share of the run is done."""
        return self.start + (self.end - self.start) * min(progress, 1.0)


class Ramp(_Ramp):
    """A share that is fixed, or changes linearly over the run."""

    start: float = Field(ge=0, le=1)
    end: float = Field(ge=0, le=1)


class TemperatureRamp(_Ramp):
    """A temperature that is fixed, or changes linearly over the run."""

    start: float = Field(ge=1)
    end: float = Field(ge=1)
