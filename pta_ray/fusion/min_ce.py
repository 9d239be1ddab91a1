"""The MinCE fold: of two candidates for a window, the one that predicts the text better (Wan et al. 2024, FuseLLM)."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from pta_ray.distributions import IntervalTargets, SparseDistribution


@dataclass(frozen=True)
class Candidate:
    """A model's claim to a window."""

    name: str
    distribution: SparseDistribution
    """What it is judged by."""
    intervals: Callable[[], IntervalTargets]
    """States what it says as intervals; called for the winner only."""


def better(best: Candidate, challenger: Candidate) -> Candidate:
    """The candidate with the lower cross-entropy on the actual next tokens, over the boundaries where both speak.

    All candidates predict the same tokens of the target there, hence the same bytes: the comparison is one of bits per
    byte. The fold keeps one distribution however many candidates there are; the holder stays on a tie.
    """
    both_M = (best.distribution.confidence_M > 0) & (challenger.distribution.confidence_M > 0)
    if not both_M.any():
        return best
    return challenger if _nats(challenger, both_M) < _nats(best, both_M) else best


def _nats(candidate: Candidate, chosen_M: np.ndarray) -> float:
    probs = candidate.distribution.probs_MK[chosen_M, 0]
    return float(-np.log(np.maximum(probs, np.finfo(np.float32).tiny), dtype=np.float64).sum())
