"""The objective and its gradient, from hidden states and sparse targets, one chunk of positions at a time.

    L = sum_n weight_n * (w * CLM_n + (1 - w) * (c_n * D_n + (1 - c_n) * CLM_n))

with CLM the cross-entropy of the actual next token, D the divergence between the fused distribution and the student's
(`divergence`), c the confidence of the fused one: where it abstains the text stands in for it, so that all positions
count alike (with c = 1, Zeng et al. 2025, arXiv 2509.17276, equation 1). D compares buckets:

    tokens      the K entries of a distribution, and the tail
    intervals   for each interval of the vocabulary in byte order, what lies in it and what does not; D is their sum

The tail's mass t lies on tokens that no entry names. As a `bucket` it says that they have t together, not which of them
has it, and those are the tokens that the student knows least. With `label` the text says which: an actual next token y
that is not among the entries comes up with probability t, and is then learned with weight 1; where it is among them,
there is no tail. Over texts that the distribution p would write, that is all of p: the label's expectation where p is
named, which varies less than the label (Rao and Blackwell), and the label where it is not,

    E_y [ sum_i p_i e_i + 1(y unnamed) e_y ] = p

Of the actual next token and K others, those are named that are not the least.

Let z be a position's logits. Both kinds divide the vocabulary into a few groups of tokens: each entry and the rest, or
the stretches between neighbouring ends of intervals. The loss depends on z only through R_g = log(sum of exp(z_v), v in
g), so it is a small function of these, which autograd differentiates, and

    dL / dz_v = dL / dR_g * exp(z_v - R_g),    v in g

is written over the logits at once (`linear_loss`).

Shapes: N positions, n of them in a chunk, H hidden size, V vocabulary of the head, O tokens that stand for bytes,
K entries, I intervals, S stretches.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from pta_ray.config import Divergence, Tail
from pta_ray.training.divergence import divergence
from pta_ray.training.linear_loss import linear_loss

Tensor = torch.Tensor

_LEAST_NAMED = 1e-3
"""An entry with less, such as the traces that regularised transport leaves, says nothing of which tokens are named."""
_ROWS = 16
"""Positions at a time whose probabilities in byte order exist, in float64, beside the chunk's logits."""


class TokenTargets(NamedTuple):
    """What N positions learn from distributions over tokens."""

    ids_NK: Tensor
    """int64; entry 0 is the actual next token, the others are distinct, -1 marks an empty one."""
    probs_NK: Tensor
    """float32; what they leave of 1 is the tail."""
    confidence_N: Tensor
    """float32; at 0 entries mean nothing."""
    weight_N: Tensor
    """float32: 1 for a position that counts, 0 for padding."""


class SetTargets(NamedTuple):
    """What N positions learn from masses on intervals of the vocabulary in byte order."""

    low_NI: Tensor
    """int64, the first place in `ByteTable.sorted_ids_O`."""
    high_NI: Tensor
    """int64, the place behind the last; an interval with low = high is empty."""
    probs_NI: Tensor
    """float32"""
    confidence_N: Tensor
    """float32"""
    weight_N: Tensor
    """float32: 1 for a position that counts, 0 for padding."""


@dataclass(frozen=True)
class Objective:
    """How the two parts of the loss are measured and mixed."""

    clm_weight: float
    """w. With 1, D is not computed."""
    divergence: Divergence
    temperature: float
    tail: Tail

    def fused(self, teacher_probs: Tensor, student_log_probs: Tensor) -> Tensor:
        """D over the last axis."""
        return divergence(self.divergence, self.temperature, teacher_probs, student_log_probs)

    def buckets(self, probs_nK: Tensor) -> tuple[Tensor, Tensor]:
        """The entries [n, K], the actual token first, and the tail as distributions [n, G], G = K + 1, and their
        weights [n, 1]: with `label` 1 only over many texts."""
        if self.tail == "bucket" or self.divergence not in ("cross_entropy", "forward_kl"):
            tail_n1 = (1 - probs_nK.sum(1, keepdim=True)).clamp_min(0)
            return torch.cat([probs_nK, tail_n1], 1), torch.ones_like(tail_n1)
        actual_n1, others_nX = probs_nK[:, :1], torch.nn.functional.pad(probs_nK[:, 1:], (0, 1))
        least_n1 = others_nX.masked_fill(others_nX < _LEAST_NAMED, torch.inf).amin(1, keepdim=True)
        named_n1 = actual_n1 >= least_n1
        if num_others := probs_nK.shape[1] - 1:
            last_n1 = others_nX[:, :num_others].argmin(1, keepdim=True)
            others_nX.scatter_(1, last_n1, others_nX.gather(1, last_n1).masked_fill_(named_n1, 0))
        teacher_nG = torch.cat([torch.where(named_n1, actual_n1, 1), others_nX], 1)
        weight_n1 = teacher_nG.sum(1, keepdim=True)
        return teacher_nG / weight_n1, weight_n1

    def gradient(self, weight_n: Tensor, clm_n: Tensor, fused_n: Tensor, inputs: Tensor) -> Tensor:
        """Of the chunk's loss, by what its two parts were computed from."""
        loss = (weight_n * (self.clm_weight * clm_n + (1 - self.clm_weight) * fused_n)).sum()
        return torch.autograd.grad(loss, inputs)[0]


