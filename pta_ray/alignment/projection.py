"""From transported mass to an aligned distribution: pinned to the chain rule, cut to top-k, tail kept."""

import numba
import numpy as np
import numpy.typing as npt

from pta_ray.alignment.candidates import TargetCandidates
from pta_ray.alignment.conditioning import Array, SourceCandidates
from pta_ray.distributions import SparseDistribution


def project(
    source: SourceCandidates, target: TargetCandidates, masses_MY: npt.NDArray[np.float32], top_k: int
) -> SparseDistribution:
    """Pins the actual next token to its exact probability exp(F(b') - F(b)) under the source and shares what is left
    among the other candidates and the tail in the proportions of the transport; the most probable `top_k` others stay
    by name. Confidence is the retained mass, 0 where the source cannot follow the text."""
    log_prefix_T = source.log_prefix_T
    spoken_M = np.isfinite(log_prefix_T[:-1]) & np.isfinite(log_prefix_T[1:]) & (source.probs_TC[:-1].sum(1) > 0)
    log_pinned_M = np.zeros(len(spoken_M))
    np.subtract(log_prefix_T[1:], log_prefix_T[:-1], out=log_pinned_M, where=spoken_M)
    pinned_M = np.exp(np.minimum(log_pinned_M, 0))
    tail_M = np.maximum(0, 1 - source.probs_TC[:-1].sum(1, dtype=np.float64))
    ids_MK, probs_MK = _project(target.ids_MY, masses_MY, pinned_M, tail_M, top_k)
    return SparseDistribution(ids_MK, probs_MK, np.where(spoken_M, source.retained_T[:-1], 0).astype(np.float32))


@numba.njit(cache=True, nogil=True)
def _project(ids_MY: Array, masses_MY: Array, pinned_M: Array, tail_M: Array, top_k: int) -> tuple[Array, Array]:
    num_M = len(ids_MY)
    ids_MK = np.full((num_M, 1 + top_k), -1, np.int32)
    probs_MK = np.zeros((num_M, 1 + top_k), np.float32)
    for m in range(num_M):
        others = masses_MY[m, 1:]
        ids_MK[m, 0], probs_MK[m, 0] = ids_MY[m, 0], pinned_M[m]
        rest = others.sum() + tail_M[m]
        if rest <= 0:
            continue  # nothing but the actual token was heard of: what it leaves is tail
        order = np.argsort(-others)[:top_k]
        for k in range(len(order)):
            if others[order[k]] > 0:
                ids_MK[m, k + 1] = ids_MY[m, order[k] + 1]
                probs_MK[m, k + 1] = others[order[k]] * (1 - pinned_M[m]) / rest
    return ids_MK, probs_MK
