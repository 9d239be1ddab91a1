"""Dynamic token pairing: which source boundary answers for which target boundary.

Where both tokenizations spell the same bytes, the minimum-cost pairing is a walk over the two rising sequences of byte
offsets: every offset they share closes a group (1-1, 1-N, N-1, N-M).

Where they do not, because a tokenizer lowercases, normalises or drops white space, the groups come from the
minimum-edit-cost programme of Zeng et al. 2025 (arXiv 2509.17276), over source tokens B and target tokens A,

    f(k, j) = c(B_k, A_j) + min{ f(k-1, j), f(k, j-1), f(k-1, j-1) },

c the edit distance of the tokens' bytes without their spaces. Each diagonal step of the best path closes a
group.

Shapes: P paired boundaries; K and J tokens of source and target without start token and EOS.
"""

from typing import Any, NamedTuple

import numba
import numpy as np
import numpy.typing as npt

from pta_ray.alignment.edit_distance import MAX_PATTERN, clear, distance, levenshtein, new_masks, prepare
from pta_ray.tokenizers.byte_table import ByteTable, Role

Array = npt.NDArray[Any]

_UNKNOWN, _UNKNOWN_TOO = 0xFF, 0xFE
"""In place of the bytes of a token that stands for none, such as the unknown token, on either side: no text holds such
bytes, so it differs from everything."""
_SPACE = 32
_DIAGONAL, _UP, _LEFT = 0, 1, 2
_FAR = np.iinfo(np.int64).max // 2


class _Side(NamedTuple):
    """One tokenization of a text, with its boundaries; those that differ in spaces alone are at one offset."""

    letters_N: Array
    """The bytes that are no spaces."""
    ends_K: Array
    """Boundaries as offsets in the letters, the first at 0."""
    behind_K: Array
    """Spaces between a boundary and the letter before it."""
    ahead_K: Array
    """Spaces between a boundary and the letter behind it."""