class ChunkedLoss(torch.nn.Module):
    """The head of a causal language model together with the loss.

    It owns the head's parameters, as tied layers own each other's: ZeRO-3 gathers what a module owns around its
    forward and backward pass.
    """

    order_V: Tensor | None
    """All tokens in byte order, those without bytes last."""

    def __init__(
        self,
        head: torch.nn.Linear,
        divergence: Divergence,
        temperature: float,
        tail: Tail,
        positions_per_chunk: int,
        sorted_ids_O: npt.NDArray[np.int64] | None,
    ) -> None:
        """With `sorted_ids_O`, the tokens in byte order, targets are sets, else tokens."""
        super().__init__()
        self.weight, self.bias = head.weight, head.bias
        self._divergence: Divergence = divergence
        self._temperature = temperature
        self._tail: Tail = tail
        self._positions_per_chunk = positions_per_chunk
        order_V = None if sorted_ids_O is None else _whole_order(sorted_ids_O, head.out_features)
        self.register_buffer("order_V", order_V, persistent=False)

    def forward(
        self, hidden_NH: Tensor, next_ids_N: Tensor, clm_weight: float, *targets: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The objective summed over positions, in nats, and what it is made of.

        Args:
            hidden_NH: of the head's dtype.
            next_ids_N: int64, the actual next tokens; any valid id at padding.
            clm_weight: w.
            targets: the tensors of `TokenTargets` or `SetTargets`.

        Returns:
            L, differentiable once; and without gradients weight_n * CLM_n [N] and what it is mixed with [N], 0 for w =
            1. All float32.
        """
        objective = Objective(clm_weight, self._divergence, self._temperature, self._tail)

        def overwrite(logits_nV: Tensor, chunk: slice) -> tuple[Tensor, Tensor]:
            next_ids_n, parts = next_ids_N[chunk], [tensor[chunk] for tensor in targets]
            if self.order_V is None:
                return token_losses(objective, logits_nV, next_ids_n, TokenTargets(*parts))
            return set_losses(objective, logits_nV, next_ids_n, SetTargets(*parts), self.order_V)

        shares = (clm_weight, 1 - clm_weight)
        return linear_loss(hidden_NH, self.weight, self.bias, overwrite, shares, self._positions_per_chunk)


def _whole_order(sorted_ids_O: npt.NDArray[np.int64], num_V: int) -> Tensor:
    """The tokens in byte order, and behind them those without bytes: the student may believe in these too."""
    others = np.setdiff1d(np.arange(num_V), sorted_ids_O)
    return torch.from_numpy(np.concatenate([sorted_ids_O, others]).astype(np.int64))


def token_losses(
    objective: Objective, logits_nV: Tensor, next_ids_n: Tensor, targets: TokenTargets
) -> tuple[Tensor, Tensor]:
    """Both parts of a chunk's loss [n], weighted; overwrites its logits by the gradient of their mixture."""
    next_ids_n1 = next_ids_n[:, None]
    num_entries = 1 if objective.clm_weight == 1 else targets.ids_NK.shape[1]
    ids_nK = targets.ids_NK[:, :num_entries]
    empty_nK = (ids_nK < 0) | (targets.confidence_N[:, None] <= 0)
    ids_nK = torch.where(empty_nK, next_ids_n1, ids_nK)
    ids_nK[:, 0], empty_nK[:, 0] = next_ids_n, False
    probs_nK = targets.probs_NK[:, :num_entries].masked_fill(empty_nK, 0)
    teacher_nG, weight_n1 = objective.buckets(probs_nK)

    named_nK = logits_nV.gather(1, ids_nK).masked_fill_(empty_nK, -torch.inf)
    rest_nV = logits_nV.scatter_(1, ids_nK, -torch.inf)
    # Finite even if all tokens are named: -inf less -inf is no number.
    largest_n1 = rest_nV.amax(1, keepdim=True).clamp_min_(torch.finfo(torch.float32).min)
    rest_n1 = rest_nV.sub_(largest_n1).exp_().sum(1, keepdim=True)
    groups_nG = torch.cat([named_nK, rest_n1.log() + largest_n1], 1).requires_grad_()
    with torch.enable_grad():
        log_probs_nG = groups_nG.log_softmax(1)
        clm_n, fused_n = -log_probs_nG[:, 0], torch.zeros_like(weight_n1[:, 0])
        if objective.clm_weight < 1:
            divergence_n = weight_n1[:, 0] * objective.fused(teacher_nG, log_probs_nG)
            fused_n = torch.lerp(clm_n, divergence_n, targets.confidence_N)
        gradient_nG = objective.gradient(targets.weight_N, clm_n, fused_n, groups_nG)
    rest_nV.mul_(torch.where(rest_n1 > 0, gradient_nG[:, -1:] / rest_n1, 0))
    rest_nV.scatter_add_(1, ids_nK, gradient_nG[:, :-1])
    return targets.weight_N * clm_n.detach(), targets.weight_N * fused_n.detach()


def set_losses(
    objective: Objective, logits_nV: Tensor, next_ids_n: Tensor, targets: SetTargets, order_V: Tensor
) -> tuple[Tensor, Tensor]:
    """As `token_losses`, for set-valued targets."""
    if objective.clm_weight == 1:
        named = TokenTargets(next_ids_n[:, None], targets.probs_NI[:, :1], targets.confidence_N, targets.weight_N)
        return token_losses(objective, logits_nV, next_ids_n, named)
    losses = []
    for begin in range(0, len(logits_nV), _ROWS):
        rows = slice(begin, begin + _ROWS)
        part = SetTargets(*(tensor[rows] for tensor in targets))
        losses.append(_block_of_set_losses(objective, logits_nV[rows], next_ids_n[rows], part, order_V))
    clm_n, fused_n = (torch.cat(parts) for parts in zip(*losses, strict=True))
    return clm_n, fused_n


def _block_of_set_losses(
    objective: Objective, logits_nV: Tensor, next_ids_n: Tensor, targets: SetTargets, order_V: Tensor
) -> tuple[Tensor, Tensor]:
    """As `token_losses`.

    Masses are sums over the stretches of the vocabulary between neighbouring ends. As differences of cumulative sums,
    they and their gradients, which grow with the inverse of the mass, would be lost where the student believes little.
    """
    lengths_nS, within_nIS = _stretches(targets.low_NI, targets.high_NI, len(order_V))
    next_ids_n1 = next_ids_n[:, None]
    largest_n1 = logits_nV.amax(1, keepdim=True)
    next_n1 = logits_nV.gather(1, next_ids_n1) - largest_n1
    ordered_nV = logits_nV.sub_(largest_n1).exp_().index_select(1, order_V).double()
    lengths, size = lengths_nS.flatten(), ordered_nV.numel()
    sums_nS = torch.segment_reduce(ordered_nV.flatten(), "sum", lengths=lengths, initial=0).view_as(lengths_nS)
    inputs_nX = torch.cat([sums_nS, next_n1], 1).requires_grad_()
    with torch.enable_grad():
        sums_nS, next_n = inputs_nX[:, :-1], inputs_nX[:, -1]
        clm_n = sums_nS.sum(1).log() - next_n
        masses_nI2 = torch.stack([(within_nIS * sums_nS[:, None]).sum(2), (~within_nIS * sums_nS[:, None]).sum(2)], 2)
        # What float32 cannot hold beside the largest probability counts as the least that it can.
        log_probs_nI2 = masses_nI2.clamp_min(torch.finfo(torch.float32).tiny).log().log_softmax(2)
        teacher_nI2 = torch.stack([targets.probs_NI, 1 - targets.probs_NI], 2).double().clamp_min(0)
        fused_nI = objective.fused(teacher_nI2, log_probs_nI2).masked_fill(targets.low_NI == targets.high_NI, 0)
        fused_n = torch.lerp(clm_n, fused_nI.sum(1), targets.confidence_N.double())
        gradient_nX = objective.gradient(targets.weight_N, clm_n, fused_n, inputs_nX)
    slopes = gradient_nX[:, :-1].flatten().repeat_interleave(lengths, output_size=size)
    logits_nV.index_copy_(1, order_V, ordered_nV.mul_(slopes.view_as(ordered_nV)).float())
    logits_nV.scatter_add_(1, next_ids_n1, gradient_nX[:, -1:].float())
    return (targets.weight_N * clm_n.detach()).float(), (targets.weight_N * fused_n.detach()).float()


def _stretches(low_nI: Tensor, high_nI: Tensor, num_V: int) -> tuple[Tensor, Tensor]:
    """The numbers of tokens between neighbouring ends of intervals [n, S], S = 2 I + 1, and which of these stretches
    each interval is made of [n, I, S]."""
    first_n1, last_n1 = torch.zeros_like(low_nI[:, :1]), torch.full_like(low_nI[:, :1], num_V)
    ends = torch.cat([first_n1, low_nI, high_nI, last_n1], 1).sort(1).values
    within_nIS = (low_nI[:, :, None] <= ends[:, None, :-1]) & (ends[:, None, 1:] <= high_nI[:, :, None])
    return ends.diff(dim=1), within_nIS
