"""From windows of text to an engine's scores: which tokens a model reads, and which of those that it names exist."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from pta_ray.distributions import Scores
from pta_ray.sources.engine import Engine
from pta_ray.tokenizers.byte_tokenizer import ByteTokenizer


def score_texts(
    engine: Engine, tokenizer: ByteTokenizer, texts: Sequence[bytes], ends_document: Sequence[bool], top_k: int
) -> list[Scores]:
    """What a model says about windows of text, as far as its context reaches."""
    decoded = [text.decode() for text in texts]
    encoded = zip(texts, tokenizer.encode(decoded), ends_document, strict=True)
    sequences = [_sequence(tokenizer, engine.max_tokens, *window) for window in encoded]
    return [_without_padded_head(s, tokenizer.table.size) for s in engine.score(sequences, top_k)]


def _sequence(
    tokenizer: ByteTokenizer, max_tokens: int, text: bytes, ids: npt.NDArray[np.int32], ends_document: bool
) -> npt.NDArray[np.int32]:
    """What the engine reads. Where a sequence is cut can be told from its bytes. One whose tokens do not spell the
    text is not begun if it does not fit, and its source says nothing about the window."""
    whole = tokenizer.sequence(ids, ends_document, len(ids) + 2)
    if len(whole) > max_tokens and not tokenizer.exact:
        spelt = tokenizer.table.joined(ids)
        if spelt.removeprefix(b" ") != text.removeprefix(b" "):
            return whole[:1]
    return whole[:max_tokens]


def _without_padded_head(scores: Scores, vocabulary_size: int) -> Scores:
    """Model heads are often wider than the tokenizer's vocabulary; what they predict there is no token."""
    ids_MK = np.where(scores.top_ids_MK < vocabulary_size, scores.top_ids_MK, -1)
    return replace(scores, top_ids_MK=ids_MK)