@numba.njit(cache=True, nogil=True)
def pair_boundaries(ends_S: npt.NDArray[np.int64], ends_T: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """For every target boundary, the last source boundary at or before it, -1 where there is none. O(S + T).

    Both arguments rise, not always strictly: of several source boundaries at one offset the last has read the most.
    """
    last_T = np.empty(len(ends_T), np.int64)
    s = -1
    for t in range(len(ends_T)):
        while s + 1 < len(ends_S) and ends_S[s + 1] <= ends_T[t]:
            s += 1
        last_T[t] = s
    return last_T


def pair_by_edit_distance(
    source: ByteTable, ids_S: npt.NDArray[np.int32], target: ByteTable, ids_T: npt.NDArray[np.int32], band: int
) -> npt.NDArray[np.int64]:
    """For every target boundary, the source boundary that closes the same group, -1 where none does.

    Beginnings and ends on which both agree are walked; only what lies between them goes through the programme.
    Pairing target with source gives the same pairs. O(length x band) time and memory.

    Args:
        source, target: the tokenizers' bytes.
        ids_S, ids_T: the two tokenizations of one whole text: start token first, EOS last or absent.
        band: tokens by which a path may stray from the bytes spelt so far; widened where a path touches its edge.
    """
    return _pair(source, ids_S, target, ids_T, band, whole=False)


def pair_whole_by_edit_distance(
    source: ByteTable, ids_S: npt.NDArray[np.int32], target: ByteTable, ids_T: npt.NDArray[np.int32], band: int
) -> npt.NDArray[np.int64]:
    """Like `pair_by_edit_distance`, with the programme over everything: the published baseline."""
    return _pair(source, ids_S, target, ids_T, band, whole=True)


def _pair(source: ByteTable, ids_S: Array, target: ByteTable, ids_T: Array, band: int, whole: bool) -> Array:
    last_T = np.full(len(ids_T), -1, np.int64)
    last_T[0] = 0
    body_S, body_T = _without_ends(source, ids_S), _without_ends(target, ids_T)
    if len(body_S) + 1 < len(ids_S) and len(body_T) + 1 < len(ids_T):
        last_T[-1] = len(ids_S) - 1
    sides = [
        _spelt(table.data_N, table.offsets_V1, table.roles_V, body)
        for table, body in ((source, body_S), (target, body_T))
    ]
    # Paths of equal cost are told apart by the order of the two sides, so that order must not be the caller's.
    swapped = _rank(sides[0]) > _rank(sides[1])
    if swapped:
        sides.reverse()
    sides[1].letters_N[sides[1].letters_N == _UNKNOWN] = _UNKNOWN_TOO
    pairs_P2 = _pairs(*sides, max(band, 1), whole)
    s, t = pairs_P2.T[::-1] if swapped else pairs_P2.T
    last_T[t] = s
    return last_T


def _without_ends(table: ByteTable, ids_L: Array) -> Array:
    body = ids_L[1:]
    return body[:-1] if len(body) and table.roles_V[body[-1]] == Role.EOS else body


def _rank(side: _Side) -> tuple[int, bytes, bytes]:
    return len(side.ends_K), side.letters_N.tobytes(), side.ends_K.tobytes()


@numba.njit(cache=True, nogil=True)
def _spelt(data_N: Array, offsets_V1: Array, roles_V: Array, ids_L: Array) -> _Side:
    """What a sequence spells, without start token and EOS."""
    size = 0
    for i in ids_L:
        size += max(offsets_V1[i + 1] - offsets_V1[i], 1)
    letters_N = np.empty(size, np.uint8)
    spaces_N1 = np.zeros(size + 1, np.int64)  # before each letter, and in all
    ends_K, spaces_K = np.zeros(len(ids_L) + 1, np.int64), np.zeros(len(ids_L) + 1, np.int64)
    n = 0
    for k in range(len(ids_L)):
        i = ids_L[k]
        token = data_N[offsets_V1[i] : offsets_V1[i + 1]] if roles_V[i] == 0 else np.full(1, _UNKNOWN, np.uint8)
        for byte in token:
            if byte == _SPACE:
                spaces_N1[n] += 1
            else:
                letters_N[n] = byte
                n += 1
                spaces_N1[n] = spaces_N1[n - 1]
        ends_K[k + 1], spaces_K[k + 1] = n, spaces_N1[n]
    behind_K = spaces_K - np.where(ends_K > 0, spaces_N1[np.maximum(ends_K - 1, 0)], 0)
    return _Side(letters_N[:n], ends_K, behind_K, spaces_N1[ends_K] - spaces_K)


@numba.njit(cache=True, nogil=True)
def _pairs(x: _Side, y: _Side, band: int, whole: bool) -> Array:
    """Boundaries [P, 2] of both sides that close a group, behind the common start."""
    last = np.array([[len(x.ends_K) - 1, len(y.ends_K) - 1]])
    if last.min() == 0:
        return last[:0]
    if whole:
        everything: Array = np.concatenate((_programme(x.letters_N, x.ends_K, y.letters_N, y.ends_K, band), last))
        return everything
    length_x, length_y = len(x.letters_N), len(y.letters_N)
    shorter = min(length_x, length_y)
    head = _agreement(x.letters_N, y.letters_N)
    before: Array = _walk(x, y, 1, 1, 0, head)
    if head == shorter or (len(before) and (before[-1] == last[0]).any()):
        return before  # they agree as far as both go
    k, j = (before[-1, 0], before[-1, 1]) if len(before) else (0, 0)
    tail = min(_agreement(x.letters_N[::-1], y.letters_N[::-1]), shorter - head)
    next_k = max(k + 1, np.searchsorted(x.ends_K, length_x - tail))
    next_j = max(j + 1, np.searchsorted(y.ends_K, length_y - tail))
    after = _walk(x, y, next_k, next_j, length_y - length_x, length_x)
    ends_K, ends_J = x.ends_K[k : after[0, 0] + 1], y.ends_K[j : after[0, 1] + 1]
    between = _programme(x.letters_N, ends_K, y.letters_N, ends_J, band)
    between[:, 0] += k
    between[:, 1] += j
    pairs: Array = np.concatenate((before, between, after))
    return pairs


@numba.njit(cache=True, nogil=True)
def _agreement(x_N: Array, y_N: Array) -> int:
    """Bytes that two strings begin with in common."""
    n = 0
    while n < min(len(x_N), len(y_N)) and x_N[n] == y_N[n]:
        n += 1
    return n


@numba.njit(cache=True, nogil=True)
def _walk(x: _Side, y: _Side, k: int, j: int, shift: int, limit: int) -> Array:
    """Pairs of boundaries, from k and j on, at equal offsets, y's being `shift` further on, up to offset `limit` of x.

    Of boundaries that differ in spaces alone, those are pairs that have as many spaces ahead of them, or that both
    follow a letter: one side may have dropped spaces, or added some of its own.
    """
    pairs = np.empty((min(len(x.ends_K), len(y.ends_K)), 2), np.int64)
    size = 0
    while k < len(x.ends_K) and j < len(y.ends_K) and x.ends_K[k] <= limit:
        lead = x.ends_K[k] + shift - y.ends_K[j]
        if lead == 0 and x.behind_K[k] + y.behind_K[j] > 0:
            lead = y.ahead_K[j] - x.ahead_K[k]
        if lead == 0:
            pairs[size] = k, j
            size += 1
        k, j = k + (lead <= 0), j + (lead >= 0)
    return pairs[:size]


@numba.njit(cache=True, nogil=True)
def _programme(x_N: Array, ends_K: Array, y_N: Array, ends_J: Array, band: int) -> Array:
    """Boundaries [P, 2] inside a stretch that the cheapest path of groups crosses diagonally."""
    while True:
        lows_K, highs_K = _window(ends_K, ends_J, band)
        steps, starts_K = _fill(x_N, ends_K, y_N, ends_J, lows_K, highs_K)
        pairs: Array
        pairs, at_edge = _trace(steps, starts_K, lows_K, highs_K, len(ends_J) - 1)
        if not at_edge:
            return pairs
        band *= 2


@numba.njit(cache=True, nogil=True)
def _window(ends_K: Array, ends_J: Array, band: int) -> tuple[Array, Array]:
    """First and last target token that each source token is compared with.

    A source token's window reaches from where it begins to where it ends, as shares of the bytes of the stretch, and
    `band` tokens beyond. So the windows of neighbours overlap, and the end can always be reached.
    """
    num_K, num_J = len(ends_K) - 1, len(ends_J) - 1
    offsets_J = (ends_J - ends_J[0]) * max(ends_K[-1] - ends_K[0], 1)
    offsets_K = (ends_K - ends_K[0]) * max(ends_J[-1] - ends_J[0], 1)
    lows_K, highs_K = np.empty(num_K, np.int64), np.empty(num_K, np.int64)
    for k in range(num_K):
        lows_K[k] = min(max(np.searchsorted(offsets_J, offsets_K[k]) - 1 - band, 0), num_J - 1)
        highs_K[k] = min(np.searchsorted(offsets_J, offsets_K[k + 1], "right") + band, num_J - 1)
    lows_K[0], highs_K[-1] = 0, num_J - 1
    return lows_K, highs_K


@numba.njit(cache=True, nogil=True)
def _fill(x_N: Array, ends_K: Array, y_N: Array, ends_J: Array, lows_K: Array, highs_K: Array) -> tuple[Array, Array]:
    """The last step of the best path to each cell of the band, row behind row, and where the rows start."""
    num_K, num_J = len(ends_K) - 1, len(ends_J) - 1
    starts_K = np.zeros(num_K + 1, np.int64)
    starts_K[1:] = np.cumsum(highs_K - lows_K + 1)
    steps = np.zeros(starts_K[-1], np.uint8)
    totals_J, above_J = np.full(num_J, _FAR), np.full(num_J, _FAR)
    masks = new_masks()
    for k in range(num_K):
        above_J, totals_J = totals_J, above_J
        x = x_N[ends_K[k] : ends_K[k + 1]]
        is_pattern = 0 < len(x) <= MAX_PATTERN
        if is_pattern:
            prepare(x, masks)
        for j in range(lows_K[k], highs_K[k] + 1):
            # Outside the previous row's window are totals of older rows.
            up = above_J[j] if k > 0 and lows_K[k - 1] <= j <= highs_K[k - 1] else _FAR
            diagonal = above_J[j - 1] if k > 0 and lows_K[k - 1] < j <= highs_K[k - 1] + 1 else _FAR
            left = totals_J[j - 1] if j > lows_K[k] else _FAR
            step, best = _DIAGONAL, diagonal
            if up < best:
                step, best = _UP, up
            if left < best:
                step, best = _LEFT, left
            if k == 0 and j == 0:
                best = 0
            steps[starts_K[k] + j - lows_K[k]] = step
            y = y_N[ends_J[j] : ends_J[j + 1]]
            totals_J[j] = best + (distance(masks, len(x), y) if is_pattern else levenshtein(x, y))
        if is_pattern:
            clear(x, masks)
    return steps, starts_K


@numba.njit(cache=True, nogil=True)
def _trace(steps: Array, starts_K: Array, lows_K: Array, highs_K: Array, num_J: int) -> tuple[Array, bool]:
    """The diagonal steps of the best path, and whether it ran along an edge of the band that hides cheaper cells."""
    k, j = len(lows_K) - 1, num_J - 1
    pairs = np.empty((min(k, j) + 1, 2), np.int64)
    first, at_edge = len(pairs), False
    while k > 0 or j > 0:
        at_edge |= (j == lows_K[k] and j > 0) or (j == highs_K[k] and j < num_J - 1)
        step = steps[starts_K[k] + j - lows_K[k]]
        if step == _DIAGONAL:
            first -= 1
            pairs[first] = k, j
        k, j = k - (step != _LEFT), j - (step != _UP)
    return pairs[first:], at_edge
