from functools import partial

import numpy as np

from pta_ray.distributions import IntervalTargets, SparseDistribution
from pta_ray.fusion.candidate import Candidate, nats
from pta_ray.fusion.min_ce import better


def candidate(name: str, probs: list[float], confidence: list[float]) -> Candidate:
    probs_MK, confidence_M = np.array(probs, np.float32)[:, None], np.array(confidence, np.float32)
    places_MK = np.zeros_like(probs_MK, np.int32)
    return Candidate(
        name, SparseDistribution(places_MK, probs_MK, confidence_M), np.zeros(len(probs), np.bool_),
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


def test_a_token_that_is_not_named_has_its_share_of_the_tail() -> None:
    unnamed = candidate("unnamed", [0.0], [1])
    assert better(unnamed, candidate("named", [1e-3], [1])).name == "named"
    assert better(unnamed, candidate("hardly named", [1e-9], [1])).name == "unnamed"
    # One such position does not outweigh what is said better at all others.
    assert (
        better(candidate("target", [0.1] * 20, [1] * 20), candidate("source", [0.5] * 19 + [0.0], [1] * 20)).name
        == "source"
    )


def test_without_a_tail_that_is_a_loss_not_an_error() -> None:
    ids_MK, probs_MK = np.array([[0, 1]]), np.array([[0.0, 1.0]], np.float32)
    certain = SparseDistribution(ids_MK, probs_MK, np.ones(1, np.float32))
    assert 80 < nats(certain)[0] < 90
