"""Against numpy's double precision over the range of float32."""

import numba
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pta_ray.alignment import vector_math


@numba.njit
def exp2(x_N: np.ndarray) -> np.ndarray:
    result_N = np.empty_like(x_N)
    for i in range(len(x_N)):
        result_N[i] = vector_math.exp2(x_N[i])
    return result_N


@numba.njit
def log2(x_N: np.ndarray) -> np.ndarray:
    result_N = np.empty_like(x_N)
    for i in range(len(x_N)):
        result_N[i] = vector_math.log2(x_N[i])
    return result_N


TINY = float(np.finfo(np.float32).tiny)
LARGEST = float(np.finfo(np.float32).max)


@given(st.lists(st.floats(-126, 126, width=32), min_size=1))
def test_exp2(xs: list[float]) -> None:
    x_N = np.array(xs, np.float32)
    np.testing.assert_allclose(exp2(x_N), np.exp2(x_N.astype(np.float64)), rtol=1e-6)


def test_exp2_over_the_whole_range() -> None:
    x_N = np.linspace(-126, 126, 1_000_003, dtype=np.float32)
    np.testing.assert_allclose(exp2(x_N), np.exp2(x_N.astype(np.float64)), rtol=1e-6)
    whole_N = np.arange(-126, 127, dtype=np.float32)
    np.testing.assert_array_equal(exp2(whole_N), np.exp2(whole_N))


def test_exp2_is_held_within_the_range() -> None:
    x_N = np.array([-np.inf, -LARGEST, -127, 127, 1e9, LARGEST, np.inf], np.float32)
    np.testing.assert_array_equal(exp2(x_N), np.exp2(np.clip(x_N, -126, 126)))


@given(st.lists(st.floats(TINY, LARGEST, width=32), min_size=1))
def test_log2(xs: list[float]) -> None:
    x_N = np.array(xs, np.float32)
    np.testing.assert_allclose(log2(x_N), np.log2(x_N.astype(np.float64)), rtol=1e-6, atol=1e-7)


def test_log2_over_the_whole_range() -> None:
    """Every exponent, and 4096 mantissas of each."""
    bits_N = np.arange(1 << 23, 255 << 23, 1 << 11, dtype=np.int32)
    x_N = bits_N.view(np.float32)
    np.testing.assert_allclose(log2(x_N), np.log2(x_N.astype(np.float64)), rtol=1e-6, atol=1e-7)
    whole_N = np.exp2(np.arange(-126, 128, dtype=np.float32))
    np.testing.assert_array_equal(log2(whole_N), np.log2(whole_N))


def test_log2_of_nothing_is_far_below() -> None:
    assert -128 <= log2(np.zeros(1, np.float32))[0] <= -126
