"""The scoring stage: a batch of windows in, the same batch with what one model says about it out."""

import ctypes
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pta_ray.checkpoint import local_checkpoint, max_positions
from pta_ray.columns import scores_column
from pta_ray.config import ServedModel
from pta_ray.distributions import Scores
from pta_ray.sources.engine import load_engine
from pta_ray.telemetry import Telemetry
from pta_ray.tokenizers.byte_tokenizer import ByteTokenizer


@dataclass(frozen=True)
class ScoringTask:
    """Which model scores, and what is kept of what it says."""

    settings: ServedModel
    tokenizer: ByteTokenizer
    column: str
    """The struct column it adds."""
    top_k: int
    max_tokens: int
    """The longest sequence; the model's own limit may be lower, then the rest of a window stays unscored."""
    stage: str
    """What telemetry calls it."""


class Scorer:
    """Callable of the scoring actors; holds one engine."""

    def __init__(self, task: ScoringTask, telemetry: Telemetry) -> None:
        checkpoint = local_checkpoint(task.settings.model)
        max_tokens = min(task.max_tokens, max_positions(checkpoint, task.settings.trust_remote_code) - 1)
        self._engine = load_engine(task.settings, checkpoint, max_tokens, task.top_k)
        self._task = task
        self._telemetry = telemetry

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Adds the score column to a batch of windows."""
        tokenizer = self._task.tokenizer
        with self._telemetry.timed(self._task.stage) as work:
            texts = [text.decode() for text in batch.column("text").to_pylist()]
            ends = batch.column("ends_document").to_pylist()
            encoded = zip(texts, tokenizer.encode(texts), ends, strict=True)
            sequences = [self._sequence(text, ids, end) for text, ids, end in encoded]
            scores = self._engine.score(sequences, self._task.top_k)
            work.done(rows=len(texts), tokens=sum(map(len, sequences)))
            _return_memory()
        masked = [_without_padded_head(s, tokenizer.table.size) for s in scores]
        return batch.append_column(self._task.column, scores_column(masked))

    def _sequence(self, text: str, ids: npt.NDArray[np.int32], ends_document: bool) -> npt.NDArray[np.int32]:
        """What the engine reads. Where a sequence is cut can be told from its bytes. One whose tokens do not spell the
        text is not begun if it does not fit, and its source says nothing about the window."""
        tokenizer, max_tokens = self._task.tokenizer, self._engine.max_tokens
        whole = tokenizer.sequence(ids, ends_document, len(ids) + 2)
        if len(whole) > max_tokens and not tokenizer.exact:
            spelt = tokenizer.table.joined(ids)
            if spelt.removeprefix(b" ") != text.encode().removeprefix(b" "):
                return whole[:1]
        return whole[:max_tokens]


def _return_memory() -> None:
    """Gives what the engine has freed back to the system; the C library keeps it, and fragments it, otherwise."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's
    if trim is not None:
        trim(0)


def _without_padded_head(scores: Scores, vocabulary_size: int) -> Scores:
    """Model heads are often wider than the tokenizer's vocabulary; what they predict there is no token."""
    ids_MK = np.where(scores.top_ids_MK < vocabulary_size, scores.top_ids_MK, -1)
    return replace(scores, top_ids_MK=ids_MK)
