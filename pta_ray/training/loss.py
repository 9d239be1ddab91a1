"""The objective, from sparse targets and hidden states, one chunk of positions at a time.

    L = w * CLM + (1 - w) * D,    D = -c * ( sum_k f_k log s_k  +  t log(1 - sum_k s_k) )

per position, with s the student, f the fused distribution's entries, t = 1 - sum_k f_k its tail mass and c its
confidence (Zeng et al. 2025, equation 1; the tail is a bucket of its own instead of being dropped).

Shapes: N positions, H hidden size, V vocabulary, K entries.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch.utils.checkpoint import checkpoint

Tensor = torch.Tensor


class SparseTargets(NamedTuple):
    """What N positions learn. Entry 0 is the actual next token; positions of weight 0 are padding."""

    ids_NK: Tensor
    """int64; empty entries hold any valid id and probability 0."""
    probs_NK: Tensor
    confidence_N: Tensor
    weight_N: Tensor
    """1 for a position that counts, 0 for padding."""


def chunked_loss(
    head: Callable[[Tensor], Tensor],
    hidden_NH: Tensor,
    targets: SparseTargets,
    clm_weight: float,
    positions_per_chunk: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """The objective, CLM and D, each summed over positions, in nats.

    The logits of a chunk are computed, used and freed, and computed again for the gradient: never more than
    `positions_per_chunk` x V of them exist.

    Args:
        head: hidden states [n, H] to logits [n, V].
    """

    def of_chunk(hidden_nH: Tensor, targets: SparseTargets) -> tuple[Tensor, Tensor]:
        return sparse_losses(head(hidden_nH).float(), targets)

    clm = hidden_NH.new_zeros((), dtype=torch.float32)
    fused = hidden_NH.new_zeros((), dtype=torch.float32)
    for begin in range(0, len(hidden_NH), positions_per_chunk):
        chunk = slice(begin, begin + positions_per_chunk)
        part = SparseTargets(*(tensor[chunk] for tensor in targets))
        clm_part, fused_part = checkpoint(of_chunk, hidden_NH[chunk], part, use_reentrant=False)
        clm, fused = clm + clm_part, fused + fused_part
    return clm_weight * clm + (1 - clm_weight) * fused, clm, fused


def sparse_losses(logits_NV: Tensor, targets: SparseTargets) -> tuple[Tensor, Tensor]:
    """CLM and D, each summed over positions."""
    log_z_N1 = logits_NV.logsumexp(-1, keepdim=True)
    log_probs_NK = logits_NV.gather(1, targets.ids_NK) - log_z_N1
    clm_N = -log_probs_NK[:, 0]
    listed_NK = (targets.probs_NK > 0).to(log_probs_NK.dtype)
    # The student's mass outside the entries. Clamped: rounding can leave nothing, or less, of 1.
    rest_N = (1 - (log_probs_NK.exp() * listed_NK).sum(-1)).clamp_min(1e-6)
    tail_N = (1 - targets.probs_NK.sum(-1)).clamp_min(0)
    fused_N = -(targets.probs_NK * log_probs_NK).sum(-1) - tail_N * rest_N.log()
    return (targets.weight_N * clm_N).sum(), (targets.weight_N * targets.confidence_N * fused_N).sum()
