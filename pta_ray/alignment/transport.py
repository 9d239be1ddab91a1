"""Batched semi-relaxed entropic optimal transport (Sinkhorn scaling)."""

import numba
import numpy as np
import numpy.typing as npt

MAX_ITERATIONS = 200
TOLERANCE = 1e-4


def transport(
    cost_MCY: npt.NDArray[np.float32],
    p_MC: npt.NDArray[np.float32],
    q_MY: npt.NDArray[np.float32],
    epsilon: float,
    rho: float,
) -> tuple[npt.NDArray[np.float32], int]:
    """Solves, for every boundary m, with G the transport plan [C, Y]:

        min_G  <c, G> + epsilon * sum G (log G - 1) + rho * KL(G^T 1 || q)    subject to  G 1 = p

    by u = p / (K v), v = (q / (K^T u)) ^ (rho / (rho + epsilon)), K = exp(-c / epsilon), until no row sum of the plan
    is further than `TOLERANCE` from p (Chizat et al. 2018, "Scaling algorithms for unbalanced optimal transport").
    The last half-step is that of u: all of p is sent, whether or not the columns have settled. q is scaled to the mass
    of p. Entries with q = 0 receive nothing, entries with p = 0 send nothing.

    Returns the column sums G^T 1 as [M, Y], and how many plans did not converge within `MAX_ITERATIONS`.
    """
    masses_MY, num_missed = _transport(cost_MCY, p_MC, q_MY, epsilon, rho / (rho + epsilon), MAX_ITERATIONS, TOLERANCE)
    return masses_MY, int(num_missed)


@numba.njit(cache=True, nogil=True, fastmath={"contract", "reassoc", "nsz"})
def _transport(
    cost_MCY: npt.NDArray[np.float32],
    p_MC: npt.NDArray[np.float32],
    q_MY: npt.NDArray[np.float32],
    epsilon: float,
    exponent: float,
    max_iterations: int,
    tolerance: float,
) -> tuple[npt.NDArray[np.float32], int]:
    num_M, num_Y = q_MY.shape
    masses_MY = np.zeros((num_M, num_Y), np.float32)
    num_missed = 0
    for m in range(num_M):
        rows = np.flatnonzero(p_MC[m] > 0)
        columns = np.flatnonzero(q_MY[m] > 0)
        if len(rows) == 0 or len(columns) == 0:
            continue
        p = p_MC[m][rows].astype(np.float64)
        q = q_MY[m][columns].astype(np.float64)
        q *= p.sum() / q.sum()
        kernel = np.empty((len(rows), len(columns)))
        for c in range(len(rows)):
            # Taking a row's least cost off all of it changes u, not the plan, and keeps the row from vanishing.
            least = cost_MCY[m, rows[c]][columns].min()
            for y in range(len(columns)):
                kernel[c, y] = np.exp((least - cost_MCY[m, rows[c], columns[y]]) / epsilon)
        v = np.ones(len(columns))
        mass = np.empty(len(columns))
        converged = False
        previous = np.zeros(len(rows))
        for iteration in range(max_iterations):
            if iteration > 0:
                for y in range(len(columns)):
                    v[y] = (q[y] / mass[y]) ** exponent
            mass[:] = 0
            worst = 0.0
            for c in range(len(rows)):
                scale = 0.0
                for y in range(len(columns)):
                    scale += kernel[c, y] * v[y]
                # Before this half-step the row sum was previous * scale.
                worst = max(worst, abs(previous[c] * scale - p[c]))
                previous[c] = p[c] / scale
                for y in range(len(columns)):
                    mass[y] += previous[c] * kernel[c, y]
            if worst < tolerance:
                converged = True
                break
        num_missed += not converged
        for y in range(len(columns)):
            masses_MY[m, columns[y]] = mass[y] * v[y]
    return masses_MY, num_missed
