"""Transport costs between a source's and the target's candidates, both as byte strings. All lie between 0 and 1.

The end of the document costs nothing to the end of the document and 1 to everything else. A further cost is one more
kernel, chosen in `_fill`: a kernel that is handed over as an argument would be compiled anew in every process.
"""

from collections.abc import Callable

import numba
import numpy as np
import numpy.typing as npt

from pta_ray.alignment.candidates import TargetCandidates
from pta_ray.alignment.conditioning import EOS_LENGTH, Array, SourceCandidates
from pta_ray.alignment.edit_distance import MAX_PATTERN, clear, distance, levenshtein, new_masks, prepare
from pta_ray.alignment.trie import Trie, token_within, walk
from pta_ray.alignment.vocabularies import Vocabularies

_CANONICAL, _PREFIX, _EDIT, _EXACT = range(4)
_NUM_KNOWN = 1 << 16
"""Pairs of strings whose edit cost is remembered within a batch; a power of 2. A pair that is crowded out is computed
again."""
_HASH_FACTOR = np.int64(-7046029254386353131)  # 2^64 / golden ratio, odd: spreads neighbouring pairs

Cost = Callable[[Vocabularies, SourceCandidates, npt.NDArray[np.float32], TargetCandidates], npt.NDArray[np.float32]]
"""The cost [M, C, Y] of moving each source candidate's mass p [M, C] to each target candidate; where there is none to
be moved it is not computed."""


def canonical_cost(
    vocabularies: Vocabularies, source: SourceCandidates, p_MC: npt.NDArray[np.float32], target: TargetCandidates
) -> npt.NDArray[np.float32]:
    """0 where both tokenizers may write the same text like this, if each takes the longest token that it has; else 1.

    The text begins with the source's candidate, or what is left of it. A target token that is not longer must be the
    longest that the candidate begins with: for " as" it is not " a", where the target has " as". One that is longer
    must go on where the source has no longer token: " a" does not stand for " and", where the source has " and".
    """
    return _costs(_CANONICAL, vocabularies, source, p_MC, target)


def prefix_cost(
    vocabularies: Vocabularies, source: SourceCandidates, p_MC: npt.NDArray[np.float32], target: TargetCandidates
) -> npt.NDArray[np.float32]:
    """1 - common prefix / shorter length, so 0 where one string begins with the other."""
    return _costs(_PREFIX, vocabularies, source, p_MC, target)


def edit_cost(
    vocabularies: Vocabularies, source: SourceCandidates, p_MC: npt.NDArray[np.float32], target: TargetCandidates
) -> npt.NDArray[np.float32]:
    """Levenshtein distance / longer length (Zeng et al. 2025, section 3)."""
    return _costs(_EDIT, vocabularies, source, p_MC, target)


def exact_cost(
    vocabularies: Vocabularies, source: SourceCandidates, p_MC: npt.NDArray[np.float32], target: TargetCandidates
) -> npt.NDArray[np.float32]:
    """0 for equal strings, 1 for all others."""
    return _costs(_EXACT, vocabularies, source, p_MC, target)


COSTS: dict[str, Cost] = {"canonical": canonical_cost, "prefix": prefix_cost, "edit": edit_cost, "exact": exact_cost}


def _costs(
    kind: int,
    vocabularies: Vocabularies,
    source: SourceCandidates,
    p_MC: npt.NDArray[np.float32],
    target: TargetCandidates,
) -> npt.NDArray[np.float32]:
    num_M, num_Y = target.ids_MY.shape
    cost_MCY = np.ones((num_M, source.ids_TC.shape[1], num_Y), np.float32)
    _fill(
        kind, vocabularies.source_trie, vocabularies.source.data_N, vocabularies.source.offsets_V1, source.ids_TC,
        source.starts_TC, source.lengths_TC, p_MC, vocabularies.trie, vocabularies.target.data_N,
        vocabularies.target.offsets_V1, vocabularies.target.eos_id, target.ids_MY, cost_MCY,
    )  # fmt: skip
    return cost_MCY


