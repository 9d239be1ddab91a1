import math

import numpy as np
import pytest

from pta_ray.distributions import Scores
from pta_ray.evaluation.bits_per_byte import bit_counts, bits_and_bytes, from_counts
from pta_ray.tokenizers.byte_tokenizer import ByteTokenizer


def uniform_scores(tokenizer: ByteTokenizer, text: str, max_tokens: int) -> Scores:
    """A model that gives every actual token a probability of one quarter."""
    [ids] = tokenizer.encode([text])
    sequence = tokenizer.sequence(ids, True, max_tokens)
    none = np.empty((len(sequence) - 1, 0), np.int32)
    return Scores(sequence, np.full(len(sequence) - 1, math.log(0.25), np.float32), none, none.astype(np.float32))


@pytest.mark.parametrize("kind", ["byte_level", "sentencepiece"])
def test_two_bits_a_token_without_eos_over_the_bytes(tokenizers: dict[str, ByteTokenizer], kind: str) -> None:
    text = "Größe: 12 words"
    scores = uniform_scores(tokenizers[kind], text, 999)
    bits, num_bytes = bits_and_bytes(scores, tokenizers[kind], text.encode())
    assert bits == pytest.approx(2 * (len(scores.ids_L) - 2))
    assert num_bytes == len(text.encode())


def test_a_truncated_window_counts_the_bytes_that_were_read(byte_level: ByteTokenizer) -> None:
    text = "some words of a text that goes on"
    scores = uniform_scores(byte_level, text, 4)
    bits, num_bytes = bits_and_bytes(scores, byte_level, text.encode())
    assert bits == pytest.approx(6) and num_bytes == len(byte_level.table.joined(scores.ids_L[1:]))


def test_counts_of_windows_add_up(byte_level: ByteTokenizer) -> None:
    scores = uniform_scores(byte_level, "text", 99)
    once = bit_counts("a/b", "d", scores, byte_level, b"text")
    twice = {key: 2 * value for key, value in once.items()}
    assert from_counts(twice) == from_counts(once)
    assert set(from_counts(once)) == {"a/b"}
