"""The windows that were learned from, so that a run that goes on learns from none of them twice.

A window is known by the number of its reading task and by its row there. Rows are learned from almost in their order:
a few ranges describe the tasks under way, and of a task that is done no more is kept than how many rows it has.

Shapes: N windows, R ranges of rows, T tasks of the reading plan.
"""

import numpy as np
import numpy.typing as npt
import pyarrow as pa

LEDGER_SCHEMA = pa.schema(
    [
        ("task", pa.int32()),
        ("start", pa.int32()),  # a range of rows that were learned from, `stop` not among them
        ("stop", pa.int32()),
        ("num_rows", pa.int32()),  # of the whole task; null where its last row is still to come
    ]
)
_ROW_BITS = 32  # a window's key is its task and then its row: tasks follow each other, and never without a gap
_UNKNOWN = -1

Ints = npt.NDArray[np.integer]


class Ledger:
    """A set of windows (task, row). Takes five bytes for each task and 16 for each range of a task under way."""

    def __init__(self) -> None:
        self.num_windows = 0
        self._starts_R = np.empty(0, np.int64)  # keys: sorted ranges with gaps between them, of the tasks under way
        self._stops_R = np.empty(0, np.int64)
        self._num_rows_T = np.empty(0, np.int32)
        self._done_T = np.empty(0, np.bool_)

    def add(self, tasks_N: Ints, rows_N: Ints, ends_task_N: npt.NDArray[np.bool_]) -> None:
        """Adds windows, in any order.

        Args:
            ends_task_N: the window is the last one of its task, which tells how many there are.

        Raises:
            ValueError: a window is there already; then none is added.
        """
        self._reach(tasks_N)
        keys_N = _keys(tasks_N, rows_N)
        starts_R, stops_R = np.append(self._starts_R, keys_N), np.append(self._stops_R, keys_N + 1)
        order_R = np.argsort(starts_R)
        starts_R, stops_R = starts_R[order_R], stops_R[order_R]
        again_N = np.append(keys_N[self._done_T[tasks_N]], starts_R[1:][starts_R[1:] < stops_R[:-1]])
        if len(again_N):
            task, row = divmod(int(again_N[0]), 1 << _ROW_BITS)
            raise ValueError(f"row {row} of task {task} has been learned from before")
        self._num_rows_T[tasks_N[ends_task_N]] = rows_N[ends_task_N] + 1
        self._keep(starts_R, stops_R)
        self.num_windows += len(keys_N)

    def is_done(self, task: int) -> bool:
        """Whether all rows of a task were learned from."""
        return task < len(self._done_T) and bool(self._done_T[task])

    def missing(self, task: int, rows_N: Ints) -> npt.NDArray[np.bool_]:
        """Which of some rows of a task were not learned from."""
        if self.is_done(task):
            return np.zeros(len(rows_N), np.bool_)
        keys_N = _keys(np.full(len(rows_N), task), rows_N)
        begun_N = np.searchsorted(self._starts_R, keys_N, side="right")
        ended_N = np.searchsorted(self._stops_R, keys_N, side="right")
        missing_N: npt.NDArray[np.bool_] = begun_N == ended_N
        return missing_N

    def to_table(self) -> pa.Table:
        """All ranges, sorted, as `LEDGER_SCHEMA` has them."""
        done_T = np.flatnonzero(self._done_T)
        tasks_R, first_rows_R = np.divmod(self._starts_R, 1 << _ROW_BITS)
        task = np.append(done_T, tasks_R)
        start = np.append(np.zeros_like(done_T), first_rows_R)
        stop = np.append(self._num_rows_T[done_T], first_rows_R + self._stops_R - self._starts_R)
        num_rows = pa.array(self._num_rows_T[task], mask=self._num_rows_T[task] == _UNKNOWN)
        table = pa.table(
            [task.astype(np.int32), start.astype(np.int32), stop.astype(np.int32), num_rows], LEDGER_SCHEMA
        )
        return table.sort_by([("task", "ascending"), ("start", "ascending")])

    @classmethod
    def from_table(cls, table: pa.Table) -> "Ledger":
        """The inverse of `to_table`."""
        ledger = cls()
        tasks_R, starts_R, stops_R = (table.column(name).to_numpy() for name in ("task", "start", "stop"))
        ledger._reach(tasks_R)
        ledger._num_rows_T[tasks_R] = table.column("num_rows").fill_null(_UNKNOWN).to_numpy()
        ledger._keep(_keys(tasks_R, starts_R), _keys(tasks_R, stops_R))
        ledger.num_windows = int((stops_R - starts_R).sum(dtype=np.int64))
        return ledger

    def _reach(self, tasks: Ints) -> None:
        """Makes room for what is known of tasks, which a reading plan numbers from 0."""
        num_new = int(tasks.max(initial=-1)) + 1 - len(self._done_T)
        if num_new > 0:
            self._num_rows_T = np.append(self._num_rows_T, np.full(num_new, _UNKNOWN, np.int32))
            self._done_T = np.append(self._done_T, np.zeros(num_new, np.bool_))

    def _keep(self, starts_R: npt.NDArray[np.int64], stops_R: npt.NDArray[np.int64]) -> None:
        """Joins sorted ranges that touch, and puts away those that are a whole task."""
        gap_R = starts_R[1:] > stops_R[:-1]
        starts_R, stops_R = np.append(starts_R[:1], starts_R[1:][gap_R]), np.append(stops_R[:-1][gap_R], stops_R[-1:])
        tasks_R = starts_R >> _ROW_BITS
        whole_R = stops_R - starts_R == self._num_rows_T[tasks_R]
        self._done_T[tasks_R[whole_R]] = True
        self._starts_R, self._stops_R = starts_R[~whole_R], stops_R[~whole_R]


def without_learned(ledger: Ledger, rows: pa.Table) -> pa.Table:
    """The rows of a table that a ledger does not hold, by their columns `task` and `row`."""
    tasks_N, rows_N = rows.column("task").to_numpy(), rows.column("row").to_numpy()
    missing_N = np.ones(len(tasks_N), np.bool_)
    for task in np.unique(tasks_N):
        missing_N[tasks_N == task] = ledger.missing(int(task), rows_N[tasks_N == task])
    return rows.filter(pa.array(missing_N))


def _keys(tasks: Ints, rows: Ints) -> npt.NDArray[np.int64]:
    return (tasks.astype(np.int64) << _ROW_BITS) + rows
