"""Batched entropic optimal transport, balanced and semi-relaxed, by Sinkhorn scaling.

Problems are solved `LANES` at a time with the lane as the innermost axis (suffix `_W`), so that every operation is a
loop of vector instructions over all of them.
"""

from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
import numpy.typing as npt

from pta_ray.alignment.conditioning import Array
from pta_ray.alignment.transport_in_logs import transport_in_logs
from pta_ray.alignment.vector_math import exp2, log2

MAX_ITERATIONS = 500
TOLERANCE = 1e-5
LANES = 64
_FIRST_ITERATIONS = 6

_LOG2_E = np.float32(np.log2(np.e))
_FAR = np.float32(2)  # beyond every cost
_TINY = np.float32(2.0**-100)
_LARGEST_SCALING = np.float32(2.0**40)  # beyond it, scalings are absorbed into the potentials
_SMALLEST_STEP = 0.02  # of 1 - rho / (rho + epsilon)
_ZERO, _ONE = np.float32(0), np.float32(1)
_MAX_EXPONENT = np.float32(100)  # of 2; what is smaller in the kernel is nothing

_vectorised = numba.njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract", "reassoc", "nsz"})


@dataclass(frozen=True)
class Transported:
    """What the transport plan of each boundary does."""

    masses_MY: npt.NDArray[np.float32]
    """What each target candidate receives."""
    largest_MC: npt.NDArray[np.int32]
    """The target candidate that receives most of each source candidate's mass; -1 where nothing is sent."""
    converged_M: npt.NDArray[np.bool_]
    """Whether the plan met its marginals within the tolerance; one that did not still sends all of p."""
    plan_MCY: npt.NDArray[np.float32]
    """The plans themselves if they were asked for, else empty."""


def transport(
    cost_MCY: npt.NDArray[np.float32],
    p_MC: npt.NDArray[np.float32],
    q_MY: npt.NDArray[np.float32],
    epsilon: float,
    rho: float,
    *,
    tolerance: float = TOLERANCE,
    max_iterations: int = MAX_ITERATIONS,
    with_plans: bool = False,
) -> Transported:
    """Solves, for every boundary m, with G the transport plan [C, Y]:

        min_G  <c, G> + epsilon * sum G (log G - 1) + rho * KL(G^T 1 || q)    subject to  G 1 = p

    by u = p / (K v), v = (q / (K^T u))^(rho / (rho + epsilon)), K = exp(-c / epsilon) (Chizat et al. 2018, "Scaling
    algorithms for unbalanced optimal transport", with its absorption of large scalings into potentials f and g).
    rho = infinity is balanced transport, rho = 0 none of q's pull. q is scaled to the mass of p. Entries with q = 0
    receive nothing, entries with p = 0 send nothing.

    The last half-step is that of u, so that all of p is sent; what is left to converge are the column sums. The
    balanced problem stops when they miss q, summed over the columns, by less than `tolerance` times the mass. Those of
    the relaxed one are not known beforehand, but a step brings log v nearer to its fixed point by rho / (rho + epsilon)
    at least: it stops when they have moved by less than `tolerance` times epsilon / (rho + epsilon).

    Where float32 has not the range for K, or a step is too small against its rounding, the problem is solved in
    logarithms and float64 instead, slowly, and the relaxed one stops when log v itself has moved by that little.
    """
    cost_MCY, p_MC, q_MY = (np.ascontiguousarray(a, np.float32) for a in (cost_MCY, p_MC, q_MY))
    num_M, num_C, num_Y = cost_MCY.shape
    found = Transported(
        np.zeros_like(q_MY),
        np.full((num_M, num_C), -1, np.int32),
        np.ones(num_M, np.bool_),
        np.zeros((num_M if with_plans else 0, num_C, num_Y), np.float32),
    )
    exponent = 1.0 if np.isinf(rho) else rho / (rho + epsilon)
    bound = tolerance if np.isinf(rho) else tolerance * (1 - exponent)
    results = found.masses_MY, found.largest_MC, found.converged_M, found.plan_MCY
    if _LOG2_E / epsilon > _MAX_EXPONENT or 0 < 1 - exponent < _SMALLEST_STEP:
        transport_in_logs(cost_MCY, p_MC, q_MY, epsilon, exponent, bound, max_iterations, *results)
        return found
    damping = 0.0 if np.isinf(rho) else 1 / (rho + epsilon)  # of the potentials that v has been absorbed into
    arguments = [np.float32(x) for x in (1 / epsilon, exponent, damping, bound)]
    # Problems of one size side by side: the largest of a block sets its size. Many converge at once, and the few that
    # do not are put together, so that they keep nobody waiting.
    size_M = (p_MC > 0).sum(1) * (num_Y + 1) + (q_MY > 0).sum(1)
    pending = np.argsort(size_M, kind="stable")
    for iterations in (min(_FIRST_ITERATIONS, max_iterations), max_iterations):
        _transport(cost_MCY, p_MC, q_MY, pending, *arguments, iterations, *results)
        pending = pending[~found.converged_M[pending]]
        if len(pending) == 0:
            break
    return found


