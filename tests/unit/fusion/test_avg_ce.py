from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pta_ray.distributions import IntervalTargets, SparseDistribution
from pta_ray.fusion.avg_ce import average
from pta_ray.fusion.candidate import Candidate

NEXT, NUM_TOKENS = 7, 12


def candidate(name: str, ids: list[list[int]], probs: list[list[float]], confidence: list[float]) -> Candidate:
    ids_MK, probs_MK = np.array(ids, np.int32), np.array(probs, np.float32)
    places = np.zeros_like(ids_MK)
    confidence_M = np.array(confidence, np.float32)
    nothing = partial(IntervalTargets, places, places, probs_MK, confidence_M)
    is_own_M = np.full(len(ids_MK), name == "target")
    return Candidate(name, SparseDistribution(ids_MK, probs_MK, confidence_M), is_own_M, nothing)


@st.composite
def candidates(draw: st.DrawFn, name: str) -> Candidate:
    num_M, num_K = 3, 4
    ids, probs = [], []
    for _ in range(num_M):
        others = [i for i in range(NUM_TOKENS) if i != NEXT]
        ids.append([NEXT, *draw(st.permutations(others))[: num_K - 1]])
        weights = draw(st.lists(st.floats(0.01, 1), min_size=num_K + 1, max_size=num_K + 1))
        probs.append([weight / sum(weights) for weight in weights[:num_K]])  # the last one is the tail's
    confidence = draw(st.lists(st.sampled_from([0.0, 0.25, 1.0]), min_size=num_M, max_size=num_M))
    return candidate(name, ids, probs, confidence)


def dense(found: SparseDistribution) -> np.ndarray:
    probs_MV = np.zeros((len(found.ids_MK), NUM_TOKENS))
    for m, (ids, probs) in enumerate(zip(found.ids_MK, found.probs_MK, strict=True)):
        for i, p in zip(ids, probs, strict=True):
            if i >= 0:
                probs_MV[m, i] += p
    return probs_MV


@given(candidates("a"), candidates("b"), candidates("c"))
def test_it_is_the_mixture_by_softmax_of_the_negative_cross_entropy(a: Candidate, b: Candidate, c: Candidate) -> None:
    found = average(average(a, b), c)
    speaking = [x for x in (a, b, c) if (x.distribution.confidence_M > 0).any()]
    losses = [
        -np.log(x.distribution.probs_MK[x.distribution.confidence_M > 0, 0].astype(float)).mean() for x in speaking
    ]
    weights = np.exp(-np.array(losses)) / np.exp(-np.array(losses)).sum() if speaking else []
    confidence_M = sum((w * x.distribution.confidence_M for w, x in zip(weights, speaking, strict=True)), np.zeros(3))
    np.testing.assert_allclose(found.distribution.confidence_M, confidence_M, atol=1e-6)
    mixture_MV = sum(
        (
            w * x.distribution.confidence_M[:, None] * dense(x.distribution)
            for w, x in zip(weights, speaking, strict=True)
        ),
        np.zeros((3, NUM_TOKENS)),
    )
    for m in np.flatnonzero(confidence_M > 0):
        expected_V = mixture_MV[m] / confidence_M[m]
        named = found.distribution.ids_MK[m] >= 0
        ids, probs = found.distribution.ids_MK[m][named], found.distribution.probs_MK[m][named]
        # No more entries than a candidate has: the first is the actual token, the cut ones are tail.
        assert ids[0] == NEXT
        assert probs[0] == pytest.approx(expected_V[NEXT], abs=1e-5)
        # What was cut after the second of three candidates may be missing in the end: never more than there is.
        assert (probs <= expected_V[ids] + 1e-5).all()
    if speaking:
        assert found.name == speaking[int(np.argmax(weights))].name or max(weights) == pytest.approx(min(weights))


def test_two_that_say_the_same_are_mixed_to_it() -> None:
    one = candidate("one", [[7, 1, 2]], [[0.5, 0.2, 0.1]], [1.0])
    other = candidate("other", [[7, 2, 1]], [[0.5, 0.1, 0.2]], [1.0])
    found = average(one, other)
    np.testing.assert_allclose(dense(found.distribution), dense(one.distribution), atol=1e-6)
    assert found.weights == {"one": pytest.approx(0.5), "other": pytest.approx(0.5)}


def test_a_mixture_is_the_targets_own_where_all_sources_abstain() -> None:
    own = candidate("target", [[7, 1]] * 3, [[0.5, 0.2]] * 3, [1, 1, 1])
    first = candidate("first", [[7, 1]] * 3, [[0.5, 0.2]] * 3, [1, 0, 0])
    second = candidate("second", [[7, 1]] * 3, [[0.5, 0.2]] * 3, [0, 0, 0.5])
    assert average(average(own, first), second).is_own_M.tolist() == [False, True, False]
    silent = candidate("silent", [[7, 1]] * 3, [[0.5, 0.2]] * 3, [0, 0, 0])
    assert average(silent, first).is_own_M.tolist() == [False, True, True], "nothing is said there"


def test_what_abstains_has_no_part() -> None:
    one = candidate("one", [[7, 1]], [[0.5, 0.2]], [1.0])
    silent = candidate("silent", [[7, 3]], [[1.0, 0.0]], [0.0])
    np.testing.assert_allclose(dense(average(one, silent).distribution), dense(one.distribution))
    np.testing.assert_allclose(dense(average(silent, one).distribution), dense(one.distribution))
