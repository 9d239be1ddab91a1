"""Mixtures of sparse distributions."""

import numba
import numpy as np

from pta_ray.alignment.conditioning import Array
from pta_ray.alignment.projection import keep_top
from pta_ray.distributions import SparseDistribution


def mix(
    first: SparseDistribution, second: SparseDistribution, weight: float, other_weight: float
) -> SparseDistribution:  # fmt: skip
    """The weighted mean of two distributions over the same positions, with as many entries as the first has.

    At a position, weights are multiplied by the confidences, so that what abstains there has no part in the mixture;
    the confidence of the mixture is the weighted mean.
    """
    total = weight + other_weight
    mine_M = (weight / total * first.confidence_M).astype(np.float32)
    its_M = (other_weight / total * second.confidence_M).astype(np.float32)
    confidence_M = mine_M + its_M
    scale_M = np.where(confidence_M > 0, confidence_M, 1)
    ids_MY, masses_MY = _joined(
        first.ids_MK, first.probs_MK, mine_M / scale_M, second.ids_MK, second.probs_MK, its_M / scale_M
    )
    ids_MK, probs_MK = keep_top(ids_MY, masses_MY, first.ids_MK.shape[1] - 1)
    return SparseDistribution(ids_MK, probs_MK, confidence_M)


@numba.njit(cache=True, nogil=True)
def _joined(
    ids_MK: Array, probs_MK: Array, mine_M: Array, others_MJ: Array, other_probs_MJ: Array, its_M: Array
) -> tuple[Array, Array]:
    """The entries of both, each token once [M, K + J]; entry 0, the actual next token, is the same in both."""
    num_M, num_K = ids_MK.shape
    num_J = others_MJ.shape[1]
    ids_MY = np.full((num_M, num_K + num_J), -1, np.int32)
    masses_MY = np.zeros((num_M, num_K + num_J), np.float32)
    for m in range(num_M):
        for k in range(num_K):
            ids_MY[m, k], masses_MY[m, k] = ids_MK[m, k], mine_M[m] * probs_MK[m, k]
        for j in range(num_J):
            i = others_MJ[m, j]
            if i < 0:
                continue
            place = num_K + j
            for k in range(num_K):
                if ids_MY[m, k] == i:
                    place = k
                    break
            ids_MY[m, place] = i
            masses_MY[m, place] += its_M[m] * other_probs_MJ[m, j]
    return ids_MY, masses_MY