@_vectorised
def _transport(
    cost_MCY: Array,
    p_MC: Array,
    q_MY: Array,
    pending: Array,
    inverse_epsilon: Any,
    exponent: Any,
    damping: Any,
    bound: Any,
    max_iterations: int,
    masses_MY: Array,
    largest_MC: Array,
    converged_M: Array,
    plan_MCY: Array,
) -> None:
    _, num_C, num_Y = cost_MCY.shape
    cost_CYW = np.empty((num_C, num_Y, LANES), np.float32)
    kernel_CYW = np.empty((num_C, num_Y, LANES), np.float32)
    buffers_CW = np.empty((3, num_C, LANES), np.float32)
    p_CW, f_CW, u_CW = buffers_CW[0], buffers_CW[1], buffers_CW[2]
    buffers_YW = np.empty((4, num_Y, LANES), np.float32)
    q_YW, g_YW, v_YW, masses_YW = buffers_YW[0], buffers_YW[1], buffers_YW[2], buffers_YW[3]
    rows_WC, columns_WY = np.empty((LANES, num_C), np.int64), np.empty((LANES, num_Y), np.int64)
    num_rows_W, num_columns_W = np.empty(LANES, np.int64), np.empty(LANES, np.int64)
    converged_W = np.empty(LANES, np.bool_)
    for first in range(0, len(pending), LANES):
        lanes = pending[first : first + LANES]
        for w in range(LANES):
            m = lanes[min(w, len(lanes) - 1)]  # the last lanes of the last block repeat a problem
            num_rows_W[w] = _used(p_MC[m], rows_WC[w])
            num_columns_W[w] = _used(q_MY[m], columns_WY[w])
        height, width = num_rows_W[0], num_columns_W[0]
        for w in range(1, LANES):
            height, width = max(height, num_rows_W[w]), max(width, num_columns_W[w])
        if height == 0 or width == 0:
            continue
        _fill(p_CW, height, _ZERO)
        _fill(q_YW, width, _ZERO)
        for c in range(height):
            _fill(cost_CYW[c], width, _ZERO)
        for w in range(LANES):
            m = lanes[min(w, len(lanes) - 1)]
            rows, columns = rows_WC[w, : num_rows_W[w]], columns_WY[w, : num_columns_W[w]]
            _load(cost_MCY[m], p_MC[m], q_MY[m], rows, columns, w, cost_CYW, p_CW, q_YW)
        _first_potentials(cost_CYW, p_CW, q_YW, height, width, f_CW, g_YW)
        _scale(
            cost_CYW, p_CW, q_YW, height, width, inverse_epsilon, exponent, damping, bound, max_iterations,
            kernel_CYW, f_CW, g_YW, u_CW, v_YW, masses_YW, converged_W,
        )  # fmt: skip
        for w in range(len(lanes)):
            m = lanes[w]
            converged_M[m] = converged_W[w]
            if num_rows_W[w] == 0 or num_columns_W[w] == 0:
                continue
            for y in range(num_columns_W[w]):
                masses_MY[m, columns_WY[w, y]] = masses_YW[y, w]
            rows, columns = rows_WC[w, : num_rows_W[w]], columns_WY[w, : num_columns_W[w]]
            plan_CY = plan_MCY[m] if len(plan_MCY) > 0 else plan_MCY[:0].reshape((0, num_Y))
            _store(kernel_CYW, u_CW, v_YW, rows, columns, w, largest_MC[m], plan_CY)


