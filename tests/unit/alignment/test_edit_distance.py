"""Levenshtein distance against rapidfuzz."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from rapidfuzz.distance import Levenshtein

from pta_ray.alignment.edit_distance import MAX_PATTERN, clear, distance, levenshtein, new_masks, prepare

few_bytes = st.text("ab\x00\xff", max_size=90).map(lambda text: text.encode("latin-1"))
strings = st.one_of(few_bytes, st.binary(max_size=90))


def array(x: bytes) -> np.ndarray:
    return np.frombuffer(x, np.uint8)


@given(strings, strings)
def test_distance_agrees_with_rapidfuzz(x: bytes, y: bytes) -> None:
    assert levenshtein(array(x), array(y)) == Levenshtein.distance(x, y)


@given(st.integers(MAX_PATTERN - 2, MAX_PATTERN + 2), st.integers(MAX_PATTERN - 2, MAX_PATTERN + 2), st.randoms())
def test_distance_agrees_with_rapidfuzz_about_the_width_of_a_word(num_x: int, num_y: int, random: object) -> None:
    x, y = (bytes(random.choices(b"abc", k=n)) for n in (num_x, num_y))  # type: ignore[attr-defined]
    assert levenshtein(array(x), array(y)) == Levenshtein.distance(x, y)


@given(strings.filter(lambda x: 0 < len(x) <= MAX_PATTERN), st.lists(strings, min_size=1, max_size=5))
def test_one_prepared_pattern_serves_many_texts_and_leaves_the_masks_empty(pattern: bytes, texts: list[bytes]) -> None:
    masks = new_masks()
    prepare(array(pattern), masks)
    found = [distance(masks, len(pattern), array(text)) for text in texts]
    assert found == [Levenshtein.distance(pattern, text) for text in texts]
    clear(array(pattern), masks)
    assert not masks.any()
