from functools import partial

import numpy as np

from pta_ray.distributions import IntervalTargets, SparseDistribution
from pta_ray.fusion.candidate import Candidate
from pta_ray.fusion.position import best_by_position


def candidate(name: str, probs: list[float], confidence: list[float], num_K: int = 2) -> Candidate:
    ids_MK = np.full((len(probs), num_K), 7, np.int32)
    probs_MK = np.zeros((len(probs), num_K), np.float32)
    probs_MK[:, 0] = probs
    confidence_M = np.array(confidence, np.float32)
    nothing = partial(IntervalTargets, ids_MK, ids_MK, probs_MK, confidence_M)
    is_own_M = np.full(len(ids_MK), name == "target")
    return Candidate(name, SparseDistribution(ids_MK, probs_MK, confidence_M), is_own_M, nothing)


def test_each_position_goes_to_the_better_predictor() -> None:
    first = candidate("first", [0.9, 0.1, 0.3], [1, 1, 1])
    second = candidate("second", [0.1, 0.9, 0.2], [1, 1, 1])
    found = best_by_position(first, second)
    np.testing.assert_allclose(found.distribution.probs_MK[:, 0], [0.9, 0.9, 0.3])
    assert found.owners_M is not None
    assert found.owners_M.tolist() == ["first", "second", "first"]
    assert found.name == "first"


def test_a_third_one_takes_from_both_and_may_have_most() -> None:
    found = best_by_position(candidate("a", [0.9, 0.1, 0.1], [1, 1, 1]), candidate("b", [0.1, 0.3, 0.1], [1, 1, 1]))
    found = best_by_position(found, candidate("longer name", [0.1, 0.4, 0.2], [1, 1, 1]))
    assert found.owners_M is not None
    assert found.owners_M.tolist() == ["a", "longer name", "longer name"]
    assert found.name == "longer name"


def test_little_confidence_does_not_take_a_position_and_silence_none() -> None:
    found = best_by_position(candidate("a", [0.5, 0.1], [1, 1]), candidate("b", [0.9, 0.9], [0.5, 0]))
    np.testing.assert_allclose(found.distribution.probs_MK[:, 0], [0.5, 0.1])
    np.testing.assert_allclose(found.distribution.confidence_M, [1, 1])


def test_positions_of_the_target_stay_its_own() -> None:
    own, source = candidate("target", [0.9, 0.1, 0.3], [1, 1, 1]), candidate("source", [0.1, 0.9, 0.2], [1, 1, 1])
    assert best_by_position(own, source).is_own_M.tolist() == [True, False, True]


def test_candidates_may_list_different_numbers_of_tokens() -> None:
    found = best_by_position(candidate("a", [0.5, 0.1], [1, 1], num_K=2), candidate("b", [0.4, 0.9], [1, 1], num_K=4))
    np.testing.assert_allclose(found.distribution.probs_MK[:, 0], [0.5, 0.9])
    assert (found.distribution.ids_MK[0, 2:] == -1).all()


def test_a_window_without_positions_stays_with_its_holder() -> None:
    assert best_by_position(candidate("a", [], []), candidate("b", [], [])).name == "a"
