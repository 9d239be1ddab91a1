"""Levenshtein distance of byte strings, a machine word at a time.

Bit-parallel dynamic programming (Myers 1999, "A fast bit-vector algorithm for approximate string matching based on
dynamic programming", in the form of Hyyro 2003, "A bit-vector algorithm for computing Levenshtein and Damerau edit
distances", section 3): bit i of a word holds whether the edit matrix rises (VP, HP) or falls (VN, HN) by one at row i.
One byte of the text costs some fifteen instructions, however long the pattern, up to 64 bytes of it.

One pattern is prepared once and compared with many texts:

    masks = new_masks()
    prepare(pattern, masks)
    ... distance(masks, len(pattern), text) ...
    clear(pattern, masks)
"""

from typing import Any

import numba
import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

MAX_PATTERN = 64
"""The longest pattern in bytes: one bit of a word each."""


@numba.njit(cache=True, nogil=True)
def new_masks() -> Array:
    """Scratch for `prepare`: 256 empty words."""
    return np.zeros(256, np.uint64)


@numba.njit(cache=True, nogil=True)
def prepare(pattern: Array, masks: Array) -> None:
    """Notes where each byte stands in a pattern of at most `MAX_PATTERN` bytes; the masks must be empty."""
    for i in range(len(pattern)):
        masks[pattern[i]] |= np.uint64(1) << np.uint64(i)


@numba.njit(cache=True, nogil=True)
def clear(pattern: Array, masks: Array) -> None:
    """Empties the masks of a prepared pattern."""
    for i in range(len(pattern)):
        masks[pattern[i]] = 0


@numba.njit(cache=True, nogil=True)
def distance(masks: Array, length: int, text: Array) -> int:
    """The Levenshtein distance between a prepared pattern of `length` bytes, at least one, and a text of any length."""
    return int(distance_within(masks, length, text, length + len(text)))


@numba.njit(cache=True, nogil=True)
def distance_within(masks: Array, length: int, text: Array, most: int) -> int:
    """`distance` if that is at most `most`, else some number above `most`: the work ends where this is certain."""
    one = np.uint64(1)
    last = np.uint64(length - 1)
    rises, falls = ~np.uint64(0), np.uint64(0)  # VP and VN
    score = np.int64(length)
    for j in range(len(text)):
        match = masks[text[j]]
        diagonal = (((match & rises) + rises) ^ rises) | match | falls  # D0: no cost along the diagonal
        across_rises = falls | ~(diagonal | rises)  # HP
        across_falls = diagonal & rises  # HN
        score += np.int64((across_rises >> last) & one) - np.int64((across_falls >> last) & one)
        # Each byte that is left lowers the score by one at most.
        left = len(text) - 1 - j
        if score - left > most:
            return most + 1
        across_rises = (across_rises << one) | one
        rises = (across_falls << one) | ~(diagonal | across_rises)
        falls = across_rises & diagonal
    return int(score)


@numba.njit(cache=True, nogil=True)
def levenshtein(x: Array, y: Array) -> int:
    """The least number of bytes inserted, deleted and substituted that turns x into y (uint8 arrays of any length)."""
    pattern, text = (x, y) if len(x) <= len(y) else (y, x)
    if len(pattern) == 0:
        return len(text)
    if len(pattern) > MAX_PATTERN:
        return int(_by_rows(pattern, text))
    masks = new_masks()
    prepare(pattern, masks)
    return int(distance(masks, len(pattern), text))


@numba.njit(cache=True, nogil=True)
def _by_rows(x: Array, y: Array) -> int:
    """The dynamic programme row by row: D(i, j) = min(D(i-1, j-1) + [x_i != y_j], D(i-1, j) + 1, D(i, j-1) + 1)."""
    row = np.arange(len(y) + 1)
    for i in range(len(x)):
        diagonal, row[0] = row[0], i + 1
        for j in range(len(y)):
            substituted = diagonal + (x[i] != y[j])
            diagonal = row[j + 1]
            row[j + 1] = min(substituted, row[j] + 1, diagonal + 1)
    return int(row[len(y)])
