"""Transport against an oracle from the equations, against POT, and on inputs that break solvers."""

import numpy as np
import ot
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pta_ray.alignment.candidates import target_candidates
from pta_ray.alignment.conditioning import condition
from pta_ray.alignment.cost import prefix_cost
from pta_ray.alignment.pairing import pair_boundaries
from pta_ray.alignment.pinning import pin
from pta_ray.alignment.transport import transport
from pta_ray.alignment.vocabularies import prepare_vocabularies
from pta_ray.config import Alignment
from tests.fixtures.load import load_fixture
from tests.oracles.sinkhorn import sinkhorn_plans
from tests.unit.alignment import toy

Problems = tuple[np.ndarray, np.ndarray, np.ndarray]


def problems(num_M: int, num_C: int, num_Y: int, seed: int) -> Problems:
    """Costs of which some are 0, as prefix costs are, and peaked distributions."""
    random = np.random.default_rng(seed)
    cost_MCY = random.uniform(0, 1, (num_M, num_C, num_Y)) * (random.random((num_M, num_C, num_Y)) > 0.2)
    p_MC, q_MY = (random.dirichlet(np.full(num, 0.5), num_M) + 1e-4 for num in (num_C, num_Y))
    p_MC, q_MY = (a / a.sum(1, keepdims=True) for a in (p_MC, q_MY))
    return cost_MCY.astype(np.float32), p_MC.astype(np.float32), q_MY.astype(np.float32)


def exact_plans(given_: Problems, epsilon: float, rho: float) -> np.ndarray:
    return sinkhorn_plans(*(a.astype(np.float64) for a in given_), epsilon, rho)  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("epsilon", "rho"),
    [
        (1e-3, 1e-3),
        (1e-3, 0.2),
        (0.01, 1e-3),
        (0.01, 0.2),
        (0.05, 0.2),
        (0.05, 5.0),
        (0.5, 5.0),
        (10.0, 0.2),
        (10.0, 5.0),
    ],
)
def test_relaxed_plans_agree_with_the_equations(epsilon: float, rho: float) -> None:
    given_ = problems(70, 5, 7, seed=1)
    found = transport(*given_, epsilon, rho, with_plans=True, max_iterations=20_000)
    expected = exact_plans(given_, epsilon, rho)
    assert found.converged_M.all()
    assert np.abs(found.plan_MCY - expected).sum((1, 2)).max() < 2e-3
    assert np.abs(found.masses_MY - expected.sum(1)).sum(1).max() < 5e-4


@pytest.mark.parametrize("epsilon", [0.05, 0.5, 10.0])
def test_balanced_plans_agree_with_the_equations(epsilon: float) -> None:
    given_ = problems(70, 5, 7, seed=2)
    found = transport(*given_, epsilon, np.inf, with_plans=True, tolerance=1e-6, max_iterations=20_000)
    assert np.abs(found.plan_MCY - exact_plans(given_, epsilon, np.inf)).sum((1, 2)).max() < 2e-3


@pytest.mark.parametrize(("epsilon", "rho"), [(0.05, 0.2), (0.5, 1.0), (1.0, 0.05), (10.0, 0.2), (0.1, 5.0)])
def test_relaxed_masses_agree_with_pot(epsilon: float, rho: float) -> None:
    cost_MCY, p_MC, q_MY = problems(8, 6, 9, seed=3)
    found = transport(cost_MCY, p_MC, q_MY, epsilon, rho)
    for cost, p, q, masses in zip(cost_MCY, p_MC, q_MY, found.masses_MY, strict=True):
        # The plain entropy of the equation; POT's own default is relative to p q^T.
        plan = ot.unbalanced.sinkhorn_unbalanced(
            p.astype(np.float64), q.astype(np.float64), cost.astype(np.float64), reg=epsilon, reg_m=(np.inf, rho),
            reg_type="entropy", numItermax=20_000, stopThr=1e-12,
        )  # fmt: skip
        np.testing.assert_allclose(masses, plan.sum(0), atol=2e-4)


@pytest.mark.parametrize("epsilon", [0.05, 0.5, 10.0])
def test_balanced_plans_agree_with_both_of_pots_solvers(epsilon: float) -> None:
    cost_MCY, p_MC, q_MY = (a.astype(np.float64) for a in problems(8, 6, 9, seed=4))
    p_MC, q_MY = (a / a.sum(1, keepdims=True) for a in (p_MC, q_MY))
    found = transport(cost_MCY, p_MC, q_MY, epsilon, np.inf, tolerance=1e-6, max_iterations=20_000, with_plans=True)
    batch = ot.solve_batch(cost_MCY, epsilon, p_MC, q_MY, tol=1e-9, max_iter=20_000)
    np.testing.assert_allclose(found.plan_MCY, batch.plan, atol=1e-4)
    for plan, cost, p, q in zip(found.plan_MCY, cost_MCY, p_MC, q_MY, strict=True):
        expected = ot.sinkhorn(p, q, cost, epsilon, stopThr=1e-12, numItermax=20_000)
        np.testing.assert_allclose(plan, expected, atol=1e-4)


@pytest.mark.parametrize("rho", [0.0, 0.2, np.inf])
def test_what_is_reported_of_a_plan_is_the_plans(rho: float) -> None:
    cost_MCY, p_MC, q_MY = problems(130, 4, 6, seed=5)
    found = transport(cost_MCY, p_MC, q_MY, 0.1, rho, with_plans=True)
    np.testing.assert_allclose(found.masses_MY, found.plan_MCY.sum(1), atol=1e-5)
    np.testing.assert_allclose(found.plan_MCY.sum(2), p_MC, rtol=1e-4)
    np.testing.assert_array_equal(found.largest_MC, found.plan_MCY.argmax(2))
    bare = transport(cost_MCY, p_MC, q_MY, 0.1, rho)
    assert bare.plan_MCY.size == 0
    np.testing.assert_array_equal(bare.masses_MY, found.masses_MY)


