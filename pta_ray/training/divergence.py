"""What is minimised between a fused distribution p and the student's q, over a few buckets.

Buckets are events that exclude each other and together are certain: the entries of a distribution and its tail, or an
interval and what lies outside it. A bucket may be empty on both sides. With 0 log 0 = 0 and both flattened by the
temperature T (Hinton et al. 2015, "Distilling the knowledge in a neural network", section 2),

    p_i = teacher_i ^ (1/T) / sum_j teacher_j ^ (1/T),    q_i = student_i ^ (1/T) / sum_j student_j ^ (1/T)

    cross_entropy   T^2 * -sum_i p_i log q_i
    forward_kl      T^2 *  sum_i p_i log (p_i / q_i)
    reverse_kl      T^2 *  sum_i q_i log (q_i / p_i)
    jsd             T^2 * (sum_i p_i log (p_i / m_i) + sum_i q_i log (q_i / m_i)) / 2,    m = (p + q) / 2

T^2 keeps gradients about as large as they are at T = 1 (same place). All but the first are 0 where p = q.

Shapes: C buckets.
"""

from typing import get_args

import torch

from pta_ray.config import Divergence

DIVERGENCES: tuple[Divergence, ...] = get_args(Divergence)

TEACHER_FLOOR = 1e-6
"""The least that `reverse_kl` takes a teacher's bucket to hold: one emptied by rounding would cost without end."""


def divergence(
    kind: Divergence, temperature: float, teacher_probs: torch.Tensor, student_log_probs: torch.Tensor
) -> torch.Tensor:
    """The divergence in nats, differentiable in the student's log-probabilities.

    Args:
        teacher_probs: [..., C], adding up to 1; 0 marks an empty bucket.
        student_log_probs: [..., C], natural logarithms; -inf marks an empty bucket. The gradient there is 0, and stays
            finite elsewhere.

    Returns:
        [...]. Infinite where the student has nothing of what `cross_entropy` and `forward_kl` ask for. `reverse_kl`
        can fall below 0, by `TEACHER_FLOOR` per bucket at most.
    """
    p = teacher_probs ** (1 / temperature)
    p = p / p.sum(-1, keepdim=True)
    log_q = torch.log_softmax(student_log_probs / temperature, -1)
    match kind:
        case "cross_entropy":
            result = -_expected(p, log_q)
        case "forward_kl":
            result = torch.special.xlogy(p, p).sum(-1) - _expected(p, log_q)
        case "reverse_kl":
            q, log_q = _without_infinities(log_q)
            result = (q * (log_q - p.clamp_min(TEACHER_FLOOR).log())).sum(-1)
        case "jsd":
            q, log_q = _without_infinities(log_q)
            m = (p + q) / 2
            log_m = torch.where(m > 0, m, 1).log()
            result = (torch.special.xlogy(p, p) + q * log_q - 2 * m * log_m).sum(-1) / 2
    return temperature**2 * result


def _expected(p: torch.Tensor, log_q: torch.Tensor) -> torch.Tensor:
    """sum_i p_i log q_i over the last axis, 0 where p is."""
    return torch.where(p > 0, p * log_q, 0).sum(-1)


def _without_infinities(log_q: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """q and its logarithm, both 0 in empty buckets: q log q then has a value and a gradient everywhere."""
    empty = log_q == -torch.inf
    log_q = log_q.masked_fill(empty, 0)
    return log_q.exp().masked_fill(empty, 0), log_q
