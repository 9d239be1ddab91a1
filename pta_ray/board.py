"""What is known of a run at any moment: who did how much, who is at what, and what went wrong.

One actor holds it (see `telemetry.py`); nothing here knows of Ray.
"""

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from pta_ray.ledger import Ints, Ledger

_FIRST_REASONS = 3
_FEWEST_BATCHED_TOKENS = 64
_RECENT_SECONDS = 60.0


class Process(NamedTuple):
    """One process of the cluster."""

    node: str
    """Ray's id of its host."""
    pid: int
    born: float
    """In seconds since the epoch: process ids are used again."""


class SetAside(NamedTuple):
    """A window or a document that the run went on without."""

    what: str
    """Its id."""
    stage: str
    reason: str
    share: float
    """Of the training text."""
    task: int = 0
    """That it was read in: each epoch has its own."""

    def __str__(self) -> str:
        return f"{self.what}: {self.stage}: {self.reason}"


class Operator(NamedTuple):
    """A step of the stream: actors that do the work of one stage, or of several in turn."""

    name: str
    stages: tuple[str, ...]
    """In the order in which a window passes them."""
    remedy: str
    """What would make it faster."""


class Batch(NamedTuple):
    """Windows that a stage works on together. A batch is known by its first window and their number."""

    stage: str
    tasks_N: Ints
    rows_N: Ints
    ends_task_N: npt.NDArray[np.bool_]
    num_held_out: int = 0
    """Windows among them that are measured, and not learned from."""

    @property
    def key(self) -> tuple[str, int, int, int]:
        """Tells it from all others, and is the same when it is tried again."""
        return self.stage, int(self.tasks_N[0]), int(self.rows_N[0]), len(self.rows_N)


@dataclass
class StageCounts:
    """What one stage has done so far, over all its actors."""

    rows: int = 0
    tokens: int = 0
    busy_seconds: float = 0.0
    failures: int = 0
    """Batches that an error or the end of a process has cut short."""
    first: float = 0.0
    last: float = 0.0
    longest: float = 0.0
    """Seconds that one batch took."""
    passed: int = 0
    """Windows that it has done since the stream was started, or started again."""
    held_out: int = 0
    """Windows among these that are measured, and not learned from."""
    set_aside: int = 0
    """Windows that have ended here since then."""
    present: dict[Process, tuple[float, float]] = field(default_factory=dict)
    """When each of its processes began its first batch and ended its latest."""

    @property
    def tokens_per_second(self) -> float:
        """Over the time from the stage's first batch to its latest."""
        return self.tokens / max(self.last - self.first, 1e-9) if self.tokens else 0.0

    @property
    def busy_share(self) -> float:
        """Of the time that its processes were there, 0 to 1."""
        there = sum(last - first for first, last in self.present.values())
        return min(self.busy_seconds / there, 1.0) if there else 0.0

    @property
    def num_recent(self) -> int:
        """Processes that were still at work when the latest batch ended, as far as can be told from the batches."""
        since = self.last - max(_RECENT_SECONDS, 2 * self.longest)
        return sum(last >= since for _, last in self.present.values())

    def add(self, process: Process, now: float, rows: int, tokens: int, seconds: float) -> None:
        """Enters a batch that has just ended."""
        self.rows += rows
        self.passed += rows
        self.longest = max(self.longest, seconds)
        self.tokens += tokens
        self.busy_seconds += seconds
        self.first, self.last = self.first or now - seconds, now
        self.present[process] = self.present.get(process, (now - seconds, now))[0], now


@dataclass
class Snapshot:
    """Everything known about a run at one moment."""

    stages: defaultdict[str, StageCounts] = field(default_factory=lambda: defaultdict(StageCounts))
    counts: Counter[str] = field(default_factory=Counter)
    """Counters by name, such as windows won per domain and model."""
    training: dict[str, float] = field(default_factory=dict)
    """The trainer's latest scalars: loss, progress, step."""
    training_began: tuple[float, float] | None = None
    """When the first of these came, and the progress that it told of: that of a checkpoint, if the run goes on."""
    outcome: dict[str, Any] = field(default_factory=dict)
    """What the training came to, when it has ended."""
    failure: Exception | None = None
    """Why it cannot go on, if that is known and trying again would not help."""
    set_aside: list[SetAside] = field(default_factory=list)
    operators: Sequence[Operator] = ()
    """Of the stream, in its order."""


