"""The AvgCE fold: the mixture of all candidates, by how well they predict the text (Wan et al. 2024, FuseLLM).

With CE_i a candidate's mean cross-entropy per position in nats, its weight is softmax(-CE)_i over the candidates. The
weights of those that have been folded are kept without the softmax's denominator, so that another can be added. Where
a candidate abstains, the others share its weight.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from pta_ray.fusion.candidate import Candidate, nats
from pta_ray.fusion.mixture import mix


def average(best: Candidate, challenger: Candidate) -> Candidate:
    """Adds a candidate to the mixture."""
    weights = {**_weights(best), **_weights(challenger)}
    if not weights:
        return best
    mine = sum(_weights(best).values())
    its = sum(_weights(challenger).values())
    distribution = mix(best.distribution, challenger.distribution, mine, its)
    is_own_M = _has_no_source(best) & _has_no_source(challenger)
    name = max(weights, key=weights.__getitem__)
    return replace(best, name=name, distribution=distribution, is_own_M=is_own_M, weights=weights)


def _has_no_source(candidate: Candidate) -> npt.NDArray[np.bool_]:
    has_none_M: npt.NDArray[np.bool_] = candidate.is_own_M | (candidate.distribution.confidence_M == 0)
    return has_none_M


def _weights(candidate: Candidate) -> Mapping[str, float]:
    """By model; none for one that says nothing at all."""
    if candidate.weights:
        return candidate.weights
    spoken_M = candidate.distribution.confidence_M > 0
    return {candidate.name: float(np.exp(-nats(candidate.distribution)[spoken_M].mean()))} if spoken_M.any() else {}
