"""The tokens of a vocabulary as a trie: which of them a byte string begins with, and which begin with it.

The trie is a double array (Aoe 1989, "An efficient digital search algorithm by using a double-array structure"): the
child of node n for byte c is node `base[n] + c`, if that node says that its parent is n. A step is one look-up whatever
the number of children, and what it reads lies in one cache line.

Shapes: N nodes, with gaps; O ordinary tokens in the order of `ByteTable.sorted_ids_O`.
"""

from typing import Any, NamedTuple

import numba
import numpy as np
import numpy.typing as npt

from pta_ray.tokenizers.byte_table import ByteTable

Array = npt.NDArray[Any]

_BASE, _PARENT, _TOKEN, _LOW = 0, 1, 2, 3
_ROOT, _FREE, _NO_NODE = 0, -1, -2
_NUM_BYTES = 256


class Trie(NamedTuple):
    """A trie over the ordinary tokens of a vocabulary. Kernels take it as an argument and call `walk`."""

    nodes_N4: npt.NDArray[np.int32]
    """Per node: base, parent, the token that ends here or -1, and the first of the tokens that pass through here."""
    high_N: npt.NDArray[np.int32]
    """Where the tokens that pass through a node end, as a place in `sorted_ids_O`."""


def build_trie(table: ByteTable) -> Trie:
    """The trie over a table's ordinary tokens. Of tokens with equal bytes it holds the first in `sorted_ids_O`."""
    nodes_N4, high_N, end = _build(table.data_N, table.offsets_V1, table.sorted_ids_O)
    size = end + _NUM_BYTES  # a byte may lead up to 255 places beyond the last base
    return Trie(nodes_N4[:size].copy(), high_N[:size].copy())


@numba.njit(cache=True, nogil=True)
def walk(trie: Trie, x: Array) -> tuple[int, int, int]:
    """Follows a byte string from the root.

    Args:
        trie: of the vocabulary.
        x: the bytes, uint8.

    Returns:
        The longest token that x begins with, -1 if there is none; and the interval [low, high) of `sorted_ids_O` with
        the tokens that begin with all of x, (0, 0) if there are none.
    """
    nodes_N4 = trie.nodes_N4
    node, token = _ROOT, -1
    for i in range(len(x)):
        child = nodes_N4[node, _BASE] + x[i]
        if nodes_N4[child, _PARENT] != node:
            return token, 0, 0
        node = child
        if nodes_N4[node, _TOKEN] >= 0:
            token = nodes_N4[node, _TOKEN]
    return token, nodes_N4[node, _LOW], trie.high_N[node]


@numba.njit(cache=True, nogil=True)
def token_within(trie: Trie, x: Array, rest: Array) -> bool:
    """Whether a token begins with all of x, ends behind it, and goes on with nothing but bytes of the rest."""
    nodes_N4 = trie.nodes_N4
    node = _ROOT
    for i in range(len(x) + len(rest)):
        child = nodes_N4[node, _BASE] + (x[i] if i < len(x) else rest[i - len(x)])
        if nodes_N4[child, _PARENT] != node:
            return False
        node = child
        if i >= len(x) and nodes_N4[node, _TOKEN] >= 0:
            return True
    return False


@numba.njit(cache=True, nogil=True)
def _build(data_N: Array, offsets_V1: Array, sorted_ids_O: Array) -> tuple[Array, Array, int]:
    """Places the nodes level by level, so that the upper levels, which every walk reads, lie together."""
    nodes_N4, high_N = _grown(np.empty((0, 4), np.int32), np.empty(0, np.int32), 4 * len(sorted_ids_O) + 4 * _NUM_BYTES)
    nodes_N4[_ROOT, _PARENT], nodes_N4[_ROOT, _TOKEN], high_N[_ROOT] = _NO_NODE, -1, len(sorted_ids_O)
    # Nodes of equally many children look for room from where the last of them found some: no place is tried often.
    room_from = np.ones(_NUM_BYTES + 1, np.int64)
    bytes_B, begins_B1 = np.empty(_NUM_BYTES, np.int64), np.empty(_NUM_BYTES + 1, np.int64)
    queue = np.empty(offsets_V1[-1] + 1, np.int64)  # there is no more than one node for each byte
    queue[0] = _ROOT
    head, tail, depth, end = 0, 1, 0, 1
    while head < tail:
        level_end = tail
        while head < level_end:
            node = queue[head]
            head += 1
            low, high = nodes_N4[node, _LOW], high_N[node]
            token, count = _branch(data_N, offsets_V1, sorted_ids_O, low, high, depth, bytes_B, begins_B1)
            nodes_N4[node, _TOKEN] = token
            if count == 0:
                continue
            base = room_from[count]
            while not _fits(nodes_N4, base, bytes_B, count):
                base += 1
                if base + 2 * _NUM_BYTES > len(nodes_N4):
                    nodes_N4, high_N = _grown(nodes_N4, high_N, 2 * len(nodes_N4))
            nodes_N4[node, _BASE] = room_from[count] = base
            for b in range(count):
                child = base + bytes_B[b]
                nodes_N4[child, _PARENT], nodes_N4[child, _LOW], high_N[child] = node, begins_B1[b], begins_B1[b + 1]
                queue[tail] = child
                tail += 1
                end = max(end, child + 1)
        depth += 1
    return nodes_N4, high_N, end


@numba.njit(cache=True, nogil=True)
def _branch(
    data_N: Array,
    offsets_V1: Array,
    sorted_ids_O: Array,
    low: int,
    high: int,
    depth: int,
    bytes_B: Array,
    begins_B1: Array,
) -> tuple[int, int]:
    """Finds the token that ends at a node and its children: their bytes, and where their tokens begin and end."""
    token, count, last = -1, 0, -1
    for place in range(low, high):
        i = sorted_ids_O[place]
        at = offsets_V1[i] + depth
        if at == offsets_V1[i + 1]:
            token = i if token < 0 else token
        elif data_N[at] != last:
            last = data_N[at]
            bytes_B[count], begins_B1[count] = last, place
            count += 1
    begins_B1[count] = high
    return token, count


@numba.njit(cache=True, nogil=True)
def _fits(nodes_N4: Array, base: int, bytes_B: Array, count: int) -> bool:
    free = 0
    while free < count and nodes_N4[base + bytes_B[free], _PARENT] == _FREE:
        free += 1
    return free == count


@numba.njit(cache=True, nogil=True)
def _grown(nodes_N4: Array, high_N: Array, size: int) -> tuple[Array, Array]:
    larger_N4, larger_N = np.zeros((size, 4), np.int32), np.zeros(size, np.int32)
    for n in range(size):  # numba takes seconds to compile assignments to slices
        larger_N4[n, _PARENT], larger_N4[n, _TOKEN] = _FREE, -1
    for n in range(len(nodes_N4)):
        larger_N[n] = high_N[n]
        for field in range(4):
            larger_N4[n, field] = nodes_N4[n, field]
    return larger_N4, larger_N
