"""Exponential and logarithm that LLVM turns into vector instructions; the C library's are called one by one.

Both are series of the textbook kind after the argument has been cut to a small interval by means of the bits of a
float32; the relative error is below 1e-6 over the whole range.
"""

from typing import Any

import numba
import numpy as np
from numba import types
from numba.extending import intrinsic

_LN2 = float(np.log(2))
_MAX_LOG2 = np.float32(126)
# 2^f = sum of (f ln 2)^n / n!, for |f| <= 1/2
_E1, _E2, _E3, _E4, _E5, _E6 = (np.float32(_LN2**n / float(np.prod(np.arange(1, n + 1)))) for n in range(1, 7))
# log2(m) = 2 / ln 2 * (s + s^3 / 3 + s^5 / 5 + ...) with s = (m - 1) / (m + 1), for 1 / sqrt(2) <= m <= sqrt(2)
_L1, _L3, _L5, _L7, _L9 = (np.float32(2 / (_LN2 * n)) for n in range(1, 10, 2))
_SQRT_HALF_BITS = np.int32(np.array(np.sqrt(0.5), np.float32).view(np.int32))
_MANTISSA_BITS = np.int32(0x007FFFFF)
_ONE = np.float32(1)


@intrinsic
def _float_bits(context: Any, x: Any) -> Any:
    """The bits of a float32 as an int32."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], context.get_value_type(types.int32))

    return types.int32(types.float32), generate


@intrinsic
def _float_of_bits(context: Any, bits: Any) -> Any:
    """The float32 of the bits in an int32."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], context.get_value_type(types.float32))

    return types.float32(types.int32), generate


@numba.njit(inline="always")
def exp2(x: Any) -> Any:
    """2^x for a float32, held within 2^-126 and 2^126."""
    x = min(max(x, -_MAX_LOG2), _MAX_LOG2)
    whole = np.int32(np.floor(x + np.float32(0.5)))
    f = x - np.float32(whole)
    series = _ONE + f * (_E1 + f * (_E2 + f * (_E3 + f * (_E4 + f * (_E5 + f * _E6)))))
    return series * _float_of_bits(np.int32((whole + np.int32(127)) << np.int32(23)))


@numba.njit(inline="always")
def log2(x: Any) -> Any:
    """The binary logarithm of a positive normal float32; about -127 for 0."""
    bits = _float_bits(x)
    exponent = np.int32(bits - _SQRT_HALF_BITS) >> np.int32(23)
    m = _float_of_bits(np.int32(bits - (exponent << np.int32(23))))
    s = (m - _ONE) / (m + _ONE)
    square = s * s
    return np.float32(exponent) + s * (_L1 + square * (_L3 + square * (_L5 + square * (_L7 + square * _L9))))
