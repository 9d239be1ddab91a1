"""Bits per byte: a model's cross-entropy on text, in bits, over the bytes of the text."""

import math
from collections.abc import Mapping

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
    if not is_text_M.any():
        return 0.0, 0  # it began none of the text
    ends_L = tokenizer.boundaries(scores.ids_L, text)
    return bits, len(text) if ends_L is None else min(int(ends_L[-1]), len(text))


def bit_counts(model: str, domain: str, scores: Scores, tokenizer: ByteTokenizer, text: bytes) -> dict[str, float]:
    """`bits_and_bytes` as counters that can be added up by telemetry."""
    bits, num_bytes = bits_and_bytes(scores, tokenizer, text)
    return {f"bits/{model}/{domain}": bits, f"bytes/{model}/{domain}": num_bytes}


def from_counts(counts: Mapping[str, float]) -> BitsPerByte:
    """Bits per byte of every model and domain that has been counted."""
    result: BitsPerByte = {}
    for key, bits in sorted(counts.items()):
        kind, _, place = key.partition("/")
        if kind == "bits":
            model, domain = place.rsplit("/", 1)
            result.setdefault(model, {})[domain] = bits / max(counts[f"bytes/{place}"], 1)
    return result
