"""Whether tokens spell a text, byte by byte."""

import numba
import numpy as np
import numpy.typing as npt

from pta_ray.tokenizers.byte_table import Role

_ORDINARY = int(Role.ORDINARY)
_SPACE = 32


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def spell(
    data_N: npt.NDArray[np.uint8],
    offsets_V1: npt.NDArray[np.int64],
    roles_V: npt.NDArray[np.uint8],
    ids_L: npt.NDArray[np.int32],
    text_N: npt.NDArray[np.uint8],
    ends_L: npt.NDArray[np.int64],
) -> bool:
    """Follows a text from offset `ends_L[0]` on, where offset -1 is a space before it, and fills in `ends_L`.

    False at the first byte that differs, or at a token that stands for no bytes, such as the unknown token.
    """
    at = ends_L[0]
    for n in range(len(ids_L)):
        i = ids_L[n]
        if roles_V[i] != _ORDINARY:
            return False
        for byte in data_N[offsets_V1[i] : offsets_V1[i + 1]]:
            if at >= len(text_N) or byte != (text_N[at] if at >= 0 else _SPACE):
                return False
            at += 1
        ends_L[n + 1] = at
    return True
