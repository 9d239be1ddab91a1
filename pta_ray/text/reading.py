"""The first stage of the stream: which pieces are read in which order, and windows out of them."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from pta_ray.columns import WINDOW_SCHEMA
from pta_ray.config import Data, TextSource
from pta_ray.telemetry import Telemetry
from pta_ray.text.documents import Document, Piece, divide, find_pieces, read
from pta_ray.text.windows import cut
from pta_ray.tokenizers.byte_tokenizer import ByteTokenizer

_TASKS_AT_LEAST = 64
_PIECES_PER_TASK = 8
_SMALLEST_TASK, _LARGEST_TASK = 16 << 10, 1 << 20  # bytes
_WINDOWS_PER_BLOCK = 256

_Row = tuple[str, str, bytes, bool, float, bool]
"""In the order of `WINDOW_SCHEMA`."""


@dataclass(frozen=True)
class ReadPlan:
    """What is read, by tasks of about equal size. Equal for equal files, settings and seed."""

    tasks: list[list[Piece]]
    """Those of the held-out text first."""
    num_held_out: int
    """Tasks of held-out text."""
    train_bytes: int
    """Of all epochs."""
    seed: int

    @property
    def held_out(self) -> "ReadPlan":
        """The part of the plan that reads held-out text."""
        return replace(self, tasks=self.tasks[: self.num_held_out])


def plan_reads(data: Data) -> ReadPlan:
    """Divides the sources into small pieces, shuffles those anew for each epoch and deals them out to tasks, so that
    every task, and so every stretch of training, mixes all sources in proportion to their size.

    Raises:
        JobError: a source cannot be read; names its field.
    """
    rng = np.random.default_rng(data.seed)
    held_out, _ = _deal("data.held_out", data.held_out, 1, rng)
    train, train_bytes = _deal("data.train", data.train, data.epochs, rng)
    return ReadPlan(held_out + train, len(held_out), train_bytes, data.seed)


def _deal(
    field: str, sources: list[TextSource], epochs: int, rng: np.random.Generator
) -> tuple[list[list[Piece]], int]:
    """Tasks of about equal size, and the bytes of all of them."""
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
    return tasks, epochs * total_bytes


class WindowReader:
    """Callable of the reading tasks: task numbers in, windows out, in a random order within a task."""

    def __init__(self, plan: ReadPlan, tokenizer: ByteTokenizer, max_tokens: int, telemetry: Telemetry) -> None:
        self._plan = plan
        self._tokenizer = tokenizer
        self._max_tokens = max_tokens
        self._telemetry = telemetry

    def __call__(self, batch: pa.Table) -> Iterator[pa.Table]:
        """Reads the tasks whose numbers stand in the column `id`."""
        for number in batch.column("id").to_pylist():
            rng = np.random.default_rng([self._plan.seed, number])
            rows: list[_Row] = []
            for piece in self._plan.tasks[number]:
                for document in read(piece):
                    rows.extend(self._rows(piece, document, number < self._plan.num_held_out))
                    while len(rows) >= _WINDOWS_PER_BLOCK:
                        yield _table(rows[:_WINDOWS_PER_BLOCK], rng)
                        rows = rows[_WINDOWS_PER_BLOCK:]
            yield _table(rows, rng)

    def _rows(self, piece: Piece, document: Document, held_out: bool) -> Iterator[_Row]:
        if document.problem:
            self._telemetry.set_aside(document.document_id, document.problem)
            return
        # Held-out text has no part in the training, and no training text is planned where a cache is trained from.
        per_byte = 0.0 if held_out else document.size / self._plan.train_bytes / max(len(document.text.encode()), 1)
        domain = piece.source.domain
        for window in cut(document.text, self._tokenizer, self._max_tokens):
            window_id = f"{domain}/{document.document_id}:{window.start}"
            yield window_id, domain, window.text, window.ends_document, per_byte * len(window.text), held_out


def _table(rows: list[_Row], rng: np.random.Generator) -> pa.Table:
    shuffled = [rows[i] for i in rng.permutation(len(rows))]
    columns = zip(*shuffled, strict=True) if shuffled else [[] for _ in WINDOW_SCHEMA]
    return pa.table([list(column) for column in columns], schema=WINDOW_SCHEMA)
