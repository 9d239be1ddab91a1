"""The fold by position: at every boundary the candidate that predicts the actual next token best, as far as it is
confident."""

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from pta_ray.distributions import SparseDistribution
from pta_ray.fusion.candidate import Candidate


def best_by_position(best: Candidate, challenger: Candidate) -> Candidate:
    """The challenger takes the positions where its probability of the actual token, times its confidence, is larger."""
    taken_M = _claim(challenger.distribution) > _claim(best.distribution)
    owners_M = np.where(taken_M, _owners(challenger), _owners(best))
    names, counts = np.unique(owners_M, return_counts=True)
    num_K = max(best.distribution.ids_MK.shape[1], challenger.distribution.ids_MK.shape[1])
    mine, its = _widened(best.distribution, num_K), _widened(challenger.distribution, num_K)
    taken_M1 = taken_M[:, None]
    distribution = SparseDistribution(
        np.where(taken_M1, its.ids_MK, mine.ids_MK),
        np.where(taken_M1, its.probs_MK, mine.probs_MK),
        np.where(taken_M, its.confidence_M, mine.confidence_M),
    )
    name = str(names[counts.argmax()]) if len(names) else best.name
    is_own_M = np.where(taken_M, challenger.is_own_M, best.is_own_M)
    return replace(best, name=name, distribution=distribution, is_own_M=is_own_M, owners_M=owners_M)


def _claim(distribution: SparseDistribution) -> npt.NDArray[np.float32]:
    return distribution.confidence_M * distribution.probs_MK[:, 0]


def _widened(distribution: SparseDistribution, num_K: int) -> SparseDistribution:
    """With empty entries behind its own."""
    empty = (0, 0), (0, num_K - distribution.ids_MK.shape[1])
    ids_MK = np.pad(distribution.ids_MK, empty, constant_values=-1)
    return SparseDistribution(ids_MK, np.pad(distribution.probs_MK, empty), distribution.confidence_M)


def _owners(candidate: Candidate) -> npt.NDArray[np.str_]:
    if candidate.owners_M is not None:
        return candidate.owners_M
    return np.full(len(candidate.distribution.confidence_M), candidate.name)
