"""Set-valued targets: what a source says as intervals of the target's vocabulary in byte order.

A short source token says that the next bytes begin with x, and not which of the target's tokens that begin with x is
meant. Those are neighbours in `ByteTable.sorted_ids_O`, so they are an interval of places, and a student's mass on them
is a difference of two cumulative sums.

Mass is asked for once. With y the actual next target token, a source's mass lies at a boundary on sets of tokens:

    on {y}   the pinned probability of y
    on I(x)  what pinning leaves of candidate x; I(x) are the tokens that begin with x or, where there are none, the
             longest token that x begins with, alone

and the probability of an interval is the mass of all sets within it, P(I) = sum of m(J), J a subset of I (the belief
function of Shafer 1976, "A mathematical theory of evidence"). So an interval has at least the probability of one inside
it, intervals apart have 1 together at most, and some distribution over tokens meets all of them at once.

P(I(x)) is the sum over the candidates that begin with x, but for those whose mass lies elsewhere: on a token shorter
than x, or on a y that is. Where y begins with x, the pinned probability is within: as a part of the actual source
token's own mass, if that token begins with x, and beside all candidates, if x begins with it and goes on. P(I(x)) is a
lower bound of "the next bytes begin with x": a shorter candidate may go on with x too, and how likely that is only the
chain rule along the text can say.

What has only y to stand for it, beside y's pinned probability, is within the intervals around y and else tail.

Shapes: I = 1 + C intervals at a boundary; K entries of a distribution, an interval each.
"""

import numba
import numpy as np
import numpy.typing as npt

from pta_ray.alignment.conditioning import Array, SourceCandidates
from pta_ray.alignment.pinning import Pinned
from pta_ray.alignment.trie import Trie, walk
from pta_ray.alignment.vocabularies import Vocabularies
from pta_ray.distributions import IntervalTargets, SparseDistribution
from pta_ray.tokenizers.byte_table import ByteTable


def interval_targets(
    vocabularies: Vocabularies,
    source: SourceCandidates,
    pinned: Pinned,
    confidence_M: npt.NDArray[np.float32],
    target_next_ids_M: npt.NDArray[np.int32],
) -> IntervalTargets:
    """States a source's distributions as intervals of the target's sorted vocabulary, one per candidate with mass left.
    Where the source abstains all of them are empty.

    Args:
        vocabularies: the source's and the target's.
        source: from `condition`.
        pinned: from `pin`.
        confidence_M: of the aligned distribution.
        target_next_ids_M: the target tokens that actually follow.
    """
    table = vocabularies.target
    low_MI, high_MI, probs_MI = _interval_targets(
        vocabularies.source.data_N, source.starts_TC, source.lengths_TC, pinned.actual_M, pinned.rest_MC,
        pinned.spoken_M, vocabularies.trie, table.data_N, table.offsets_V1, table.sorted_ids_O, target_next_ids_M,
    )  # fmt: skip
    return IntervalTargets(low_MI, high_MI, probs_MI, confidence_M)


def token_intervals(table: ByteTable, distribution: SparseDistribution) -> IntervalTargets:
    """States a distribution over the target's tokens as intervals of one token each. Tokens without bytes are tail."""
    place_V = np.full(table.size, -1, np.int32)
    place_V[table.sorted_ids_O] = np.arange(len(table.sorted_ids_O))
    place_MK = np.where(distribution.ids_MK >= 0, place_V[distribution.ids_MK], np.int32(-1))
    has_place_MK = place_MK >= 0
    low_MK = np.where(has_place_MK, place_MK, np.int32(0))
    probs_MK = np.where(has_place_MK, distribution.probs_MK, np.float32(0))
    return IntervalTargets(low_MK, low_MK + has_place_MK, probs_MK, distribution.confidence_M)


@numba.njit(cache=True, nogil=True)
def _interval_targets(
    source_data_N: Array,
    starts_TC: Array,
    lengths_TC: Array,
    actual_M: Array,
    rest_MC: Array,
    spoken_M: Array,
    trie: Trie,
    data_N: Array,
    offsets_V1: Array,
    sorted_ids_O: Array,
    next_ids_M: Array,
) -> tuple[Array, Array, Array]:
    num_M, num_C = rest_MC.shape
    low_MI = np.zeros((num_M, 1 + num_C), np.int32)
    high_MI = np.zeros((num_M, 1 + num_C), np.int32)
    probs_MI = np.zeros((num_M, 1 + num_C), np.float32)
    masses_I = np.empty(1 + num_C, np.float64)
    for m in range(num_M):
        if not spoken_M[m]:
            continue
        low_I, high_I = low_MI[m], high_MI[m]
        masses_I[:] = 0
        low_I[0], high_I[0] = _place(trie, data_N, offsets_V1, sorted_ids_O, next_ids_M[m])
        if low_I[0] < high_I[0]:
            masses_I[0] = actual_M[m]
        count, beside = 1, 0.0  # the mass of other candidates that only the actual token stands for
        for c in range(num_C):
            start, length, mass = starts_TC[m, c], lengths_TC[m, c], rest_MC[m, c]
            if mass <= 0 or length <= 0:
                continue
            token, low, high = walk(trie, source_data_N[start : start + length])
            if low == high:
                low, high = _place(trie, data_N, offsets_V1, sorted_ids_O, token)
            if low == high:
                continue
            i = 0
            while i < count and (low_I[i] != low or high_I[i] != high):
                i += 1
            if i == 0:
                beside += mass
                continue
            low_I[i], high_I[i] = low, high
            masses_I[i] += mass
            count = max(count, i + 1)
        probs_MI[m, 0] = masses_I[0]
        masses_I[0] += beside
        for i in range(1, count):
            prob = 0.0
            for j in range(count):
                if low_I[i] <= low_I[j] and high_I[j] <= high_I[i]:
                    prob += masses_I[j]
            probs_MI[m, i] = prob
    return low_MI, high_MI, probs_MI


@numba.njit(cache=True, nogil=True)
def _place(trie: Trie, data_N: Array, offsets_V1: Array, sorted_ids_O: Array, token: int) -> tuple[int, int]:
    """The place of one token as an interval, (0, 0) if it stands for no bytes."""
    if token < 0 or offsets_V1[token] == offsets_V1[token + 1]:
        return 0, 0
    _, place, _ = walk(trie, data_N[offsets_V1[token] : offsets_V1[token + 1]])
    while sorted_ids_O[place] != token:  # others may have the same bytes
        place += 1
    return place, place + 1
