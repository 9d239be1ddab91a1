"""Who did how much: every stage reports to one actor, the display reads from it."""

import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import ray


@dataclass
class StageCounts:
    """What one stage has done so far, over all its actors."""

    rows: int = 0
    tokens: int = 0
    busy_seconds: float = 0.0
    first: float = 0.0
    last: float = 0.0

    @property
    def tokens_per_second(self) -> float:
        """Over the time from the stage's first batch to its latest."""
        return self.tokens / max(self.last - self.first, 1e-9) if self.tokens else 0.0


@dataclass
class Snapshot:
    """Everything known about a run at one moment."""

    stages: dict[str, StageCounts] = field(default_factory=dict)
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
    set_aside: list[str] = field(default_factory=list)
    """Documents and windows that could not be processed, with the reason."""


class _Board:
    """The actor's state."""

    def __init__(self) -> None:
        self._snapshot = Snapshot()

    def add(self, stage: str, rows: int, tokens: int, seconds: float, counts: Mapping[str, float]) -> None:
        now = time.time()
        entry = self._snapshot.stages.setdefault(stage, StageCounts(first=now - seconds))
        entry.rows += rows
        entry.tokens += tokens
        entry.busy_seconds += seconds
        entry.last = now
        self.count(counts)

    def count(self, counts: Mapping[str, float]) -> None:
        self._snapshot.counts.update(counts)

    def start_over(self, counts: Mapping[str, float], set_aside: list[str]) -> None:
        self._snapshot.counts, self._snapshot.set_aside = Counter(counts), set_aside

    def step(self, scalars: dict[str, float]) -> None:
        self._snapshot.training = scalars
        if self._snapshot.training_began is None:
            self._snapshot.training_began = time.time(), scalars["progress"]

    def end(self, outcome: dict[str, Any]) -> None:
        self._snapshot.outcome = outcome

    def fail(self, error: Exception) -> None:
        self._snapshot.failure = error

    def set_aside(self, what: str) -> None:
        self._snapshot.set_aside.append(what)

    def snapshot(self) -> Snapshot:
        return self._snapshot


class _Work:
    """Filled in by the code that is being timed."""

    def __init__(self) -> None:
        self.rows, self.tokens = 0, 0
        self.counts: Mapping[str, float] = {}

    def done(self, rows: int, tokens: int, counts: Mapping[str, float] | None = None) -> None:
        """Says what is being done; `counts` may be filled until the block ends. Without rows nothing is reported."""
        self.rows, self.tokens, self.counts = rows, tokens, {} if counts is None else counts


class Telemetry:
    """A handle to the board that travels to every actor. Reports wait until they have arrived: some are results."""

    def __init__(self, board: Any) -> None:
        self._board = board

    @classmethod
    def start(cls) -> "Telemetry":
        """Starts the board; it takes no CPU from the job."""
        return cls(ray.remote(num_cpus=0)(_Board).remote())

    @contextmanager
    def timed(self, stage: str) -> Iterator[_Work]:
        """Times a block of a stage's work."""
        begin, work = time.perf_counter(), _Work()
        yield work
        if work.rows:
            ray.get(self._board.add.remote(stage, work.rows, work.tokens, time.perf_counter() - begin, work.counts))

    def step(self, scalars: dict[str, float]) -> None:
        """Reports an optimizer step: `step`, `loss`, `progress` and whatever else is worth showing."""
        ray.get(self._board.step.remote(scalars))

    def set_aside(self, what: str, reason: str) -> None:
        """Reports something that the run goes on without."""
        ray.get(self._board.set_aside.remote(f"{what}: {reason}"))

    def count(self, counts: Mapping[str, float]) -> None:
        """Adds to counters."""
        ray.get(self._board.count.remote(counts))

    def start_over(self, counts: Mapping[str, float], set_aside: list[str]) -> None:
        """Goes back to what was known when a checkpoint was made: what was reported since is done again."""
        ray.get(self._board.start_over.remote(counts, set_aside))

    def end(self, outcome: dict[str, Any]) -> None:
        """Reports what the training came to."""
        ray.get(self._board.end.remote(outcome))

    def fail(self, error: Exception) -> None:
        """Reports an error that trying again would not mend."""
        ray.get(self._board.fail.remote(error))

    def snapshot(self) -> Snapshot:
        """What has been reported so far."""
        snapshot: Snapshot = ray.get(self._board.snapshot.remote())
        return snapshot
