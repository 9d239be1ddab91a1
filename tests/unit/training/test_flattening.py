from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pta_ray.distributions import FusedRow, IntervalTargets, SparseDistribution
from pta_ray.training.flattening import flatten

shares = st.one_of(st.just(0.0), st.just(1e-6), st.floats(0.002, 1))


@st.composite
def rows(draw: st.DrawFn, num_K: int = 4) -> FusedRow:
    """Distributions whose last share is the tail's."""
    num_M = draw(st.integers(0, 3))
    probs = np.zeros((num_M, num_K), np.float32)
    for m in range(num_M):
        weights = np.array(draw(st.lists(shares, min_size=num_K + 1, max_size=num_K + 1)))
        probs[m] = (weights / max(weights.sum(), 1e-6))[:num_K]
    is_own = draw(st.lists(st.booleans(), min_size=num_M, max_size=num_M))
    ids = np.tile(np.arange(num_K, dtype=np.int32), (num_M, 1))
    targets = SparseDistribution(ids, probs, np.full(num_M, 0.5, np.float32))
    return FusedRow(np.zeros(num_M + 1, np.int32), targets, np.array(is_own, np.bool_))


def probs_of(row: FusedRow) -> np.ndarray:
    assert isinstance(row.targets, SparseDistribution)
    return row.targets.probs_MK


@given(rows(), st.floats(1.01, 50))
def test_it_is_the_equation(row: FusedRow, temperature: float) -> None:
    found = flatten(row, temperature)
    for is_own, before, after in zip(row.is_own_M, probs_of(row).astype(float), probs_of(found), strict=True):
        powers = [p ** (1 / temperature) if p > 0 else 0.0 for p in before]
        mass = sum(before) ** (1 / temperature)
        expected = [mass * power / sum(powers) if sum(powers) else 0.0 for power in powers]
        np.testing.assert_allclose(after, before if is_own else expected, rtol=1e-4, atol=1e-7)


@given(rows(), st.floats(1, 50))
def test_the_order_of_the_entries_stays_and_there_is_no_more_than_all(row: FusedRow, temperature: float) -> None:
    before, found = probs_of(row), probs_of(flatten(row, temperature))
    assert (found >= 0).all() and (found.sum(1) <= 1 + 1e-5).all()
    for said, flat in zip(before, found, strict=True):
        assert (np.diff(flat[np.argsort(said, kind="stable")]) >= -1e-6).all()


@given(rows())
def test_a_temperature_of_one_changes_nothing(row: FusedRow) -> None:
    assert flatten(row, 1) is row


@given(rows())
def test_what_was_read_is_not_written_to(row: FusedRow) -> None:
    before = probs_of(row).copy()
    flatten(row, 4)
    np.testing.assert_array_equal(probs_of(row), before)


def test_a_high_one_leaves_which_tokens_may_come() -> None:
    targets = SparseDistribution(np.arange(4)[None], np.array([[0.01, 0.9, 0, 0.03]], np.float32), np.ones(1))
    found = flatten(FusedRow(np.zeros(2, np.int32), targets, np.zeros(1, np.bool_)), 1e6)
    np.testing.assert_allclose(probs_of(found), [[1 / 3, 1 / 3, 0, 1 / 3]], rtol=1e-4)


@pytest.mark.parametrize("is_own", [True, False])
def test_intervals_stay(is_own: bool) -> None:
    places = np.array([[0, 1]], np.int32)
    targets = IntervalTargets(places, places + 1, np.array([[0.2, 0.7]], np.float32), np.ones(1, np.float32))
    row = FusedRow(np.zeros(2, np.int32), targets, np.array([is_own]))
    assert flatten(row, 4) is row


def test_what_else_there_is_stays() -> None:
    targets = SparseDistribution(np.arange(2)[None], np.array([[0.2, 0.7]], np.float32), np.array([0.3], np.float32))
    row = FusedRow(np.array([5, 0], np.int32), targets, np.array([False]))
    found = flatten(row, 4)
    assert isinstance(found.targets, SparseDistribution)
    assert found == row._replace(targets=found.targets)
    assert found.targets == replace(targets, probs_MK=found.targets.probs_MK)
