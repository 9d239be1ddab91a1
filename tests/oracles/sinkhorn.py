"""Entropic transport in float64 and the log domain, after Chizat et al. 2018, one problem per row of a batch.

    min_G  <c, G> + epsilon * sum G (log G - 1) + rho * KL(G^T 1 || q)    subject to  G 1 = p

With u and v the scalings of exp(-c / epsilon): the best u for a given v and the best v for a given u, in turn.
"""

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

MAX_ITERATIONS, TOLERANCE = 20_000, 1e-10


def sinkhorn_plans(cost_MCY: Array, p_MC: Array, q_MY: Array, epsilon: float, rho: float) -> Array:
    """The plans [M, C, Y]. All of p and q are above 0; q is scaled to the mass of p."""
    exponent = 1.0 if np.isinf(rho) else rho / (rho + epsilon)
    log_p_MC = np.log(p_MC)
    log_q_MY = np.log(q_MY * (p_MC.sum(1) / q_MY.sum(1))[:, None])
    log_kernel_MCY = -cost_MCY / epsilon
    log_v_MY = np.zeros_like(log_q_MY)
    for _ in range(MAX_ITERATIONS):
        log_u_MC = log_p_MC - log_sum(log_kernel_MCY + log_v_MY[:, None], 2)
        before_MY = log_v_MY
        log_v_MY = exponent * (log_q_MY - log_sum(log_kernel_MCY + log_u_MC[:, :, None], 1))
        if np.abs(log_v_MY - before_MY).max() < TOLERANCE:
            break
    log_u_MC = log_p_MC - log_sum(log_kernel_MCY + log_v_MY[:, None], 2)
    plans_MCY: Array = np.exp(log_u_MC[:, :, None] + log_kernel_MCY + log_v_MY[:, None])
    return plans_MCY


def log_sum(log_a: Array, axis: int) -> Array:
    """log of the sum of exp(log_a)."""
    largest = log_a.max(axis, keepdims=True)
    result: Array = np.log(np.exp(log_a - largest).sum(axis)) + largest.squeeze(axis)
    return result
