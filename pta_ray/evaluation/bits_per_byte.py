"""Bits per byte: a model's cross-entropy on text, in bits, over the bytes of the text."""

import math
from collections import defaultdict
from collections.abc import Iterable

import pyarrow as pa

from pta_ray.columns import read_scores, scores_name, struct_column
from pta_ray.distributions import Scores
from pta_ray.tokenizers.byte_table import Role
from pta_ray.tokenizers.byte_tokenizer import ByteTokenizer

BitsPerByte = dict[str, dict[str, float]]
"""By model, then by domain."""


def bits_and_bytes(scores: Scores, tokenizer: ByteTokenizer, text: bytes) -> tuple[float, int]:
    """The cross-entropy in bits of what a model read of a window, and how many bytes that was.

    EOS is left out: it stands for no byte, and not every tokenizer has one. A model whose context is shorter than the
    window is measured on what fits.
    """
    is_text_M = tokenizer.table.roles_V[scores.next_ids_M] != Role.EOS
    bits = -float(scores.next_log_probs_M[is_text_M].sum(dtype="float64")) / math.log(2)
    ends_L = tokenizer.boundaries(scores.ids_L, text)
    return bits, len(text) if ends_L is None else min(int(ends_L[-1]), len(text))


class BitCounter:
    """Callable of the last evaluation stage: scores in, one pair of sums per window and model out."""

    def __init__(self, tokenizers: list[ByteTokenizer]) -> None:
        """`tokenizers` in the order of the score columns."""
        self._tokenizers = tokenizers

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Adds `bits_<i>` and `bytes_<i>` per model and drops the scores."""
        counted = batch.select(["domain"])
        texts = batch.column("text").to_pylist()
        for i, tokenizer in enumerate(self._tokenizers):
            scores = read_scores(struct_column(batch, scores_name(i)))
            pairs = [bits_and_bytes(s, tokenizer, text) for s, text in zip(scores, texts, strict=True)]
            counted = counted.append_column(f"bits_{i}", pa.array([bits for bits, _ in pairs], pa.float64()))
            counted = counted.append_column(f"bytes_{i}", pa.array([num for _, num in pairs], pa.int64()))
        return counted


def summarise(names: list[str], rows: Iterable[pa.Table]) -> BitsPerByte:
    """Sums what `BitCounter` counted; `names` are those of the models, in the order of the columns."""
    bits: dict[tuple[str, str], float] = defaultdict(float)
    sizes: dict[tuple[str, str], int] = defaultdict(int)
    for table in rows:
        for row in table.to_pylist():
            for i, name in enumerate(names):
                bits[name, row["domain"]] += row[f"bits_{i}"]
                sizes[name, row["domain"]] += row[f"bytes_{i}"]
    domains = sorted({domain for _, domain in bits})
    return {name: {d: bits[name, d] / max(sizes[name, d], 1) for d in domains} for name in names}