@_vectorised
def _fill(array_RW: Array, num_rows: int, value: Any) -> None:
    """Sets the first rows; numba takes seconds to compile each assignment to a slice."""
    for row in range(num_rows):
        for w in range(array_RW.shape[1]):
            array_RW[row, w] = value


@_vectorised
def _used(masses: Array, places: Array) -> int:
    """Lists the places of what is not 0."""
    count = 0
    for i in range(len(masses)):
        if masses[i] > 0:
            places[count] = i
            count += 1
    return count


@_vectorised
def _load(
    cost_CY: Array,
    p_C: Array,
    q_Y: Array,
    rows: Array,
    columns: Array,
    w: int,
    cost_CYW: Array,
    p_CW: Array,
    q_YW: Array,
) -> None:
    """Puts what is used of a problem into a lane, q scaled to the mass of p."""
    mass_p, mass_q = _ZERO, _ZERO
    for c in range(len(rows)):
        p_CW[c, w] = p_C[rows[c]]
        mass_p += p_C[rows[c]]
    for y in range(len(columns)):
        mass_q += q_Y[columns[y]]
    for y in range(len(columns)):
        q_YW[y, w] = q_Y[columns[y]] * (mass_p / mass_q)
    for c in range(len(rows)):
        for y in range(len(columns)):
            cost_CYW[c, y, w] = cost_CY[rows[c], columns[y]]


@_vectorised
def _store(
    kernel_CYW: Array,
    u_CW: Array,
    v_YW: Array,
    rows: Array,
    columns: Array,
    w: int,
    largest_C: Array,
    plan_CY: Array,
) -> None:
    """Takes out of a lane where each row sends most, and the plan if there is room for it."""
    for c in range(len(rows)):
        best, largest = 0, _ZERO
        for y in range(len(columns)):
            sent = kernel_CYW[c, y, w] * v_YW[y, w]
            if sent > largest:
                best, largest = y, sent
            if len(plan_CY) > 0:
                plan_CY[rows[c], columns[y]] = u_CW[c, w] * sent
        largest_C[rows[c]] = columns[best]


@_vectorised
def _first_potentials(
    cost_CYW: Array, p_CW: Array, q_YW: Array, height: int, width: int, f_CW: Array, g_YW: Array
) -> None:
    """The largest f, and then g, with f + g <= c: the kernel begins with a 1 in every row and every column, however
    small epsilon is."""
    num_W = cost_CYW.shape[2]
    _fill(f_CW, height, _FAR)
    _fill(g_YW, width, _FAR)
    for c in range(height):
        for y in range(width):
            for w in range(num_W):
                if q_YW[y, w] > 0:
                    f_CW[c, w] = min(f_CW[c, w], cost_CYW[c, y, w])
    for y in range(width):
        for c in range(height):
            for w in range(num_W):
                if p_CW[c, w] > 0:
                    g_YW[y, w] = min(g_YW[y, w], cost_CYW[c, y, w] - f_CW[c, w])


@_vectorised
def _scale(
    cost_CYW: Array,
    p_CW: Array,
    q_YW: Array,
    height: int,
    width: int,
    inverse_epsilon: Any,
    exponent: Any,
    damping: Any,
    bound: Any,
    max_iterations: int,
    kernel_CYW: Array,
    f_CW: Array,
    g_YW: Array,
    u_CW: Array,
    v_YW: Array,
    masses_YW: Array,
    converged_W: Array,
) -> None:
    """Iterates until all lanes have converged."""
    num_W = cost_CYW.shape[2]
    sums_YW, damped_YW = np.empty_like(v_YW), np.empty_like(v_YW)
    error_W, mass_W = np.empty(num_W, np.float32), np.zeros(num_W, np.float32)
    for c in range(height):
        for w in range(num_W):
            mass_W[w] += p_CW[c, w]
    _fill_kernel(cost_CYW, p_CW, q_YW, height, width, f_CW, g_YW, inverse_epsilon, damping, kernel_CYW, damped_YW)
    for y in range(width):
        for w in range(num_W):
            v_YW[y, w], masses_YW[y, w] = exp2(-damped_YW[y, w]), _ZERO
    for iteration in range(max_iterations):
        if iteration > 0:
            if _largest(u_CW, v_YW, height, width) > _LARGEST_SCALING:
                _absorb(u_CW, v_YW, height, width, inverse_epsilon, f_CW, g_YW)
                _fill_kernel(
                    cost_CYW, p_CW, q_YW, height, width, f_CW, g_YW, inverse_epsilon, damping, kernel_CYW, damped_YW
                )
                _fill(v_YW, width, _ONE)
                _scale_rows(kernel_CYW, p_CW, v_YW, height, width, u_CW, sums_YW)
            for y in range(width):
                for w in range(num_W):
                    ratio = q_YW[y, w] / max(sums_YW[y, w], _TINY)
                    v_YW[y, w] = ratio if exponent == _ONE else exp2(exponent * log2(ratio) - damped_YW[y, w])
        _scale_rows(kernel_CYW, p_CW, v_YW, height, width, u_CW, sums_YW)
        for w in range(num_W):
            error_W[w] = _ZERO
        for y in range(width):
            for w in range(num_W):
                mass = v_YW[y, w] * sums_YW[y, w]
                reference = q_YW[y, w] if exponent == _ONE else masses_YW[y, w]
                error_W[w] += abs(mass - reference)
                masses_YW[y, w] = mass
        all_converged = True
        for w in range(num_W):
            converged_W[w] = error_W[w] <= bound * mass_W[w] or exponent == _ZERO
            all_converged &= converged_W[w]
        if all_converged:
            break


