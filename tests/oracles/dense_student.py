"""Training on fused distributions as the published code of FuseLLM (Wan et al. 2024, arXiv 2401.10491) does it, written
plainly: every distribution as rows of the whole vocabulary, all of them stacked to choose one, the logits of the whole
sequence, and autograd's gradients.

Shapes: M positions, V vocabulary, T teachers.
"""

from typing import Any

import torch

from pta_ray.training.loss import TokenTargets

Tensor = torch.Tensor


class DenseStudent(torch.nn.Module):
    """w * CLM + (1 - w) * cross-entropy with the distribution, of several, that predicts the text best."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, ids_1L: Tensor, clm_weight: float, *teachers_1MV: Tensor) -> Tensor:
        logits_MV = self.model(ids_1L, use_cache=False).logits[0, :-1]
        next_ids_M = ids_1L[0, 1:]
        clm = torch.nn.functional.cross_entropy(logits_MV, next_ids_M, reduction="sum")
        best = min(range(len(teachers_1MV)), key=lambda i: cross_entropy(teachers_1MV[i][0], next_ids_M))
        stacked_1MVT = torch.stack(teachers_1MV, -1)
        chosen_1MV1 = torch.tensor(best).expand(*stacked_1MVT.shape[:-1], 1)
        target_1MV = stacked_1MVT.gather(-1, chosen_1MV1).squeeze(-1)
        fused = torch.nn.functional.cross_entropy(logits_MV, target_1MV[0], reduction="sum")
        return clm_weight * clm + (1 - clm_weight) * fused


def cross_entropy(probs_MV: Tensor, next_ids_M: Tensor) -> float:
    """Of the text under a distribution, in nats."""
    return -probs_MV.gather(1, next_ids_M[:, None]).clamp_min(1e-6).log().sum().item()


def dense_teacher(targets: TokenTargets, num_V: int) -> Tensor:
    """Rows [1, M, V] of one window's distributions, without their tails."""
    probs_MV = torch.zeros(len(targets.ids_NK), num_V)
    return probs_MV.scatter_add_(1, targets.ids_NK.clamp_min(0), targets.probs_NK)[None]
