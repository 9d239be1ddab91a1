"""Against a dense float64 formulation: full teacher rows, full logits."""

import pytest
import torch

from pta_ray.training.batches import empty_batch
from pta_ray.training.loss import SparseTargets, chunked_loss

N, H, V, K = 37, 8, 23, 4


def make_targets(seed: int) -> SparseTargets:
    generator = torch.Generator().manual_seed(seed)
    ids_NK = torch.stack([torch.randperm(V, generator=generator)[:K] for _ in range(N)])
    probs_NK = torch.rand(N, K, generator=generator) / K
    probs_NK[::5, 2:] = 0  # empty entries
    ids_NK[::5, 2:] = 0
    return SparseTargets(
        ids_NK, probs_NK, torch.rand(N, generator=generator), (torch.rand(N, generator=generator) > 0.2).float()
    )


def dense_loss(hidden: torch.Tensor, weight: torch.Tensor, targets: SparseTargets, clm_weight: float) -> torch.Tensor:
    """The equation of the module, position by position and entry by entry."""
    probs = torch.softmax(hidden @ weight.T, -1)
    total = hidden.new_zeros(())
    for n in range(N):
        clm = -probs[n, targets.ids_NK[n, 0]].log()
        fused, named, mass = hidden.new_zeros(()), hidden.new_zeros(()), 0.0
        for i, f in zip(targets.ids_NK[n], targets.probs_NK[n].double(), strict=True):
            if f > 0:
                fused = fused - f * probs[n, i].log()
                named = named + probs[n, i]
                mass = mass + f
        fused = fused - (1 - mass) * (1 - named).log()
        total = total + targets.weight_N[n] * (clm_weight * clm + (1 - clm_weight) * targets.confidence_N[n] * fused)
    return total


@pytest.mark.parametrize("positions_per_chunk", [1, 10, 37, 100])
@pytest.mark.parametrize("clm_weight", [0.0, 0.8, 1.0])
def test_value_and_gradients_equal_the_dense_reference(positions_per_chunk: int, clm_weight: float) -> None:
    torch.manual_seed(0)
    targets = make_targets(0)
    hidden, head = torch.randn(N, H, requires_grad=True), torch.nn.Linear(H, V, bias=False)
    total, _, _ = chunked_loss(head, hidden, targets, clm_weight, positions_per_chunk)
    total.backward()
    hidden64 = hidden.detach().double().requires_grad_()
    weight64 = head.weight.detach().double().requires_grad_()
    expected = dense_loss(hidden64, weight64, targets, clm_weight)
    expected.backward()
    assert total.item() == pytest.approx(expected.item(), rel=1e-5)
    for found, reference in ((hidden.grad, hidden64.grad), (head.weight.grad, weight64.grad)):
        assert found is not None and reference is not None
        scale = reference.abs().max()
        torch.testing.assert_close(found.double() / scale, reference / scale, atol=1e-5, rtol=0)


def test_a_student_that_knows_everything_named_stays_finite() -> None:
    targets = SparseTargets(torch.tensor([[0, 1]]), torch.tensor([[0.5, 0.2]]), torch.ones(1), torch.ones(1))
    hidden = torch.tensor([[60.0, 0.0]], requires_grad=True)
    total, _, _ = chunked_loss(torch.nn.Identity(), hidden, targets, 0.5, 8)
    total.backward()
    assert torch.isfinite(total) and hidden.grad is not None and torch.isfinite(hidden.grad).all()


def test_an_empty_batch_teaches_nothing() -> None:
    batch = empty_batch(K)
    head, hidden = torch.nn.Linear(H, V), torch.randn(1, H)
    total, _, _ = chunked_loss(head, hidden, batch.targets, 0.8, 8)
    total.backward()
    assert total.item() == 0 and batch.num_positions == 0
    assert head.weight.grad is not None and head.weight.grad.abs().max() == 0
