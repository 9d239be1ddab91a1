"""The minimum-edit-cost programme of Zeng et al. 2025 (arXiv 2509.17276) over whole sequences, without a band:

f(k, j) = c(B_k, A_j) + min{ f(k-1, j), f(k, j-1), f(k-1, j-1) }
"""

from functools import cache
from itertools import pairwise

import numpy as np
from rapidfuzz.distance import Levenshtein

Pairs = frozenset[tuple[int, int]]


def token_cost(x: bytes, y: bytes) -> int:
    return Levenshtein.distance(x.replace(b" ", b""), y.replace(b" ", b""))


def cheapest_pairings(source: list[bytes], target: list[bytes]) -> set[Pairs]:
    """By memoised recursion, for short sequences: the sets of (source, target) boundaries that paths of least cost
    close groups at, the two ends included."""

    @cache
    def best(k: int, j: int) -> tuple[int, frozenset[Pairs]]:
        cost = token_cost(source[k], target[j])
        if k == j == 0:
            return cost, frozenset({frozenset({(0, 0)})})
        ways = []
        if k > 0:
            ways.append(best(k - 1, j))
        if j > 0:
            ways.append(best(k, j - 1))
        if k > 0 and j > 0:
            before, pairings = best(k - 1, j - 1)
            ways.append((before, frozenset(pairs | {(k, j)} for pairs in pairings)))
        least = min(before for before, _ in ways)
        return cost + least, frozenset().union(*(pairings for before, pairings in ways if before == least))

    last = (len(source), len(target))
    return {pairs | {last} for pairs in best(len(source) - 1, len(target) - 1)[1]}


def least_cost(source: list[bytes], target: list[bytes], diagonal: bool = True) -> float:
    """f at the ends of both sequences; without diagonal steps, the cost of one group."""
    f = np.full((len(source) + 1, len(target) + 1), np.inf)
    for k, x in enumerate(source, start=1):
        for j, y in enumerate(target, start=1):
            before = min(f[k - 1, j], f[k, j - 1], f[k - 1, j - 1] if diagonal else np.inf)
            f[k, j] = token_cost(x, y) + (0 if k == j == 1 else before)
    return float(f[-1, -1])


def cost_of(pairs: set[tuple[int, int]], source: list[bytes], target: list[bytes]) -> float:
    """The least cost of a path that closes groups at the given boundaries, and nowhere else."""
    ends = sorted(pairs | {(0, 0), (len(source), len(target))})
    return sum(
        least_cost(source[k:next_k], target[j:next_j], diagonal=False) for (k, j), (next_k, next_j) in pairwise(ends)
    )
