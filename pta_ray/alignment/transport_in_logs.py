"""Sinkhorn scaling in the log domain and float64, one problem after another: for what float32 has not the range for."""

import numba
import numpy as np

from pta_ray.alignment.conditioning import Array


@numba.njit(cache=True, nogil=True)
def transport_in_logs(
    cost_MCY: Array,
    p_MC: Array,
    q_MY: Array,
    epsilon: float,
    exponent: float,
    bound: float,
    max_iterations: int,
    masses_MY: Array,
    largest_MC: Array,
    converged_M: Array,
    plan_MCY: Array,
) -> None:
    """Fills in the last four arguments, see `Transported`; the plans only if there is room for them.

    log u = log p - LSE_y(log v - c / epsilon), log v = exponent * (log q - LSE_c(log u - c / epsilon)), until the
    column sums miss q by less than `bound` times the mass (exponent 1), or no log v moves by more than `bound` (below
    1).
    """
    for m in range(len(cost_MCY)):
        rows, columns = np.flatnonzero(p_MC[m] > 0), np.flatnonzero(q_MY[m] > 0)
        if len(rows) == 0 or len(columns) == 0:
            continue
        log_k = np.empty((len(rows), len(columns)))
        for c in range(len(rows)):
            for y in range(len(columns)):
                log_k[c, y] = -cost_MCY[m, rows[c], columns[y]] / epsilon
        p, q = p_MC[m][rows].astype(np.float64), q_MY[m][columns].astype(np.float64)
        q *= p.sum() / q.sum()
        log_u, log_v = np.empty(len(rows)), np.zeros(len(columns))
        converged_M[m] = False
        for _ in range(max_iterations):
            for c in range(len(rows)):
                log_u[c] = np.log(p[c]) - _log_sum(log_k[c], log_v)
            error = 0.0
            new_log_v = np.empty(len(columns))
            for y in range(len(columns)):
                sums = _log_sum(log_k[:, y], log_u)
                new_log_v[y] = exponent * (np.log(q[y]) - sums)
                if exponent == 1:
                    error += abs(np.exp(log_v[y] + sums) - q[y]) / q.sum()
                else:
                    error = max(error, abs(new_log_v[y] - log_v[y]))
            if error <= bound:
                converged_M[m] = True
                break
            log_v = new_log_v
        for c in range(len(rows)):
            log_u[c] = np.log(p[c]) - _log_sum(log_k[c], log_v)
            largest_MC[m, rows[c]] = columns[np.argmax(log_k[c] + log_v)]
            for y in range(len(columns)):
                sent = np.exp(log_u[c] + log_k[c, y] + log_v[y])
                masses_MY[m, columns[y]] += sent
                if len(plan_MCY) > 0:
                    plan_MCY[m, rows[c], columns[y]] = sent


@numba.njit(cache=True, nogil=True)
def _log_sum(log_a: Array, log_b: Array) -> float:
    """log of the sum of exp(log a + log b)."""
    largest = -np.inf
    for i in range(len(log_a)):
        largest = max(largest, log_a[i] + log_b[i])
    total = 0.0
    for i in range(len(log_a)):
        total += np.exp(log_a[i] + log_b[i] - largest)
    return float(largest + np.log(total))
