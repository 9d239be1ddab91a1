"""The target's candidates at each boundary: what the source's mass may be transported to."""

from dataclasses import dataclass

import numba
import numpy as np
import numpy.typing as npt

from pta_ray.alignment.conditioning import EOS_LENGTH, Array, SourceCandidates
from pta_ray.tokenizers.byte_table import ByteTable


@dataclass(frozen=True)
class TargetCandidates:
    """Distinct target tokens per predicting boundary, entry 0 the actual next one."""

    ids_MY: npt.NDArray[np.int32]
    """-1 marks an empty entry."""
    probs_MY: npt.NDArray[np.float32]
    """The target's own belief; tokens outside its top-k share its tail evenly with the rest of the vocabulary."""


def target_candidates(
    source_table: ByteTable,
    source: SourceCandidates,
    target_table: ByteTable,
    next_ids_M: npt.NDArray[np.int32],
    next_log_probs_M: npt.NDArray[np.float32],
    top_ids_MK: npt.NDArray[np.int32],
    top_log_probs_MK: npt.NDArray[np.float32],
) -> TargetCandidates:
    """Joins the actual next token, the target's top-k and, for each source candidate, the longest target token that it
    begins with: itself, where the target has the same token."""
    return TargetCandidates(
        *_target_candidates(
            source_table.data_N, source.starts_TC, source.lengths_TC,
            target_table.data_N, target_table.offsets_V1, target_table.sorted_ids_O, target_table.eos_id,
            next_ids_M, np.exp(next_log_probs_M), top_ids_MK, np.exp(top_log_probs_MK, dtype=np.float32),
        )
    )  # fmt: skip


@numba.njit(cache=True, nogil=True)
def longest_prefix(x: Array, data_N: Array, offsets_V1: Array, sorted_ids_O: Array) -> int:
    """The longest token that a byte string begins with, -1 if there is none.

    Tokens that share their first d bytes are a range of the byte-sorted vocabulary; each further byte of x narrows the
    range by two binary searches, and a token of exactly d bytes stands first in its range.
    """
    best, low, high = -1, 0, len(sorted_ids_O)
    for depth in range(len(x)):
        low = _bisect(x[depth], depth, data_N, offsets_V1, sorted_ids_O, low, high)
        high = _bisect(x[depth] + 1, depth, data_N, offsets_V1, sorted_ids_O, low, high)
        if low == high:
            break
        i = sorted_ids_O[low]
        if offsets_V1[i + 1] - offsets_V1[i] == depth + 1:
            best = i
    return best


@numba.njit(cache=True, nogil=True)
def _bisect(byte: int, depth: int, data_N: Array, offsets_V1: Array, sorted_ids_O: Array, low: int, high: int) -> int:
    """The first place in [low, high) whose token has a byte of at least this value at this depth."""
    while low < high:
        middle = (low + high) // 2
        i = sorted_ids_O[middle]
        at = offsets_V1[i] + depth
        if at >= offsets_V1[i + 1] or data_N[at] < byte:
            low = middle + 1
        else:
            high = middle
    return low


@numba.njit(cache=True, nogil=True)
def _target_candidates(
    source_data_N: Array,
    starts_TC: Array,
    lengths_TC: Array,
    data_N: Array,
    offsets_V1: Array,
    sorted_ids_O: Array,
    eos_id: int,
    next_ids_M: Array,
    next_probs_M: Array,
    top_ids_MK: Array,
    top_probs_MK: Array,
) -> tuple[Array, Array]:
    num_M, num_K = top_ids_MK.shape
    num_V, num_C = len(offsets_V1) - 1, starts_TC.shape[1]
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
            length = lengths_TC[m, c]
            i = -1
            if length == EOS_LENGTH:
                i = eos_id
            elif length > 0:
                start = starts_TC[m, c]
                i = longest_prefix(source_data_N[start : start + length], data_N, offsets_V1, sorted_ids_O)
            if i >= 0 and not np.any(ids_MY[m, :count] == i):
                ids_MY[m, count], probs_MY[m, count] = i, floor
                count += 1
    return ids_MY, probs_MY
