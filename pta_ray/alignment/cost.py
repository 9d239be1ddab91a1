"""Transport costs between a source's and the target's candidates, both as byte strings. All lie between 0 and 1.

The end of the document costs nothing to the end of the document and 1 to everything else.
"""

from collections.abc import Callable
from typing import Literal

import numba
import numpy as np
import numpy.typing as npt

from pta_ray.alignment.candidates import TargetCandidates
from pta_ray.alignment.conditioning import EOS_LENGTH, Array, SourceCandidates
from pta_ray.tokenizers.byte_table import ByteTable


def transport_cost(
    cost: Literal["prefix", "edit"],
    source_table: ByteTable,
    source: SourceCandidates,
    target_table: ByteTable,
    target: TargetCandidates,
) -> npt.NDArray[np.float32]:
    """The cost [M, C, Y] of moving each source candidate's mass to each target candidate.

    `prefix`: 1 - common prefix / shorter length, so 0 where one string begins with the other.
    `edit`: Levenshtein distance / longer length (Zeng et al. 2025, section 3).
    """
    kernel = _prefix_cost if cost == "prefix" else _edit_cost
    result: npt.NDArray[np.float32] = _costs(
        kernel, source_table.data_N, source.starts_TC, source.lengths_TC,
        target_table.data_N, target_table.offsets_V1, target_table.eos_id, target.ids_MY,
    )  # fmt: skip
    return result


@numba.njit(cache=True, nogil=True)
def _costs(
    kernel: Callable[[Array, Array], float],
    source_data_N: Array,
    starts_TC: Array,
    lengths_TC: Array,
    data_N: Array,
    offsets_V1: Array,
    eos_id: int,
    ids_MY: Array,
) -> Array:
    num_M, num_Y = ids_MY.shape
    num_C = starts_TC.shape[1]
    cost_MCY = np.ones((num_M, num_C, num_Y), np.float32)
    for m in range(num_M):
        for c in range(num_C):
            start, length = starts_TC[m, c], lengths_TC[m, c]
            if length == 0:
                continue
            for y in range(num_Y):
                i = ids_MY[m, y]
                if i < 0:
                    continue
                if length == EOS_LENGTH or i == eos_id:
                    cost_MCY[m, c, y] = 0.0 if length == EOS_LENGTH and i == eos_id else 1.0
                else:
                    cost_MCY[m, c, y] = kernel(
                        source_data_N[start : start + length], data_N[offsets_V1[i] : offsets_V1[i + 1]]
                    )
    return cost_MCY


@numba.njit(cache=True, nogil=True)
def _prefix_cost(x: Array, y: Array) -> float:
    shorter = min(len(x), len(y))
    common = 0
    while common < shorter and x[common] == y[common]:
        common += 1
    return 1.0 - common / shorter


@numba.njit(cache=True, nogil=True)
def _edit_cost(x: Array, y: Array) -> float:
    row = np.arange(len(y) + 1)
    for i in range(len(x)):
        diagonal = row[0]
        row[0] = i + 1
        for j in range(len(y)):
            substituted = diagonal + (x[i] != y[j])
            diagonal = row[j + 1]
            row[j + 1] = min(substituted, row[j] + 1, diagonal + 1)
    return float(row[len(y)] / max(len(x), len(y)))
