"""Changes that some arms make to what is said about a window: defects of the published code, and ideas.

Shapes as in `pta_ray.distributions`: M positions, K entries, entry 0 the actual next token.
"""

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from jobs.experiments.arms import Change
from pta_ray.distributions import Scores, SparseDistribution
from pta_ray.fusion.candidate import Candidate
from pta_ray.fusion.mixture import mix

Floats = npt.NDArray[np.float32]


def changed_target(change: Change | None, target: Scores, counts_V: npt.NDArray[np.int64]) -> Scores:
    """What the alignment takes for the target's belief: mass is shared out by that of its candidates."""
    if change != "corpus_counts":
        return target
    log_probs_V = np.log(np.maximum(counts_V, 0.5) / counts_V.sum()).astype(np.float32)
    return replace(
        target,
        next_log_probs_M=log_probs_V[target.next_ids_M],
        top_log_probs_MK=log_probs_V[np.maximum(target.top_ids_MK, 0)],
    )


def changed_own(change: Change | None, own: Candidate) -> Candidate:
    """What the target's own claim is taken for: if it shall be flattened too, for something that a source says."""
    return replace(own, is_own_M=np.zeros_like(own.is_own_M)) if change == "flatten_own" else own


def changed(
    change: Change | None,
    aligned: SparseDistribution,
    own: SparseDistribution,
    paired_M: npt.NDArray[np.bool_],
) -> SparseDistribution:
    """What an arm makes of a source's aligned distribution.

    Args:
        own: the target's own starting distribution.
        paired_M: where the tokens that come next in both sequences span the same bytes.
    """
    probs_MK, confidence_M = aligned.probs_MK, aligned.confidence_M
    named_MK = aligned.ids_MK >= 0
    match change:
        case "second_softmax":  # of the entries, as the published code does with transport masses
            exp_MK = np.where(named_MK, np.exp(probs_MK), 0)
            return replace(aligned, probs_MK=(exp_MK / exp_MK.sum(1, keepdims=True)).astype(np.float32))
        case "no_tail":
            total_M1 = probs_MK.sum(1, keepdims=True)
            return replace(aligned, probs_MK=probs_MK / np.where(total_M1 > 0, total_M1, 1))
        case "pairs_only":
            return replace(aligned, confidence_M=np.where(paired_M, confidence_M, 0))
        case "actual_only":
            ids_MK, only_MK = np.full_like(aligned.ids_MK, -1), np.zeros_like(probs_MK)
            ids_MK[:, 0], only_MK[:, 0] = aligned.ids_MK[:, 0], probs_MK[:, 0]
            return replace(aligned, ids_MK=ids_MK, probs_MK=only_MK)
        case "certainty":
            return replace(aligned, confidence_M=confidence_M * certainty(probs_MK))
        case "half_itself":
            return mix(aligned, own, 1, 1)
        case "gate":
            return replace(aligned, confidence_M=np.where(probs_MK[:, 0] > own.probs_MK[:, 0], confidence_M, 0))
    return aligned


def certainty(probs_MK: Floats) -> Floats:
    """1 less the entropy of the entries and the tail, over its maximum [M]."""
    tail_M1 = np.maximum(1 - probs_MK.sum(1, keepdims=True), 0)
    all_MG = np.concatenate([probs_MK, tail_M1], axis=1)
    logs_MG = np.log(np.where(all_MG > 0, all_MG, 1))
    return (1 + (all_MG * logs_MG).sum(1) / np.log(all_MG.shape[1])).astype(np.float32)
