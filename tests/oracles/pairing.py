"""The minimum-edit-cost programme by memoised recursion, every path of least cost listed. For short sequences."""

from functools import cache

from rapidfuzz.distance import Levenshtein

Pairs = frozenset[tuple[int, int]]


def cheapest_pairings(source: list[bytes], target: list[bytes]) -> set[Pairs]:
    """The sets of (source, target) boundaries that paths of least cost close groups at, the two ends included.

    f(k, j) = c(B_k, A_j) + min{ f(k-1, j), f(k, j-1), f(k-1, j-1) }   (Zeng et al. 2025, arXiv 2509.17276)
    """

    @cache
    def best(k: int, j: int) -> tuple[int, frozenset[Pairs]]:
        cost = Levenshtein.distance(source[k].strip(b" "), target[j].strip(b" "))
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