@numba.njit(cache=True, nogil=True)
def _fill(
    kind: int,
    source_trie: Trie,
    source_data_N: Array,
    source_offsets_V1: Array,
    ids_TC: Array,
    starts_TC: Array,
    lengths_TC: Array,
    p_MC: Array,
    trie: Trie,
    data_N: Array,
    offsets_V1: Array,
    eos_id: int,
    ids_MY: Array,
    cost_MCY: Array,
) -> None:
    """Lets the kernel of a kind compute a source candidate's costs, and sees to the ends of documents itself."""
    num_M, num_C, num_Y = cost_MCY.shape
    starts_Y, lengths_Y = np.zeros(num_Y, np.int64), np.zeros(num_Y, np.int64)
    known = np.full(_NUM_KNOWN, -1, np.int64), np.empty(_NUM_KNOWN, np.float32)
    masks = new_masks()
    for m in range(num_M):
        count = 0
        while count < num_Y and ids_MY[m, count] >= 0:
            i = ids_MY[m, count]
            starts_Y[count], lengths_Y[count] = offsets_V1[i], offsets_V1[i + 1] - offsets_V1[i]
            count += 1
        for c in range(num_C):
            if p_MC[m, c] <= 0:
                continue
            start, length, cost_Y = starts_TC[m, c], lengths_TC[m, c], cost_MCY[m, c]
            if length == EOS_LENGTH:
                for y in range(count):
                    cost_Y[y] = ids_MY[m, y] != eos_id
            elif kind == _CANONICAL:
                x_N = source_data_N[source_offsets_V1[ids_TC[m, c]] : start + length]
                _canonical_row(source_trie, x_N, length, trie, data_N, offsets_V1, starts_Y, lengths_Y, count, cost_Y)
            elif kind == _PREFIX:
                _prefix_row(source_data_N, start, length, data_N, starts_Y, lengths_Y, count, cost_Y)
            elif kind == _EDIT:
                _edit_row(
                    source_data_N, start, length, data_N, starts_Y, lengths_Y, count, masks, known, cost_MCY[m, c]
                )
            else:
                _exact_row(source_data_N, start, length, data_N, starts_Y, lengths_Y, count, cost_Y)


@numba.njit(cache=True, nogil=True)
def _common_prefix(source_data_N: Array, start: int, data_N: Array, begin: int, shorter: int) -> int:
    common = 0
    while common < shorter and source_data_N[start + common] == data_N[begin + common]:
        common += 1
    return common


@numba.njit(cache=True, nogil=True)
def _canonical_row(
    source_trie: Trie,
    x_N: Array,
    length: int,
    trie: Trie,
    data_N: Array,
    offsets_V1: Array,
    starts_Y: Array,
    lengths_Y: Array,
    count: int,
    cost_Y: Array,
) -> None:
    """Of a source's token, of which the last `length` bytes have not been read."""
    start = len(x_N) - length
    i, _, _ = walk(trie, x_N[start:])
    longest = offsets_V1[i + 1] - offsets_V1[i] if i >= 0 else 0
    for y in range(count):
        begin, end = starts_Y[y], starts_Y[y] + lengths_Y[y]
        shorter = min(length, lengths_Y[y])
        if shorter == 0 or _common_prefix(x_N, start, data_N, begin, shorter) < shorter:
            continue
        if lengths_Y[y] > length:
            is_canonical = not token_within(source_trie, x_N, data_N[begin + length : end])
        else:
            is_canonical = lengths_Y[y] == longest
        cost_Y[y] = not is_canonical


@numba.njit(cache=True, nogil=True)
def _prefix_row(
    source_data_N: Array,
    start: int,
    length: int,
    data_N: Array,
    starts_Y: Array,
    lengths_Y: Array,
    count: int,
    cost_Y: Array,
) -> None:
    for y in range(count):
        shorter = min(length, lengths_Y[y])
        if shorter > 0:  # the target's end of document stands for no bytes
            common = _common_prefix(source_data_N, start, data_N, starts_Y[y], shorter)
            cost_Y[y] = np.float32(1) - np.float32(common) / np.float32(shorter)


@numba.njit(cache=True, nogil=True)
def _exact_row(
    source_data_N: Array,
    start: int,
    length: int,
    data_N: Array,
    starts_Y: Array,
    lengths_Y: Array,
    count: int,
    cost_Y: Array,
) -> None:
    for y in range(count):
        if lengths_Y[y] == length and _common_prefix(source_data_N, start, data_N, starts_Y[y], length) == length:
            cost_Y[y] = 0


@numba.njit(cache=True, nogil=True)
def _edit_row(
    source_data_N: Array,
    start: int,
    length: int,
    data_N: Array,
    starts_Y: Array,
    lengths_Y: Array,
    count: int,
    masks: Array,
    known: tuple[Array, Array],
    cost_Y: Array,
) -> None:
    """A pair of strings is known by where the two begin in their tables; the same pairs come again and again."""
    known_pairs, known_costs = known
    x = source_data_N[start : start + length]
    is_prepared = False
    for y in range(count):
        if lengths_Y[y] == 0:
            continue
        pair = (np.int64(start) << 32) | starts_Y[y]
        place = ((pair * _HASH_FACTOR) >> 32) & (_NUM_KNOWN - 1)
        if known_pairs[place] != pair:
            if not is_prepared and length <= MAX_PATTERN:
                prepare(x, masks)
                is_prepared = True
            token = data_N[starts_Y[y] : starts_Y[y] + lengths_Y[y]]
            edits = distance(masks, length, token) if is_prepared else levenshtein(x, token)
            known_pairs[place], known_costs[place] = pair, edits / max(length, lengths_Y[y])
        cost_Y[y] = known_costs[place]
    if is_prepared:
        clear(x, masks)