def test_without_pull_each_row_goes_to_its_cheapest_column() -> None:
    cost_MCY, p_MC, q_MY = problems(100, 5, 7, seed=6)
    found = transport(cost_MCY, p_MC, q_MY, 0.05, 0.0)
    paid_MC = np.take_along_axis(cost_MCY, found.largest_MC[:, :, None], 2)[:, :, 0]
    np.testing.assert_array_equal(paid_MC, cost_MCY.min(2))
    assert found.converged_M.all()


def test_an_infinite_pull_is_the_limit_of_a_great_one() -> None:
    given_ = problems(20, 5, 7, seed=7)
    great, infinite = (transport(*given_, 0.2, rho, max_iterations=20_000).masses_MY for rho in (1e3, np.inf))
    np.testing.assert_allclose(great, infinite, atol=2e-3)
    np.testing.assert_allclose(infinite, given_[2], atol=2e-4)


def test_plans_that_need_more_iterations_are_reported() -> None:
    given_ = problems(200, 5, 7, seed=8)
    few, many = (transport(*given_, 0.02, np.inf, max_iterations=n) for n in (1, 20_000))
    assert not few.converged_M.any()
    assert many.converged_M.all()
    np.testing.assert_allclose(few.masses_MY.sum(1), 1, atol=1e-5)
    missed_M = np.abs(many.masses_MY - given_[2]).sum(1)
    assert missed_M.max() < 2e-4


def test_a_problems_neighbours_change_nothing() -> None:
    """Blocks of problems are solved together, the largest of a block sets its size."""
    cost_MCY, p_MC, q_MY = problems(150, 5, 7, seed=9)
    p_MC[::3, 2:], q_MY[::4, :4] = 0, 0
    together = transport(cost_MCY, p_MC, q_MY, 0.05, 0.2)
    for m in range(0, 150, 7):
        alone = transport(*(a[m : m + 1] for a in (cost_MCY, p_MC, q_MY)), 0.05, 0.2)
        np.testing.assert_allclose(alone.masses_MY[0], together.masses_MY[m], atol=2e-4)


@settings(max_examples=150)
@given(
    toy.seeds,
    st.tuples(st.integers(0, 5), st.integers(1, 5), st.integers(1, 6)),
    st.sampled_from([1e-3, 0.01, 0.1, 10.0]),
    st.sampled_from([0.0, 1e-3, 0.2, 100.0, np.inf]),
)
def test_all_mass_arrives_whatever_the_input(
    seed: int, shape: tuple[int, int, int], epsilon: float, rho: float
) -> None:
    """Rows and columns without mass, equal costs, masses next to nothing, one candidate, no problem at all."""
    num_M, num_C, num_Y = shape
    random = np.random.default_rng(seed)
    cost_MCY = random.choice([0, 0.5, 1], (num_M, num_C, num_Y)).astype(np.float32)
    p_MC = random.choice([0, 1e-30, 1e-6, 0.125, 0.125, 1 / num_C], (num_M, num_C)).astype(np.float32)
    q_MY = random.choice([0, 0, 1e-30, 1e-6, 0.125, 1], (num_M, num_Y)).astype(np.float32)
    found = transport(cost_MCY, p_MC, q_MY, epsilon, rho, with_plans=True)
    for a in (found.masses_MY, found.plan_MCY):
        assert np.all(np.isfinite(a)) and np.all(a >= 0)
    reachable_M = (q_MY > 0).any(1)
    np.testing.assert_allclose(found.masses_MY.sum(1), np.where(reachable_M, p_MC.sum(1), 0), atol=1e-5)
    assert np.all(found.masses_MY[q_MY == 0] == 0) and np.all(found.plan_MCY[p_MC == 0] == 0)
    assert np.all((found.largest_MC >= 0) == ((p_MC > 0) & reachable_M[:, None]))


def test_real_problems_stop_where_the_equations_end() -> None:
    """At the default settings, on SmolLM2's beliefs about English and code: the masses are those of the fixed point."""
    fixture, alignment = load_fixture(), Alignment()
    source, target = fixture.models["smollm2"], fixture.models["target"]
    vocabularies = prepare_vocabularies(source.table, target.table)
    for i in [i for i, window in enumerate(fixture.windows) if window.language in ("english", "python")][:4]:
        text, scores, ends_S, ends_T = fixture.windows[i].text, source.scores[i], source.ends[i], target.ends[i]
        last_T = pair_boundaries(ends_S, ends_T)
        spoken = condition(
            source.table, text, ends_S, ends_T, last_T, scores.next_ids_M, scores.next_log_probs_M, scores.top_ids_MK,
            scores.top_log_probs_MK,
        )  # fmt: skip
        p_MC = pin(source.table, spoken, text, ends_T, last_T).rest_MC
        candidates = target_candidates(vocabularies, spoken, p_MC, target.scores[i], "piece")
        candidates.probs_MY[:, 0] = 0
        cost_MCY = prefix_cost(vocabularies, spoken, p_MC, candidates)
        found = transport(cost_MCY, p_MC, candidates.probs_MY, alignment.epsilon, alignment.rho)
        assert found.converged_M.all()
        used = p_MC.sum(1) > 0
        problems_ = [a[used].astype(np.float64) for a in (cost_MCY, p_MC, candidates.probs_MY)]
        problems_[1:] = [a + 1e-30 for a in problems_[1:]]
        expected_MY = sinkhorn_plans(*problems_, alignment.epsilon, alignment.rho).sum(1)
        assert np.abs(found.masses_MY[used] - expected_MY).sum(1).max() < 1e-3