class Board:
    """Keeps a snapshot up to date. Reports may come twice, from actors that died before their work had arrived."""

    def __init__(
        self,
        max_failed_share: float = 1.0,
        clock: Callable[[], float] = time.time,
        operators: Sequence[Operator] = (),
    ) -> None:
        """`max_failed_share` of the training text may be set aside."""
        self._snapshot = Snapshot(operators=operators)
        self._max_failed_share = max_failed_share
        self._clock = clock
        self._under_way: dict[tuple[str, int, int, int], tuple[Process, float]] = {}
        self._times_failed: Counter[tuple[str, int, int, int]] = Counter()
        self._ended: defaultdict[str, Ledger] = defaultdict(Ledger)
        self._batched_tokens: dict[str, int] = {}

    def begin(self, batch: Batch, process: Process, timeout_seconds: float) -> int:
        """A process starts on a batch. Returns how often that has failed: with an error, or because a process died."""
        if batch.key in self._under_way:
            self.fail(batch)
        self._under_way[batch.key] = process, self._clock() + timeout_seconds
        return self._times_failed[batch.key]

    def leave(self, batch: Batch) -> None:
        """Nobody works on a batch any more. What is known of its failures stays, for when it comes again."""
        self._under_way.pop(batch.key, None)

    def fail(self, batch: Batch) -> None:
        """An error, or the end of a process, has cut a batch short."""
        self._under_way.pop(batch.key, None)
        self._times_failed[batch.key] += 1
        self._snapshot.stages[batch.stage].failures += 1

    def end(self, batch: Batch, process: Process, tokens: int, seconds: float, counts: Mapping[str, float]) -> None:
        """A batch is done; if it was done before, it does not count again."""
        self.leave(batch)
        self._times_failed.pop(batch.key, None)
        if self._enter(batch):
            stage = self._snapshot.stages[batch.stage]
            stage.add(process, self._clock(), len(batch.rows_N), tokens, seconds)
            stage.held_out += batch.num_held_out
            self.count(counts)

    def work(self, stage: str, process: Process, rows: int, tokens: int, seconds: float) -> None:
        """Some work of a stage that nobody watches over is done."""
        self._snapshot.stages[stage].add(process, self._clock(), rows, tokens, seconds)

    def _enter(self, batch: Batch) -> bool:
        """Enters the windows of a batch as done by its stage; returns whether they are new."""
        ended = self._ended[batch.stage]
        new = all(ended.missing(int(t), batch.rows_N[batch.tasks_N == t]).all() for t in np.unique(batch.tasks_N))
        if new:
            ended.add(batch.tasks_N, batch.rows_N, batch.ends_task_N)
        return new

    def overdue(self) -> list[Process]:
        """Processes that have been at a batch for too long. Each is named once."""
        now = self._clock()
        late = {key: process for key, (process, deadline) in self._under_way.items() if now > deadline}
        for key, process in late.items():
            self._under_way[key] = process, float("inf")
        return list(set(late.values()))

    def batched_tokens(self, stage: str, most: int) -> int:
        """How many tokens a stage's engines take at once, since none of them may run out of memory."""
        return min(most, self._batched_tokens.get(stage, most))

    def ran_out_of_memory(self, stage: str, batched_tokens: int) -> bool:
        """An engine could not take so many tokens at once; from now on they take half. Returns whether they can."""
        self._snapshot.stages[stage].failures += 1
        self._batched_tokens[stage] = min(batched_tokens // 2, self._batched_tokens.get(stage, batched_tokens))
        return self._batched_tokens[stage] >= _FEWEST_BATCHED_TOKENS

    def count(self, counts: Mapping[str, float]) -> None:
        """Adds to counters."""
        self._snapshot.counts.update(counts)

    def set_aside(self, found: SetAside) -> str:
        """Enters something that the run goes on without. Returns why the run cannot go on, if it is too much."""
        known = self._snapshot.set_aside
        if all((found.what, found.stage, found.task) != (one.what, one.stage, one.task) for one in known):
            known.append(found)
            self._snapshot.stages[found.stage].set_aside += 1
        failed = sum(one.share for one in known)
        if failed <= self._max_failed_share:
            return ""
        first = "; ".join(map(str, known[:_FIRST_REASONS]))
        return f"{failed:.1%} of the training text failed, more than data.max_failed_share; the first: {first}"

    def start_over(self, counts: Mapping[str, float], set_aside: Sequence[Sequence[Any]]) -> None:
        """Goes back to what was known when a checkpoint was made: what was reported since is done again."""
        self._snapshot.counts = Counter(counts)
        self._snapshot.set_aside = [SetAside(*found) for found in set_aside]
        for stage in self._snapshot.stages.values():
            stage.passed = stage.held_out = stage.set_aside = 0
        self._under_way.clear()
        self._times_failed.clear()
        self._ended.clear()

    def step(self, scalars: dict[str, float]) -> None:
        """An optimizer step is done."""
        self._snapshot.training = scalars
        if self._snapshot.training_began is None:
            self._snapshot.training_began = self._clock(), scalars["progress"]

    def finish(self, outcome: dict[str, Any]) -> None:
        """The training has ended."""
        self._snapshot.outcome = outcome

    def stop(self, error: Exception) -> None:
        """The run cannot go on."""
        self._snapshot.failure = error

    def snapshot(self) -> Snapshot:
        """What is known now."""
        return self._snapshot
