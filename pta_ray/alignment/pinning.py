"""The actual next target token's exact probability under the source, and which mass is left for the other
candidates."""

from dataclasses import dataclass

import numba
import numpy as np
import numpy.typing as npt

from pta_ray.alignment.conditioning import Array, SourceCandidates, begins
from pta_ray.tokenizers.byte_table import ByteTable


@dataclass(frozen=True)
class Pinned:
    """A source's mass at the boundaries that predict a token, parted into the actual one and the rest."""

    actual_M: npt.NDArray[np.float32]
    """exp(F(b') - F(b)), see `conditioning`."""
    rest_MC: npt.NDArray[np.float32]
    """What each source candidate has left for other tokens; the remainder to 1 is tail. 0 where nothing is spoken."""
    spoken_M: npt.NDArray[np.bool_]
    """Whether the source could follow the text over the token."""


def pin(
    table: ByteTable,
    source: SourceCandidates,
    text: bytes,
    ends_T: npt.NDArray[np.int64],
    last_T: npt.NDArray[np.int64],
) -> Pinned:
    """Takes the probability of the actual token out of the candidates that it is made of.

    Where the source's own next token ends with the target's or before it, that token gives it: what it has beyond, it
    has for texts that go on in another way. Where the target's token ends inside the source's, every candidate that
    begins with the target's token is part of its probability, and has nothing left.
    """
    log_prefix_T = source.log_prefix_T
    spoken_M = np.isfinite(log_prefix_T[:-1]) & np.isfinite(log_prefix_T[1:]) & (source.ids_TC[:-1, 0] >= 0)
    log_actual_M = np.full(len(spoken_M), -np.inf)
    np.subtract(log_prefix_T[1:], log_prefix_T[:-1], out=log_actual_M, where=spoken_M)
    actual_M = np.exp(np.minimum(log_actual_M, 0)).astype(np.float32)
    # The bytes behind one space, as in `condition`.
    buffer = np.frombuffer(b" " + text, np.uint8)
    rest_MC = _rest(
        table.data_N,
        source.starts_TC,
        source.lengths_TC,
        source.probs_TC,
        actual_M,
        spoken_M,
        buffer,
        ends_T + 1,
        last_T,
    )
    return Pinned(actual_M, rest_MC, spoken_M)


@numba.njit(cache=True, nogil=True)
def _rest(
    data_N: Array,
    starts_TC: Array,
    lengths_TC: Array,
    probs_TC: Array,
    actual_M: Array,
    spoken_M: Array,
    buffer: Array,
    ends_T: Array,
    last_T: Array,
) -> Array:
    rest_MC = probs_TC[:-1].copy()
    num_M, num_C = rest_MC.shape
    for m in range(num_M):
        if not spoken_M[m]:
            rest_MC[m] = 0
            continue
        if last_T[m + 1] > last_T[m]:
            rest_MC[m, 0] = max(rest_MC[m, 0] - actual_M[m], 0)
            continue
        begin, size = ends_T[m], ends_T[m + 1] - ends_T[m]
        for c in range(num_C):
            if begins(data_N, starts_TC[m, c], lengths_TC[m, c], buffer, begin, size):
                rest_MC[m, c] = 0
    return rest_MC
