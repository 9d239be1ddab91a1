import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pta_ray.config import Divergence
from pta_ray.training.divergence import DIVERGENCES, divergence
from tests.oracles.objective import plain_divergence

TEMPERATURES = (0.5, 1.0, 2.0)
kinds, temperatures = st.sampled_from(DIVERGENCES), st.sampled_from(TEMPERATURES)


@st.composite
def distributions(draw: st.DrawFn, num_buckets: int) -> list[float]:
    """Any bucket but one may be empty."""
    masses = draw(st.lists(st.sampled_from([0.0, 0.01, 0.1, 1.0, 10.0]), min_size=num_buckets, max_size=num_buckets))
    masses[draw(st.integers(0, num_buckets - 1))] = 1.0
    return [mass / sum(masses) for mass in masses]


@given(kinds, temperatures, st.integers(2, 6), st.data())
def test_value_and_gradient_equal_the_equations(
    kind: Divergence, temperature: float, num_buckets: int, data: st.DataObject
) -> None:
    teacher = data.draw(distributions(num_buckets))
    logits = torch.tensor(data.draw(st.lists(st.floats(-4, 4), min_size=num_buckets, max_size=num_buckets)))
    emptied = torch.tensor(teacher) == 0
    emptied &= torch.tensor(data.draw(st.lists(st.booleans(), min_size=num_buckets, max_size=num_buckets)))
    logits[emptied] = -torch.inf
    logits.requires_grad_()
    value = divergence(kind, temperature, torch.tensor(teacher), logits.log_softmax(0))
    logits64 = logits.detach().double().requires_grad_()
    expected = plain_divergence(kind, temperature, teacher, list(logits64.softmax(0)))
    [gradient], [expected_gradient] = (torch.autograd.grad(v, z) for v, z in ((value, logits), (expected, logits64)))
    assert value.item() == pytest.approx(expected.item(), abs=2e-5)
    np.testing.assert_allclose(gradient, expected_gradient, atol=2e-5)
    assert (gradient[emptied] == 0).all()


@given(st.sampled_from(["forward_kl", "reverse_kl", "jsd"]), temperatures, st.integers(2, 6), st.data())
def test_a_student_that_is_the_teacher_has_nothing_to_learn(
    kind: Divergence, temperature: float, num_buckets: int, data: st.DataObject
) -> None:
    teacher = torch.tensor(data.draw(distributions(num_buckets)))
    log_probs = teacher.log().requires_grad_()
    value = divergence(kind, temperature, teacher, log_probs)
    [gradient] = torch.autograd.grad(value, log_probs)
    assert value.item() == pytest.approx(0, abs=1e-5)
    np.testing.assert_allclose(gradient, 0, atol=1e-5)


@given(kinds, temperatures, st.integers(2, 6), st.data())
def test_it_is_least_where_the_student_is_the_teacher(
    kind: Divergence, temperature: float, num_buckets: int, data: st.DataObject
) -> None:
    teacher, student = (torch.tensor(data.draw(distributions(num_buckets))).double() for _ in range(2))
    at_teacher = divergence(kind, temperature, teacher, teacher.log())
    assert divergence(kind, temperature, teacher, student.log()) >= at_teacher - 1e-5


@pytest.mark.parametrize("kind", DIVERGENCES)
@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_a_student_far_away_gives_finite_gradients(kind: Divergence, temperature: float) -> None:
    teacher = torch.tensor([[1.0, 0.0, 0.0], [0.3, 0.3, 0.4], [0.0, 1.0, 0.0]])
    logits = torch.tensor([[-200.0, 0.0, 80.0], [0.0, -torch.inf, 300.0], [500.0, 0.0, -torch.inf]])
    teacher[1, 1:] = torch.tensor([0.0, 0.7])
    logits.requires_grad_()
    value = divergence(kind, temperature, teacher, logits.log_softmax(-1))
    [gradient] = torch.autograd.grad(value.sum(), logits)
    assert torch.isfinite(value).all() and torch.isfinite(gradient).all()


def test_a_flat_student_is_pulled_as_hard_at_any_temperature() -> None:
    """For a high temperature and centred logits the gradient is (z_student - z_teacher) / C (Hinton et al. 2015)."""
    teacher = torch.tensor([0.2, -0.1, 0.3, -0.4], dtype=torch.float64)
    student = torch.tensor([-0.3, 0.1, 0.4, -0.2], dtype=torch.float64, requires_grad=True)
    value = divergence("cross_entropy", 1e4, teacher.softmax(0), student.log_softmax(0))
    [gradient] = torch.autograd.grad(value, student)
    np.testing.assert_allclose(gradient, (student - teacher).detach() / 4, atol=1e-4)
