"""The cache that a run of `pta-ray fuse` fills on the way (`data.cache`), until it is finished.

<task>-<first row>-<last row>.parquet    fused rows of one reading task, as they came; what was set aside is not there
_job.json                                whose cache it is to be, while it grows
_unfinished-*                            files that are being written

Work that is done again overwrites its file. A run that goes on may cut its blocks elsewhere: then a row is in two
files, of which readers take the first, and at the end the other is dropped.

Shapes: N rows of a task, or of a block.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from pta_ray.agreement import check_agreement
from pta_ray.cache import data_files, is_finished, read_description, without_set_aside
from pta_ray.config import Job
from pta_ray.errors import JobError

_FIELD = "data.cache"
_JOB = "_job.json"
_UNFINISHED = "_unfinished-"
_ANOTHER = "choose another directory with --set data.cache=DIR"

Places = npt.NDArray[np.int64]


def check_growing_cache(job: Job) -> None:
    """Refuses a directory for the cache in which something else lies, or the cache of a job that makes other rows.

    Raises:
        JobError: names the field.
    """
    if "://" in job.data.cache:
        raise JobError(_FIELD, f"{job.data.cache} must be a local directory, shared by all hosts of the cluster")
    path = Path(job.data.cache)
    if path.is_file():
        raise JobError(_FIELD, f"{path} is a file; {_ANOTHER}")
    if path.is_dir() and any(path.iterdir()):
        check_agreement(_made_by(path), job, {"training": True}, f"the cache in {path}", _ANOTHER)


def begin_cache(job: Job, goes_on: bool) -> None:
    """Makes an empty cache, or looks whether that of an earlier run is there to go on with.

    Args:
        goes_on: from a checkpoint; else what an earlier run has left of this job's cache is removed.

    Raises:
        JobError: it is not there; or it is finished, and would be made a second time; or as `check_growing_cache`.
    """
    check_growing_cache(job)  # files are removed below
    path = Path(job.data.cache)
    is_whole = is_finished(path)
    if goes_on:
        if not is_whole and not (path / _JOB).is_file():
            problem = f"{path} does not hold what the run has kept so far"
            raise JobError(_FIELD, f"{problem}; put it back, or remove the checkpoints to start over")
        return
    if is_whole:
        raise JobError(_FIELD, f"{path} holds this job's cache; train from it with --from-cache, or {_ANOTHER}")
    path.mkdir(parents=True, exist_ok=True)
    (path / _JOB).write_text(json.dumps(job.model_dump(mode="json")), encoding="utf-8")
    for old in [*path.glob(f"{_UNFINISHED}*"), *data_files(path)]:
        old.unlink()


class Keeping:
    """Callable of the actors of the stage that makes fused rows: they are written down before they are passed on."""

    def __init__(self, directory: str, stage: Callable[..., Callable[[pa.Table], pa.Table]], *arguments: Any) -> None:
        """Makes an instance of the stage from its arguments."""
        self._directory = Path(directory)
        self._stage = stage(*arguments)

    def __call__(self, block: pa.Table) -> pa.Table:
        """What the stage makes of a block."""
        rows = self._stage(block)
        keep(self._directory, rows)
        return rows


def keep(directory: Path, rows: pa.Table) -> None:
    """Writes a block of fused rows, in the stream's order, to a file for each of its tasks."""
    rows = without_set_aside(rows)
    tasks_N, rows_N = rows.column("task").to_numpy(), rows.column("row").to_numpy()
    for task in np.unique(tasks_N):
        is_own_N = tasks_N == task
        # Both ends are named: what a dying process still writes must not take the place of a longer block.
        first, last = rows_N[is_own_N][[0, -1]]
        _write(rows.filter(pa.array(is_own_N)), directory / f"{task:010}-{first:010}-{last:010}.parquet")


def _write(rows: pa.Table, path: Path) -> None:
    """The file is there whole or not at all, whenever the process dies."""
    unfinished = path.with_name(f"{_UNFINISHED}{uuid4().hex}")
    pq.write_table(rows, unfinished, compression="zstd")
    unfinished.replace(path)


def files_by_task(directory: Path) -> dict[int, list[Path]]:
    """The files of each task that has rows, in the order of the stream."""
    files: dict[int, list[Path]] = {}
    for path in data_files(directory):
        files.setdefault(int(path.name.split("-")[0]), []).append(path)
    return files


def find_rows(files: list[Path]) -> tuple[Places, Places]:
    """Where the rows of a task are, in their order and each once: the file [N], and the place in it [N]."""
    rows = [pq.ParquetFile(path).read(["row"]).column("row").to_numpy() for path in files]
    file_N = np.repeat(np.arange(len(rows)), [len(part) for part in rows])
    place_N = np.concatenate([np.arange(len(part)) for part in rows])
    _, once_N = np.unique(np.concatenate(rows), return_index=True)  # the first of those that are equal
    return file_N[once_N], place_N[once_N]


def drop_doubles(directory: Path) -> None:
    """Leaves every row in one file only, and nothing that is not finished."""
    for unfinished in directory.glob(f"{_UNFINISHED}*"):
        unfinished.unlink()
    for files in files_by_task(directory).values():
        file_N, place_N = find_rows(files)
        for i, path in enumerate(files):
            own_N = np.sort(place_N[file_N == i])
            if not len(own_N):
                path.unlink()
            elif len(own_N) < pq.read_metadata(path).num_rows:
                _write(pq.ParquetFile(path).read().take(pa.array(own_N)), path)


def end_growth(directory: Path) -> None:
    """The cache has been described, and is one like any other."""
    (directory / _JOB).unlink(missing_ok=True)


def _made_by(path: Path) -> Job:
    """The job of a cache, finished or not."""
    if is_finished(path):
        return read_description(path, _FIELD).job
    try:
        return Job.model_validate(json.loads((path / _JOB).read_text(encoding="utf-8")))
    except (OSError, ValueError):
        raise JobError(_FIELD, f"{path} holds something else than a cache of pta-ray; {_ANOTHER}") from None
