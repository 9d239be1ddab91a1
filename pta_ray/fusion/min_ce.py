"""The MinCE fold: of two candidates for a window, the one that predicts the text better (Wan et al. 2024, FuseLLM)."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pta_ray.distributions import SparseDistribution
from pta_ray.fusion.candidate import Candidate, nats


@dataclass(frozen=True)
class Comparison:
    """Two candidates' cross-entropies on the actual next tokens, over the boundaries where both speak."""

    is_compared_M: npt.NDArray[np.bool_]
    best_nats: float
    challenger_nats: float

    @property
    def challenger_wins(self) -> bool:
        """Whether it predicts the text better. The holder stays on a tie, and where the two never both speak."""
        return self.challenger_nats < self.best_nats


def compare(best: SparseDistribution, challenger: SparseDistribution) -> Comparison:
    """Judges two distributions along one window."""
    both_M = (best.confidence_M > 0) & (challenger.confidence_M > 0)
    return Comparison(both_M, float(nats(best)[both_M].sum()), float(nats(challenger)[both_M].sum()))


def better(best: Candidate, challenger: Candidate) -> Candidate:
    """The candidate with the lower cross-entropy."""
    return challenger if compare(best.distribution, challenger.distribution).challenger_wins else best
