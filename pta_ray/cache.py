"""The Parquet cache of a fused stream: what `pta-ray align` leaves, or `pta-ray fuse` in `data.cache`, and what
`pta-ray fuse --from-cache` trains from.

*.parquet           one row per training window that was not set aside, in the order of the stream: window_id and
                    domain; task, row and ends_task, its place in what was read; share, of the training text of all
                    epochs; winner, the model whose distribution it carries; fused, that distribution over tokens or
                    over intervals of them
_common_metadata    what made them, by Parquet's own convention: the schema of the rows, and `Description` as JSON
                    under the key `pta-ray`; written last, so a directory without it is not finished
_align.log          what the libraries logged; readers of Parquet pass over names that begin with an underscore
_quarantine.parquet what could not be read, scored or aligned, and why, if there is any

`pta-ray align` writes the rows of all epochs; a cache that `pta-ray fuse` filled has those of the first one, which the
later ones read again (`cached_epochs.py`), there as with `--from-cache`.

Nothing heavy is imported here, so that a cache that does not suit a job is refused at once.
"""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import ArrowException
from pydantic import BaseModel, ConfigDict, ValidationError

from pta_ray.agreement import check_agreement
from pta_ray.config import Job
from pta_ray.errors import JobError, first_line
from pta_ray.placement import Actors, Placement, place
from pta_ray.settings import expand

_COMMON_METADATA = "_common_metadata"
_KEY = b"pta-ray"
_WRITING_CPUS = 0.5


class Description(BaseModel):
    """What made the rows of a cache, and what was measured on the way."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal[3] = 3
    job: Job
    """With every default filled in. Has `data.cache` if only the rows of its first epoch are there."""
    packages: dict[str, str]
    """Versions, by name."""
    models: dict[str, dict[str, str]]
    """`model` and `sha256`, by name, as in a result's fusion.json."""
    target_tokenizer: str
    """Fingerprint of the target's byte table."""
    counts: dict[str, int | float]
    """Telemetry's counters: bits and bytes of held-out text by model, positions by source."""
    num_set_aside: int
    """Documents that could not be read, and windows that could not be scored or aligned."""
    num_rows: int
    """Windows in the cache."""


@dataclass(frozen=True)
class Cache:
    """A finished cache."""

    directory: Path
    files: list[Path]
    """In the order of the stream."""
    description: Description


def data_files(directory: Path) -> list[Path]:
    """The files with rows, in the order of the stream: Ray Data names them by the number of the writing task."""
    # Longer names come later: the number is padded to six digits, which a long stream outgrows.
    return sorted(directory.glob("[!_]*.parquet"), key=lambda path: (len(path.name), path.name))


def without_set_aside(rows: pa.Table) -> pa.Table:
    """Fused rows that there is something to learn from."""
    return rows.filter(rows.column("winner").is_valid())


def is_finished(directory: Path) -> bool:
    """Whether a cache has been described."""
    return (directory / _COMMON_METADATA).is_file()


def count_rows(files: list[Path]) -> int:
    """Rows by the files' own footers."""
    return sum(pq.read_metadata(path).num_rows for path in files)


def write_description(directory: Path, description: Description) -> None:
    """Finishes a cache, whose rows are there already."""
    schema = pq.read_schema(data_files(directory)[0])
    # pydantic's own JSON turns an infinite rho into null.
    content = json.dumps(description.model_dump(mode="json"))
    pq.write_metadata(schema.with_metadata({_KEY: content}), directory / _COMMON_METADATA)


def open_cache(directory: str) -> Cache:
    """Reads what a cache says of itself, and counts its rows.

    Raises:
        JobError: there is no finished cache, or some of its files are missing or damaged.
    """
    if "://" in directory:
        raise JobError("--from-cache", f"{directory} must be a local directory, shared by all hosts of the cluster")
    path = Path(expand(directory)).absolute()
    description = read_description(path, "--from-cache")
    files = data_files(path)
    try:
        num_rows = count_rows(files)
    except (ArrowException, OSError) as error:
        raise JobError("--from-cache", f"{path} holds a damaged file ({first_line(error)}); align anew") from None
    if num_rows != description.num_rows:
        problem = f"{path} holds {num_rows} of the {description.num_rows} windows that were written; align anew"
        raise JobError("--from-cache", problem)
    return Cache(path, files, description)


def read_description(path: Path, field: str) -> Description:
    """What a cache says of itself.

    Raises:
        JobError: names `field`.
    """
    try:
        metadata = pq.read_schema(path / _COMMON_METADATA).metadata or {}
        return Description.model_validate_json(metadata[_KEY])
    except FileNotFoundError:
        problem = f"{path} is not a finished cache: it holds no {_COMMON_METADATA}; make one with pta-ray align"
    except (ArrowException, OSError, KeyError):
        problem = f"{path} is not a cache of pta-ray: its {_COMMON_METADATA} does not say what made it"
    except ValidationError:
        problem = f"{path} was made by a version of pta-ray whose caches this one does not know; align anew"
    raise JobError(field, problem)


def check_settings(cache: Cache, job: Job) -> None:
    """Refuses a job that would have made other rows than those of the cache.

    How models are run and how the target is trained may differ: that is what a cache is for.

    Raises:
        JobError: names the first field that differs, and what it has to be.
    """
    check_agreement(cache.description.job, job, {"training": True}, "the cache", "align anew")


def check_target(cache: Cache, job: Job, sha256: str, tokenizer: str) -> None:
    """Refuses another target than the one that the cache was made for.

    Args:
        sha256: fingerprint of the job's target, as of `checkpoint.fingerprint`.
        tokenizer: fingerprint of its byte table.

    Raises:
        JobError: one of the fingerprints differs.
    """
    made_for = cache.description.models[job.target.name]
    mend = f"fuse into {made_for['model']} as it was then, or align anew"
    if tokenizer != cache.description.target_tokenizer:
        raise JobError("target.model", f"{job.target.model} has another tokenizer than the cache was made for; {mend}")
    if sha256 != made_for["sha256"]:
        problem = f"{job.target.model} ({sha256[:12]}) is not the checkpoint that the cache was made for"
        raise JobError("target.model", f"{problem} ({made_for['sha256'][:12]}); {mend}")


def place_align(job: Job, output: str, has_gpus: bool) -> Placement:
    """What every stage reserves where the stream ends in a cache: writing takes the place of training."""
    writing = Actors("write", 1, _WRITING_CPUS, 0.0, f"Parquet: {output}")
    return replace(place(job, has_gpus), training=writing)


def place_from_cache(job: Job, cache: Cache, has_gpus: bool) -> Placement:
    """What every stage reserves where a cache is trained from: no model scores and nothing is aligned."""
    placement = place(job, has_gpus)
    reading = replace(placement.reading, what=f"Parquet: {cache.directory}")
    return replace(placement, reading=reading, scoring=[], alignment=replace(placement.alignment, count=0))
