"""The training objective in float64, bucket by bucket and token by token, over whole softmaxes:

    L = sum_n weight_n * (w * CLM_n + (1 - w) * (c_n * D_n + (1 - c_n) * CLM_n))

Differentiable, so that its gradients are an oracle too.
"""

import torch

from pta_ray.config import Divergence, Tail
from pta_ray.training.divergence import TEACHER_FLOOR
from pta_ray.training.loss import SetTargets, TokenTargets

Tensor = torch.Tensor


def plain_divergence(kind: Divergence, temperature: float, teacher: list[float], student: list[Tensor]) -> Tensor:
    """Between two distributions over the same buckets; what is 0 in the student has to be so in the teacher."""
    p_total = sum(prob ** (1 / temperature) for prob in teacher)
    p = [prob ** (1 / temperature) / p_total for prob in teacher]
    # Neither a value nor a slope comes from an empty bucket.
    q_powers = [prob ** (1 / temperature) if prob > 0 else prob.detach() for prob in student]
    q_total = torch.stack(q_powers).sum()
    q = [power / q_total for power in q_powers]
    terms = []
    for p_i, q_i in zip(p, q, strict=True):
        p_i = q_i.new_tensor(p_i)
        m_i = (p_i + q_i) / 2
        if kind == "cross_entropy" and p_i > 0:
            terms.append(-p_i * q_i.log())
        if kind == "forward_kl" and p_i > 0:
            terms.append(p_i * (p_i / q_i).log())
        if kind == "reverse_kl" and q_i > 0:
            terms.append(q_i * (q_i / max(p_i, q_i.new_tensor(TEACHER_FLOOR))).log())
        if kind == "jsd" and p_i > 0:
            terms.append(p_i * (p_i / m_i).log() / 2)
        if kind == "jsd" and q_i > 0:
            terms.append(q_i * (q_i / m_i).log() / 2)
    return temperature**2 * torch.stack(terms).sum()


def dense_objective(
    logits_NV: Tensor,
    next_ids: list[int],
    targets: TokenTargets | SetTargets,
    clm_weight: float,
    kind: Divergence,
    temperature: float,
    tail: Tail,
    sorted_ids: list[int],
) -> tuple[Tensor, list[float], list[float]]:
    """L, and by position the weighted CLM and c D + (1 - c) CLM."""
    total, clms, fuseds = logits_NV.new_zeros(()), [], []
    for n, probs_V in enumerate(logits_NV.softmax(-1)):
        clm, weight, confidence = (
            -probs_V[next_ids[n]].log(),
            float(targets.weight_N[n]),
            float(targets.confidence_N[n]),
        )
        fused = (1 - confidence) * clm
        if confidence > 0:
            divergence = position_divergence(probs_V, n, targets, kind, temperature, tail, sorted_ids)
            fused = fused + confidence * divergence
        total = total + weight * (clm_weight * clm + (1 - clm_weight) * fused)
        clms.append(weight * clm.item())
        fuseds.append(weight * fused.item())
    return total, clms, fuseds


def position_divergence(
    probs_V: Tensor,
    n: int,
    targets: TokenTargets | SetTargets,
    kind: Divergence,
    temperature: float,
    tail: Tail,
    sorted_ids: list[int],
) -> Tensor:
    """D of one position, whose student distribution is given."""
    if isinstance(targets, TokenTargets):
        pairs = zip(targets.ids_NK[n].tolist(), targets.probs_NK[n].double().tolist(), strict=True)
        named = {token: prob for token, prob in pairs if token >= 0}
        rest = [token for token in range(len(probs_V)) if token not in named]
        student = [*(probs_V[i] for i in named), probs_V[rest].sum()]
        if tail == "bucket" or kind in ("reverse_kl", "jsd"):
            teacher = [*named.values(), max(1 - sum(named.values()), 0)]
            return plain_divergence(kind, temperature, teacher, student)
        [actual, *others] = named.values()
        if not any(prob >= 1e-3 and actual >= prob for prob in others):
            actual = 1.0
        elif len(named) == len(targets.ids_NK[n]):
            others[others.index(min(others))] = 0.0
        mass = actual + sum(others)
        return mass * plain_divergence(kind, temperature, [p / mass for p in (actual, *others, 0)], student)
    result = probs_V.new_zeros(())
    entries = (targets.low_NI[n].tolist(), targets.high_NI[n].tolist(), targets.probs_NI[n].double().tolist())
    for low, high, prob in zip(*entries, strict=True):
        if low < high:
            inside = sorted_ids[low:high]
            outside = [token for token in range(len(probs_V)) if token not in inside]
            student = [probs_V[inside].sum(), probs_V[outside].sum()]
            result = result + plain_divergence(kind, temperature, [prob, 1 - prob], student)
    return result
