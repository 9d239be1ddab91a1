"""Dynamic token pairing: which source boundary answers for which target boundary.

Where both tokenizations spell the same bytes, the minimum-cost pairing is a walk over the two rising sequences of byte
offsets: every offset they share closes a group (1-1, 1-N, N-1, N-M).
"""

import numba
import numpy as np
import numpy.typing as npt


@numba.njit(cache=True, nogil=True)
def pair_boundaries(ends_S: npt.NDArray[np.int64], ends_T: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """For every target boundary, the last source boundary at or before it, -1 where there is none. O(S + T).

    Both arguments rise, not always strictly: of several source boundaries at one offset the last has read the most.
    """
    last_T = np.empty(len(ends_T), np.int64)
    s = -1
    for t in range(len(ends_T)):
        while s + 1 < len(ends_S) and ends_S[s + 1] <= ends_T[t]:
            s += 1
        last_T[t] = s
    return last_T
