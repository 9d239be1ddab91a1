from functools import partial

import numpy as np

from pta_ray.distributions import IntervalTargets, SparseDistribution
from pta_ray.fusion.min_ce import Candidate, better


def candidate(name: str, probs: list[float], confidence: list[float]) -> Candidate:
    probs_MK, confidence_M = np.array(probs, np.float32)[:, None], np.array(confidence, np.float32)
    places_MK = np.zeros_like(probs_MK, np.int32)
    return Candidate(
        name, SparseDistribution(places_MK, probs_MK, confidence_M),
        partial(IntervalTargets, places_MK, places_MK + 1, probs_MK, confidence_M),
    )  # fmt: skip


def test_the_better_predictor_wins() -> None:
    weak, strong = candidate("weak", [0.1, 0.2], [1, 1]), candidate("strong", [0.5, 0.1], [1, 1])
    assert better(weak, strong).name == "strong"
    assert better(strong, weak).name == "strong"


def test_only_boundaries_where_both_speak_are_compared() -> None:
    holder = candidate("holder", [0.5, 0.5], [1, 1])
    loud = candidate("loud", [0.4, 1.0], [1, 0])
    assert better(holder, loud).name == "holder"


def test_the_holder_stays_on_a_tie_and_against_silence() -> None:
    holder = candidate("holder", [0.5], [1])
    assert better(holder, candidate("equal", [0.5], [1])).name == "holder"
    assert better(holder, candidate("silent", [1.0], [0])).name == "holder"


def test_a_probability_of_zero_is_a_loss_not_an_error() -> None:
    assert better(candidate("sure", [0.0], [1]), candidate("other", [1e-9], [1])).name == "other"
