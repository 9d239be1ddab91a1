"""What a source says at each boundary of the target, still in the source's own tokens.

At a boundary that both share it is the source's next-token distribution. At a boundary inside a source token it is that
token's distribution, conditioned on the bytes already read: with r the residue between the last source boundary and
this one, candidates x with x = r + x' are kept as x'.

The source's probability of the text up to boundary b follows from the chain rule,

    F(b) = sum of log p(source token) over the tokens that end by b  +  log M(r),   M(r) = sum of p(x), x begins with r

and so the source's exact probability of the target's next token, from b to b', is exp(F(b') - F(b)). M(r) is summed
over the candidates there are; over a window F telescopes to the source's own log-probability of the text whatever they
leave out.
"""

from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
import numpy.typing as npt

from pta_ray.tokenizers.byte_table import ByteTable, Role

EOS_LENGTH = -1
"""In place of a length in bytes: this candidate ends the document."""

Array = npt.NDArray[Any]

_ORDINARY, _EOS = int(Role.ORDINARY), int(Role.EOS)


@dataclass(frozen=True)
class SourceCandidates:
    """The source's candidates at the target's boundaries, as byte strings in the source's table; the actual token
    first."""

    ids_TC: npt.NDArray[np.int32]
    """The tokens; -1 where there is no candidate."""
    starts_TC: npt.NDArray[np.int64]
    """Where a candidate's remaining bytes begin in `ByteTable.data_N`."""
    lengths_TC: npt.NDArray[np.int32]
    """How many bytes remain; 0 where there is no candidate, `EOS_LENGTH` for the end of the document."""
    probs_TC: npt.NDArray[np.float32]
    """Conditional on the residue; what is missing to 1 is tail mass."""
    retained_T: npt.NDArray[np.float32]
    """M(r), the probability that the source gave to what was read since its last boundary; 1 where nothing was."""
    log_prefix_T: npt.NDArray[np.float64]
    """F(b) in nats; minus infinity where the source cannot follow the text."""


def condition(
    table: ByteTable,
    text: bytes,
    ends_S: npt.NDArray[np.int64],
    ends_T: npt.NDArray[np.int64],
    last_T: npt.NDArray[np.int64],
    next_ids_S: npt.NDArray[np.int32],
    next_log_probs_S: npt.NDArray[np.float32],
    top_ids_SK: npt.NDArray[np.int32],
    top_log_probs_SK: npt.NDArray[np.float32],
) -> SourceCandidates:
    """Conditions a source's distributions on the target's boundaries.

    Args:
        table: the source tokenizer's bytes.
        text: the window.
        ends_S, ends_T: byte offsets of both models' boundaries, -1 before a dummy prefix, len(text) + 1 after EOS.
        last_T: from `pair_boundaries`.
        next_ids_S, next_log_probs_S: the source's actual next token at its boundaries (S - 1 entries), in nats.
        top_ids_SK, top_log_probs_SK: its most probable next tokens there; ids below 0 are skipped.
    """
    cumulative_S = np.concatenate([[0.0], np.cumsum(next_log_probs_S, dtype=np.float64)])
    ids_SC = np.concatenate([next_ids_S[:, None], top_ids_SK], axis=1)
    probs_SC = np.exp(np.concatenate([next_log_probs_S[:, None], top_log_probs_SK], axis=1), dtype=np.float32)
    # The bytes are those of the text behind one space, so that offset -1, before a dummy prefix, is an index too.
    buffer = np.frombuffer(b" " + text, np.uint8)
    return SourceCandidates(
        *_condition(
            table.data_N, table.offsets_V1, table.roles_V, buffer, ends_S + 1, ends_T + 1, last_T, cumulative_S, ids_SC,
            probs_SC,
        )
    )  # fmt: skip


@numba.njit(cache=True, nogil=True)
def _condition(
    data_N: Array,
    offsets_V1: Array,
    roles_V: Array,
    buffer: Array,
    ends_S: Array,
    ends_T: Array,
    last_T: Array,
    cumulative_S: Array,
    ids_SC: Array,
    probs_SC: Array,
) -> tuple[Array, Array, Array, Array, Array, Array]:
    num_T, num_C, num_V = len(ends_T), ids_SC.shape[1], len(roles_V)
    kept_TC = np.full((num_T, num_C), -1, np.int32)
    starts_TC = np.zeros((num_T, num_C), np.int64)
    lengths_TC = np.zeros((num_T, num_C), np.int32)
    probs_TC = np.zeros((num_T, num_C), np.float32)
    retained_T = np.zeros(num_T, np.float32)
    log_prefix_T = np.full(num_T, -np.inf)
    for t in range(num_T):
        s = last_T[t]
        if s < 0:
            continue
        begin, residue = ends_S[s], ends_T[t] - ends_S[s]
        if residue == 0:
            retained_T[t] = 1
            log_prefix_T[t] = cumulative_S[s]
        if s >= len(ids_SC) or (residue > 0 and ends_T[t] > len(buffer)):
            continue  # the source has read all it was given, or the residue is the end of the document
        retained = 0.0
        for c in range(num_C):
            i, p = ids_SC[s, c], probs_SC[s, c]
            if i < 0 or i >= num_V or (c > 0 and i == ids_SC[s, 0]):
                continue
            start, length = offsets_V1[i], offsets_V1[i + 1] - offsets_V1[i]
            if residue == 0 and roles_V[i] == _EOS:
                length = EOS_LENGTH
            elif roles_V[i] != _ORDINARY or not begins(data_N, start, length, buffer, begin, residue):
                continue
            else:
                retained += p
                start, length = start + residue, length - residue
            if length != 0:
                kept_TC[t, c], starts_TC[t, c], lengths_TC[t, c], probs_TC[t, c] = i, start, length, p
        if residue > 0 and retained > 0:
            retained_T[t] = retained
            log_prefix_T[t] = cumulative_S[s] + np.log(retained)
            for c in range(num_C):
                probs_TC[t, c] /= retained
    return kept_TC, starts_TC, lengths_TC, probs_TC, retained_T, log_prefix_T


@numba.njit(cache=True, nogil=True)
def begins(data_N: Array, start: int, length: int, text: Array, begin: int, size: int) -> bool:
    """Whether a token begins with `size` bytes of the text."""
    if length < size:
        return False
    for i in range(size):
        if data_N[start + i] != text[begin + i]:
            return False
    return True
