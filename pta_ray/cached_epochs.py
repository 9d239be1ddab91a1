"""The epochs behind the first one, which read its fused rows from a cache instead of scoring the text again.

Shapes: N rows of a task, or some of them.
"""

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from pta_ray.cache import Cache
from pta_ray.errors import StreamError
from pta_ray.growing_cache import files_by_task, find_rows
from pta_ray.ledger import Ledger

_ROWS_AT_ONCE = 512  # that are shuffled, and in memory

Places = npt.NDArray[np.int64]


@dataclass(frozen=True)
class LaterEpochs:
    """What is read when the first epoch is over."""

    directory: str
    """Of the cache."""
    num_epochs: int
    """The first one included."""
    seed: int
    num_tasks: int
    """Of an epoch: the first one has the task numbers below it, and those of the next ones follow."""

    def read(self, learned: Ledger) -> Iterator[pa.Table]:
        """The rows but for those that were learned from: in each epoch its tasks, and the rows within them, come in
        another order, which follows from the seed, as do the numbers of tasks and rows.

        The cache and the ledger are looked at when the first table is asked for. The first epoch must be over then.

        Raises:
            StreamError: the cache is empty.
        """
        tables = self._tables(learned)
        with ThreadPoolExecutor(1) as pool:  # reads one table ahead
            following = pool.submit(next, tables, None)
            while (table := following.result()) is not None:
                following = pool.submit(next, tables, None)
                yield table

    def _tables(self, learned: Ledger) -> Iterator[pa.Table]:
        learned = Ledger.from_table(learned.to_table())  # of its own: the trainer goes on writing in the other
        files = files_by_task(Path(self.directory))
        if not files:  # it was taken away
            raise StreamError(f"{self.directory} holds no window of the first epoch any more")
        for epoch in range(1, self.num_epochs):
            for task in np.random.default_rng([self.seed, epoch]).permutation(sorted(files)).tolist():
                yield from self._read_task(files[task], epoch, task, learned)

    def _read_task(self, files: list[Path], epoch: int, task: int, learned: Ledger) -> Iterator[pa.Table]:
        number = epoch * self.num_tasks + task
        if learned.is_done(number):
            return
        rng = np.random.default_rng([self.seed, epoch, task])
        file_N, place_N = find_rows(files)
        for first in range(0, len(file_N), _ROWS_AT_ONCE):
            order_N = first + rng.permutation(min(_ROWS_AT_ONCE, len(file_N) - first))
            rows_N = np.arange(first, first + len(order_N), dtype=np.int32)
            missing_N = learned.missing(number, rows_N)
            order_N, rows_N = order_N[missing_N], rows_N[missing_N]
            if len(rows_N):
                rows = _take(files, file_N[order_N], place_N[order_N])
                yield _renumbered(rows, number, rows_N, rows_N == len(file_N) - 1)


def later_epochs(cache: Cache) -> LaterEpochs | None:
    """What follows on the rows of a finished cache in the job that made it: nothing, if all its epochs are there."""
    data = cache.description.job.data
    if not data.cache or data.epochs == 1:
        return None
    return LaterEpochs(str(cache.directory), data.epochs, data.seed, max(files_by_task(cache.directory)) + 1)


def rebatched(tables: Iterable[pa.Table], num_rows: int) -> Iterator[pa.Table]:
    """The rows of some tables in tables of one size, the last of which may be smaller."""
    rest = None
    for table in tables:
        rest = pa.concat_tables([rest, table]) if rest else table
        while len(rest) >= num_rows:
            yield rest.slice(0, num_rows)
            rest = rest.slice(num_rows)
    if rest:
        yield rest


def _take(files: list[Path], file_N: Places, place_N: Places) -> pa.Table:
    """Rows by their places. Blocks are small: the files of some rows hold hardly any others."""
    used_U, which_N = np.unique(file_N, return_inverse=True)
    tables = [pq.ParquetFile(files[i]).read() for i in used_U]
    starts_U = np.cumsum([0, *(len(table) for table in tables[:-1])])
    return pa.concat_tables(tables).take(pa.array(starts_U[which_N] + place_N))


def _renumbered(
    rows: pa.Table, task: int, rows_N: npt.NDArray[np.int32], ends_task_N: npt.NDArray[np.bool_]
) -> pa.Table:
    """The rows at other places of what is read."""
    for name, values in (("task", np.full_like(rows_N, task)), ("row", rows_N), ("ends_task", ends_task_N)):
        at = rows.schema.get_field_index(name)
        rows = rows.set_column(at, rows.schema.field(at), pa.array(values))
    return rows
