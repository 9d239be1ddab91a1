"""From transport plans to sparse distributions in the target's vocabulary: cut to top-k, the tail kept."""

import numba
import numpy as np

from pta_ray.alignment.conditioning import Array


@numba.njit(cache=True, nogil=True)
def hard_masses(largest_MC: Array, p_MC: Array, num_Y: int) -> Array:
    """Sends each row's mass p to the column that receives most of it [M, Y] (figure 2 of Zeng et al. 2025)."""
    num_M, num_C = p_MC.shape
    masses_MY = np.zeros((num_M, num_Y), np.float32)
    for m in range(num_M):
        for c in range(num_C):
            if largest_MC[m, c] >= 0:
                masses_MY[m, largest_MC[m, c]] += p_MC[m, c]
    return masses_MY


@numba.njit(cache=True, nogil=True)
def keep_top(ids_MY: Array, masses_MY: Array, top_k: int) -> tuple[Array, Array]:
    """Ids [M, 1 + top_k] and probabilities of entry 0, the actual next token, and of the most probable `top_k` others
    in falling order; -1 and 0 where nothing is left. What is cut off is tail."""
    num_M, num_Y = ids_MY.shape
    ids_MK = np.full((num_M, 1 + top_k), -1, np.int32)
    probs_MK = np.zeros((num_M, 1 + top_k), np.float32)
    for m in range(num_M):
        ids_MK[m, 0], probs_MK[m, 0] = ids_MY[m, 0], masses_MY[m, 0]
        count = 1
        for y in range(1, num_Y):
            mass = masses_MY[m, y]
            if mass <= 0 or (count > top_k and mass <= probs_MK[m, top_k]):
                continue
            place = min(count, top_k)
            while place > 1 and probs_MK[m, place - 1] < mass:
                ids_MK[m, place], probs_MK[m, place] = ids_MK[m, place - 1], probs_MK[m, place - 1]
                place -= 1
            ids_MK[m, place], probs_MK[m, place] = ids_MY[m, y], mass
            count = min(count + 1, top_k + 1)
    return ids_MK, probs_MK
