"""What a source says, flattened: which tokens may come matters more then, and how likely each is less.

With p_i its K entries, m their sum, and T the temperature, the entries become

    q_i = m^(1/T) * p_i^(1/T) / sum_j p_j^(1/T)

that is, both parts of p_i = m * (p_i / m) are flattened: that a named token comes, and which of them. A target that is
much smaller than its sources cannot hold how likely each token is, but learns which may come (`jobs/experiments`). If
it was taught so to the end, it would believe it: with T falling to 1, where q = p, it ends with what the sources say.

Shapes: M positions, K entries.
"""

from dataclasses import replace

import numpy as np

from pta_ray.distributions import FusedRow, IntervalTargets


def flatten(row: FusedRow, temperature: float) -> FusedRow:
    """The row with its sources' distributions flattened. What the target itself believed before stays as it is: there
    is nothing in it to be learned, only to be kept. Intervals stay too, whose masses are no distribution."""
    targets = row.targets
    if temperature == 1 or isinstance(targets, IntervalTargets):
        return row
    probs_MK = targets.probs_MK
    powers_MK = probs_MK ** (1 / temperature)
    total_M1 = powers_MK.sum(1, keepdims=True)
    named_M1 = probs_MK.sum(1, keepdims=True) ** (1 / temperature)
    flat_MK = powers_MK * np.divide(named_M1, total_M1, out=np.zeros_like(total_M1), where=total_M1 > 0)
    return row._replace(targets=replace(targets, probs_MK=np.where(row.is_own_M[:, None], probs_MK, flat_MK)))
