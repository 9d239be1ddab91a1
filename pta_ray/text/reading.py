"""The first stage of the stream: which pieces are read in which order, and windows out of them."""

import hashlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pta_ray.board import SetAside
from pta_ray.columns import WINDOW_SCHEMA
from pta_ray.config import Data, TextSource
from pta_ray.ledger import Ledger
from pta_ray.telemetry import Telemetry
from pta_ray.text.documents import Document, Piece, divide, find_pieces, read
from pta_ray.text.windows import Window

_TASKS_AT_LEAST = 64
_PIECES_PER_TASK = 8
_SMALLEST_TASK, _LARGEST_TASK = 16 << 10, 1 << 20  # bytes
_WINDOWS_PER_BLOCK = 256

_Window = tuple[str, str, bytes, bool, float, bool]
"""The first columns of `WINDOW_SCHEMA`; the others tell its place in the task."""


@dataclass(frozen=True)
class ReadPlan:
    """What is read, by tasks of about equal size. Equal for equal files, settings and seed."""

    tasks: list[list[Piece]]
    """Those of the held-out text first."""
    num_held_out: int
    """Tasks of held-out text."""
    train_bytes: int
    """Of all epochs, those included that read a cache instead of these tasks."""
    seed: int

    @property
    def held_out(self) -> "ReadPlan":
        """The part of the plan that reads held-out text."""
        return replace(self, tasks=self.tasks[: self.num_held_out])

    def left(self, learned: Ledger) -> list[int]:
        """Numbers of the tasks of which there may be windows that a ledger does not hold."""
        # A task without any window never counts as done; but later epochs begin when these tasks are over.
        if (pc.max(learned.to_table().column("task")).as_py() or 0) >= len(self.tasks):
            return []
        # Nothing is learned before all held-out text, which comes first, has been measured.
        first = self.num_held_out if learned.num_windows else 0
        return [task for task in range(first, len(self.tasks)) if not learned.is_done(task)]

    @property
    def fingerprint(self) -> str:
        """Identifies what is read in which order: equal plans have the same windows at the same task and row."""
        digest = hashlib.sha256(repr((self.seed, self.num_held_out)).encode())
        for task in self.tasks:
            places = [(p.source.path, p.source.text_column, p.file, p.start, p.size) for p in task]
            digest.update(repr(places).encode())
        return digest.hexdigest()


def plan_reads(data: Data) -> ReadPlan:
    """Divides the sources into small pieces, shuffles those anew for each epoch and deals them out to tasks, so that
    every task, and so every stretch of training, mixes all sources in proportion to their size. Epochs that read a
    cache have no tasks here.

    Raises:
        JobError: a source cannot be read; names its field.
    """
    rng = np.random.default_rng(data.seed)
    held_out, _ = _deal("data.held_out", data.held_out, 1, rng)
    train, epoch_bytes = _deal("data.train", data.train, 1 if data.cache else data.epochs, rng)
    return ReadPlan(held_out + train, len(held_out), data.epochs * epoch_bytes, data.seed)


def plan_evaluation(sources: list[TextSource]) -> ReadPlan:
    """Divides text that models are compared on as `plan_reads` does.

    Raises:
        JobError: a source cannot be read; names its place among `--data`.
    """
    tasks, num_bytes = _deal("--data", sources, 1, np.random.default_rng(0))
    return ReadPlan(tasks, 0, num_bytes, 0)


def _deal(
    field: str, sources: list[TextSource], epochs: int, rng: np.random.Generator
) -> tuple[list[list[Piece]], int]:
    """Tasks of about equal size, and the bytes of one epoch."""
    found = [piece for i, source in enumerate(sources) for piece in find_pieces(f"{field}.{i}", source)]
    total_bytes = sum(piece.size for piece in found)
    task_bytes = min(max(total_bytes // _TASKS_AT_LEAST, _SMALLEST_TASK), _LARGEST_TASK)
    pieces = [part for piece in found for part in divide(piece, task_bytes // _PIECES_PER_TASK)]
    tasks: list[list[Piece]] = []
    for _ in range(epochs):
        filled = task_bytes
        for i in rng.permutation(len(pieces)):
            if filled >= task_bytes:
                tasks.append([])
                filled = 0
            tasks[-1].append(pieces[i])
            filled += pieces[i].size
    return tasks, total_bytes


class WindowReader:
    """Callable of the reading tasks: task numbers in, windows out, in a random order within a task."""

    def __init__(
        self, plan: ReadPlan, cut: Callable[[str], Iterator[Window]], telemetry: Telemetry, ledger: Ledger
    ) -> None:
        """`cut` makes windows of a document; those that the ledger holds are left out."""
        self._plan = plan
        self._cut = cut
        self._telemetry = telemetry
        self._ledger = ledger

    def __call__(self, batch: pa.Table) -> Iterator[pa.Table]:
        """Reads the tasks whose numbers stand in the column `id`."""
        for task in batch.column("id").to_pylist():
            if not self._ledger.is_done(task):
                yield from self._missing(task)

    def _missing(self, task: int) -> Iterator[pa.Table]:
        """The windows of a task that the ledger does not hold. What is left out is shuffled with the others all the
        same: the order and the row numbers stay."""
        rng = np.random.default_rng([self._plan.seed, task])
        begin, windows = time.perf_counter(), self._windows(task)
        block, first_row = list(islice(windows, _WINDOWS_PER_BLOCK)), 0
        while block:
            following = list(islice(windows, _WINDOWS_PER_BLOCK))
            rows_N = np.arange(first_row, first_row + len(block), dtype=np.int32)
            columns = [list(column) for column in zip(*(block[i] for i in rng.permutation(len(block))), strict=True)]
            ends_task_N = np.arange(1, len(block) + 1) == (0 if following else len(block))
            table = pa.table([*columns, np.full_like(rows_N, task), rows_N, ends_task_N], schema=WINDOW_SCHEMA)
            missing = table.filter(pa.array(self._ledger.missing(task, rows_N)))
            self._telemetry.ended("read", missing, time.perf_counter() - begin)
            yield missing
            begin = time.perf_counter()
            block, first_row = following, first_row + len(block)

    def _windows(self, task: int) -> Iterator[_Window]:
        for piece in self._plan.tasks[task]:
            for document in read(piece):
                yield from self._of_document(piece, document, task)

    def _of_document(self, piece: Piece, document: Document, task: int) -> Iterator[_Window]:
        held_out = task < self._plan.num_held_out
        if document.problem:
            share = 0.0 if held_out else document.size / self._plan.train_bytes
            self._telemetry.set_aside(SetAside(document.document_id, "read", document.problem, share, task))
            return
        # Held-out text has no part in the training, and no training text is planned where a cache is trained from.
        per_byte = 0.0 if held_out else document.size / self._plan.train_bytes / max(len(document.text.encode()), 1)
        domain = piece.source.domain
        for window in self._cut(document.text):
            window_id = f"{domain}/{document.document_id}:{window.start}"
            yield window_id, domain, window.text, window.ends_document, per_byte * len(window.text), held_out
