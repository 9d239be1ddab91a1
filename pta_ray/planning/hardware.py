"""What a job would run on: devices, hosts and the network between them."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

import numpy as np

_REPEATS = 3
_MATRIX = 1024
_COPIED_BYTES = 64 << 20  # more than any cache holds


@dataclass(frozen=True)
class Rates:
    """What a processor does at best."""

    flops: float
    """Operations a second in matrix products, of the precision that is computed in."""
    bandwidth: float
    """Bytes a second, to and from its memory."""


def measure_cpu(clock: Callable[[], float] = time.perf_counter) -> Rates:
    """Of all the threads that numpy uses, by a product of matrices and a copy. Takes a fifth of a second.

    Args:
        clock: in seconds.
    """
    a, out = np.ones((_MATRIX, _MATRIX), np.float32), np.empty((_MATRIX, _MATRIX), np.float32)
    source, copy = np.ones(_COPIED_BYTES // 4, np.float32), np.empty(_COPIED_BYTES // 4, np.float32)
    products, copies = [], []
    for _ in range(_REPEATS):
        begin = clock()
        np.matmul(a, a, out=out)
        between = clock()
        np.copyto(copy, source)
        copies.append(clock() - between)
        products.append(between - begin)
    return Rates(2 * _MATRIX**3 / median(products), 2 * _COPIED_BYTES / median(copies))
