"""The target's candidates at each boundary: what the source's mass may be transported to."""

from dataclasses import dataclass
from typing import Literal

import numba
import numpy as np
import numpy.typing as npt

from pta_ray.alignment.conditioning import EOS_LENGTH, Array, SourceCandidates
from pta_ray.alignment.trie import Trie, walk
from pta_ray.alignment.vocabularies import Vocabularies
from pta_ray.distributions import Scores

Joined = Literal["none", "piece", "nearest"]
"""What joins the target's own top-k, once per source candidate: nothing; the longest target token that the candidate
begins with, which is itself where the target has it; or its nearest token in the vocabulary by edit distance."""

_NO_MAP = np.empty(0, np.int32)


@dataclass(frozen=True)
class TargetCandidates:
    """Distinct target tokens per predicting boundary, entry 0 the actual next one."""

    ids_MY: npt.NDArray[np.int32]
    """-1 marks an empty entry; they come last."""
    probs_MY: npt.NDArray[np.float32]
    """The target's own belief; tokens outside its top-k share its tail evenly with the rest of the vocabulary."""


def target_candidates(
    vocabularies: Vocabularies,
    source: SourceCandidates,
    p_MC: npt.NDArray[np.float32],
    target: Scores,
    joined: Joined,
) -> TargetCandidates:
    """Joins the actual next token, the target's top-k and what stands for each source candidate that has mass p to
    move.

    What is left of a candidate inside its token is no token of the source's vocabulary, and has no nearest one: its
    longest beginning stands for it then too.
    """
    table = vocabularies.target
    match joined:
        case "piece":
            mapped_V = vocabularies.piece_V
        case "nearest":
            mapped_V = vocabularies.nearest_V
        case _:
            mapped_V = _NO_MAP
    return TargetCandidates(
        *_target_candidates(
            vocabularies.source.data_N, vocabularies.source.offsets_V1, source.ids_TC, source.starts_TC,
            source.lengths_TC, p_MC, vocabularies.trie, mapped_V, table.offsets_V1, table.eos_id,
            target.next_ids_M, np.exp(target.next_log_probs_M), target.top_ids_MK,
            np.exp(target.top_log_probs_MK, dtype=np.float32),
        )
    )  # fmt: skip


@numba.njit(cache=True, nogil=True)
def _target_candidates(
    source_data_N: Array,
    source_offsets_V1: Array,
    ids_TC: Array,
    starts_TC: Array,
    lengths_TC: Array,
    p_MC: Array,
    trie: Trie,
    mapped_V: Array,
    offsets_V1: Array,
    eos_id: int,
    next_ids_M: Array,
    next_probs_M: Array,
    top_ids_MK: Array,
    top_probs_MK: Array,
) -> tuple[Array, Array]:
    num_M, num_K = top_ids_MK.shape
    num_V, num_C = len(offsets_V1) - 1, ids_TC.shape[1] if len(mapped_V) > 0 else 0
    ids_MY = np.full((num_M, 1 + num_K + num_C), -1, np.int32)
    probs_MY = np.zeros((num_M, 1 + num_K + num_C), np.float32)
    for m in range(num_M):
        ids_MY[m, 0], probs_MY[m, 0] = next_ids_M[m], next_probs_M[m]
        count, head = 1, next_probs_M[m]
        for k in range(num_K):
            i = top_ids_MK[m, k]
            if 0 <= i < num_V and i != next_ids_M[m] and (i == eos_id or offsets_V1[i + 1] > offsets_V1[i]):
                ids_MY[m, count], probs_MY[m, count] = i, top_probs_MK[m, k]
                head += top_probs_MK[m, k]
                count += 1
        floor = max(1.0 - head, 1e-6) / num_V
        for c in range(num_C):
            x = ids_TC[m, c]
            if p_MC[m, c] <= 0:
                continue
            start = starts_TC[m, c]
            if start == source_offsets_V1[x] or lengths_TC[m, c] == EOS_LENGTH:
                i = mapped_V[x]
            else:
                i, _, _ = walk(trie, source_data_N[start : start + lengths_TC[m, c]])
            if i >= 0 and not _holds(ids_MY, m, count, i):
                ids_MY[m, count], probs_MY[m, count] = i, floor
                count += 1
    return ids_MY, probs_MY


@numba.njit(cache=True, nogil=True)
def _holds(ids_MY: Array, m: int, count: int, i: int) -> bool:
    for y in range(count):
        if ids_MY[m, y] == i:
            return True
    return False