@_vectorised
def _scale_rows(
    kernel_CYW: Array, p_CW: Array, v_YW: Array, height: int, width: int, u_CW: Array, sums_YW: Array
) -> None:
    """u = p / (K v), and K^T u."""
    num_W = kernel_CYW.shape[2]
    _fill(sums_YW, width, _ZERO)
    _fill(u_CW, height, _ZERO)
    for c in range(height):
        for y in range(width):
            for w in range(num_W):
                u_CW[c, w] += kernel_CYW[c, y, w] * v_YW[y, w]
        for w in range(num_W):
            u_CW[c, w] = p_CW[c, w] / max(u_CW[c, w], _TINY)
        for y in range(width):
            for w in range(num_W):
                sums_YW[y, w] += kernel_CYW[c, y, w] * u_CW[c, w]


@_vectorised
def _largest(u_CW: Array, v_YW: Array, height: int, width: int) -> Any:
    num_W = u_CW.shape[1]
    largest_W = np.zeros(num_W, np.float32)
    for c in range(height):
        for w in range(num_W):
            largest_W[w] = max(largest_W[w], u_CW[c, w])
    for y in range(width):
        for w in range(num_W):
            largest_W[w] = max(largest_W[w], v_YW[y, w])
    largest = _ZERO
    for w in range(num_W):
        largest = max(largest, largest_W[w])
    return largest


@_vectorised
def _absorb(u_CW: Array, v_YW: Array, height: int, width: int, inverse_epsilon: Any, f_CW: Array, g_YW: Array) -> None:
    """f += epsilon log u, g += epsilon log v."""
    num_W = u_CW.shape[1]
    scale = _ONE / (inverse_epsilon * _LOG2_E)
    for c in range(height):
        for w in range(num_W):
            f_CW[c, w] += scale * log2(max(u_CW[c, w], _TINY))
    for y in range(width):
        for w in range(num_W):
            g_YW[y, w] += scale * log2(max(v_YW[y, w], _TINY))


@_vectorised
def _fill_kernel(
    cost_CYW: Array,
    p_CW: Array,
    q_YW: Array,
    height: int,
    width: int,
    f_CW: Array,
    g_YW: Array,
    inverse_epsilon: Any,
    damping: Any,
    kernel_CYW: Array,
    damped_YW: Array,
) -> None:
    """K = exp((f + g - c) / epsilon), 0 where nothing is sent or received; and log2 of what damps v for its
    potential."""
    num_W = cost_CYW.shape[2]
    for y in range(width):
        for w in range(num_W):
            damped_YW[y, w] = g_YW[y, w] * damping * _LOG2_E
    for c in range(height):
        for y in range(width):
            for w in range(num_W):
                exponent = (f_CW[c, w] + g_YW[y, w] - cost_CYW[c, y, w]) * inverse_epsilon * _LOG2_E
                used = p_CW[c, w] > 0 and q_YW[y, w] > 0
                kernel_CYW[c, y, w] = exp2(exponent) if used and exponent > -_MAX_EXPONENT else _ZERO
