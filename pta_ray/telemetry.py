"""The handle to a run's board, which travels to every actor."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import psutil
import pyarrow as pa
import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from pta_ray.board import Batch, Board, Operator, Process, SetAside, Snapshot
from pta_ray.errors import StreamError
from pta_ray.metrics import Metrics


class Work:
    """Filled in by the code that is being watched."""

    def __init__(self, times_failed: int = 0) -> None:
        self.times_failed = times_failed
        """How often the same batch was cut short, by an error or the end of a process."""
        self.rows, self.tokens = 0, 0
        self.counts: Mapping[str, float] = {}
        self.is_left = False

    def leave(self) -> None:
        """Says that nothing was done."""
        self.is_left = True

    def done(self, tokens: int, rows: int = 0, counts: Mapping[str, float] | None = None) -> None:
        """Says what was done; `counts` may be filled until the block ends."""
        self.rows, self.tokens, self.counts = rows, tokens, {} if counts is None else counts


class Telemetry:
    """Reports wait until they have arrived: some are results."""

    def __init__(self, board: Any) -> None:
        self._board = board

    @classmethod
    def start(cls, max_failed_share: float, run: str = "", operators: Sequence[Operator] = ()) -> "Telemetry":
        """Starts the board beside the driver, which it shall not outlive; it takes no CPU from the job.

        Args:
            run: what Prometheus calls it.
            operators: of the stream, in its order.
        """
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        board = ray.remote(num_cpus=0, scheduling_strategy=here)(PublishedBoard)
        return cls(board.remote(max_failed_share, run, operators))

    @contextmanager
    def attempt(self, stage: str, windows: pa.Table, timeout_seconds: float) -> Iterator[Work]:
        """Watches over a block of a stage's work on some windows, at least one; a process that takes longer hangs."""
        batch, process = _batch(stage, windows), this_process()
        work = Work(ray.get(self._board.begin.remote(batch, process, timeout_seconds)))
        begin = time.perf_counter()
        try:
            yield work
        except Exception:
            ray.get(self._board.fail.remote(batch))
            raise
        if work.is_left:
            ray.get(self._board.leave.remote(batch))
            return
        seconds = time.perf_counter() - begin
        ray.get(self._board.end.remote(batch, process, work.tokens, seconds, work.counts))

    def ended(self, stage: str, windows: pa.Table, seconds: float) -> None:
        """Reports a stage's work on windows that nobody had to watch over. What was reported before, by a task that is
        tried again, does not count again."""
        if windows.num_rows:
            ray.get(self._board.end.remote(_batch(stage, windows), this_process(), 0, seconds, {}))

    @contextmanager
    def timed(self, stage: str) -> Iterator[Work]:
        """Times a block of a stage's work that is not tried again."""
        begin, work = time.perf_counter(), Work()
        yield work
        if work.rows:
            seconds = time.perf_counter() - begin
            ray.get(self._board.work.remote(stage, this_process(), work.rows, work.tokens, seconds))

    def overdue(self) -> list[Process]:
        """Processes that have been at a batch for too long. Each is named once."""
        processes: list[Process] = ray.get(self._board.overdue.remote())
        return processes

    def batched_tokens(self, stage: str, most: int) -> int:
        """How many tokens a stage's engines may take at once without running out of memory."""
        tokens: int = ray.get(self._board.batched_tokens.remote(stage, most))
        return tokens

    def ran_out_of_memory(self, stage: str, batched_tokens: int) -> bool:
        """Reports that an engine could not take so many tokens at once. Returns whether half of them can be tried."""
        can_try: bool = ray.get(self._board.ran_out_of_memory.remote(stage, batched_tokens))
        return can_try

    def step(self, scalars: dict[str, float]) -> None:
        """Reports an optimizer step: `step`, `loss`, `progress` and whatever else is worth showing."""
        ray.get(self._board.step.remote(scalars))

    def set_aside(self, found: SetAside) -> None:
        """Reports something that the run goes on without.

        Raises:
            StreamError: it cannot, so much has failed by now.
        """
        if problem := ray.get(self._board.set_aside.remote(found)):
            raise StreamError(problem)

    def count(self, counts: Mapping[str, float]) -> None:
        """Adds to counters."""
        ray.get(self._board.count.remote(counts))

    def start_over(self, counts: Mapping[str, float], set_aside: Sequence[Sequence[Any]]) -> None:
        """Goes back to what was known when a checkpoint was made: what was reported since is done again."""
        ray.get(self._board.start_over.remote(counts, set_aside))

    def finish(self, outcome: dict[str, Any]) -> None:
        """Reports what the training came to."""
        ray.get(self._board.finish.remote(outcome))

    def stop(self, error: Exception) -> None:
        """Reports an error that trying again would not mend."""
        ray.get(self._board.stop.remote(error))

    def snapshot(self) -> Snapshot:
        """What has been reported so far."""
        snapshot: Snapshot = ray.get(self._board.snapshot.remote())
        return snapshot


class PublishedBoard(Board):
    """The board in its actor: whenever somebody looks at it, which the display does every few seconds, Prometheus gets
    to know what it holds."""

    def __init__(self, max_failed_share: float, run: str, operators: Sequence[Operator]) -> None:
        super().__init__(max_failed_share, operators=operators)
        self._metrics = Metrics(run)

    def snapshot(self) -> Snapshot:
        """What is known now."""
        found = super().snapshot()
        self._metrics.publish(found)
        return found


def _batch(stage: str, windows: pa.Table) -> Batch:
    tasks_N, rows_N, ends_task_N = (windows.column(name).to_numpy() for name in ("task", "row", "ends_task"))
    return Batch(stage, tasks_N, rows_N, ends_task_N, int(windows.column("held_out").to_numpy().sum()))


def this_process() -> Process:
    """The process that calls it."""
    own = psutil.Process()
    return Process(ray.get_runtime_context().get_node_id(), own.pid, own.create_time())
