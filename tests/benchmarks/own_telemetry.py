"""For the stages of the stream in one process, without Ray."""

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pyarrow as pa

from pta_ray.board import SetAside, Snapshot
from pta_ray.errors import StreamError
from pta_ray.telemetry import Telemetry, Work


class OwnTelemetry(Telemetry):
    """Of one process, where nothing is tried again: it keeps the counts and nothing else."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    @contextmanager
    def attempt(self, stage: str, windows: pa.Table, timeout_seconds: float) -> Iterator[Work]:
        work = Work()
        yield work
        self.counts.update(work.counts)

    def ended(self, stage: str, windows: pa.Table, seconds: float) -> None:
        pass

    @contextmanager
    def timed(self, stage: str) -> Iterator[Work]:
        yield Work()

    def batched_tokens(self, stage: str, most: int) -> int:
        return most

    def set_aside(self, found: SetAside) -> None:
        raise StreamError(str(found))

    def count(self, counts: Mapping[str, float]) -> None:
        self.counts.update(counts)

    def step(self, scalars: dict[str, float]) -> None:
        pass

    def finish(self, outcome: dict[str, Any]) -> None:
        pass

    def snapshot(self) -> Snapshot:
        return Snapshot(counts=self.counts)
