"""Probabilistic token alignment as published (Zeng et al. 2025, arXiv 2509.17276, section 3), written plainly.

One pair of sequences at a time, loops over positions, one Sinkhorn solution per position: what the package's alignment
is measured against. Where the reference code departs from its paper, this follows the paper: token texts are bytes
rather than a tokenizer's glyphs, a one-hot stands on the token that follows, and transported masses stay as they are.

S and T are the lengths of the two sequences, start tokens included; M = T - 1 positions of the target predict a token.
"""

import numpy as np
import numpy.typing as npt
import ot
from rapidfuzz.distance import Levenshtein

from pta_ray.tokenizers.byte_table import ByteTable

Group = tuple[list[int], list[int]]
"""Positions of source tokens, and of the target tokens that they are paired with."""

TOLERANCE = 1e-4  # of the marginals, as in the package


def textbook_align(
    source_table: ByteTable,
    source_ids_S: npt.NDArray[np.int32],
    source_top_ids_SK: npt.NDArray[np.int32],
    source_top_log_probs_SK: npt.NDArray[np.float32],
    target_table: ByteTable,
    target_ids_T: npt.NDArray[np.int32],
    target_top_ids_MK: npt.NDArray[np.int32],
    target_top_log_probs_MK: npt.NDArray[np.float32],
    epsilon: float,
) -> tuple[list[dict[int, float]], list[Group]]:
    """Aligns the top-k of a source to that of a target.

    A target token paired with exactly one source token, and that one with no other, takes over the source's belief
    about what follows; any other position gets a one-hot on the token that follows. Top-k are scaled to 1.

    Returns, for each of the M positions, probabilities by target token, and the groups of the pairing.
    """
    source_texts = [source_table.token(i) for i in source_ids_S]
    target_texts = [target_table.token(i) for i in target_ids_T]
    groups = pair_tokens(source_texts, target_texts)
    aligned = [{int(token_id): 1.0} for token_id in target_ids_T[1:]]
    for sources, targets in groups:
        if len(sources) > 1 or len(targets) > 1:
            continue
        s, t = sources[0], targets[0]
        if s == len(source_top_ids_SK) or t == len(aligned):
            continue  # the last token of a sequence: nothing was predicted behind it
        source_top = top_k(source_table, source_top_ids_SK[s], source_top_log_probs_SK[s])
        target_top = top_k(target_table, target_top_ids_MK[t], target_top_log_probs_MK[t])
        aligned[t] = transport_top_k(source_table, source_top, target_table, target_top, epsilon)
    return aligned, groups


def pair_tokens(source_texts: list[bytes], target_texts: list[bytes]) -> list[Group]:
    """Dynamic token pairing: the cheapest monotone path through the table of edit distances c,

        f(k, j) = c(B_k, A_j) + min{ f(k-1, j), f(k, j-1), f(k-1, j-1) }

    Of equally cheap ways the one that advances in both sequences is taken. Neighbours on the path that share a token
    are of one group.
    """
    cost = cumulative_cost(source_texts, target_texts)
    k, j = len(source_texts) - 1, len(target_texts) - 1
    path = [(k, j)]
    while k > 0 or j > 0:
        ways = [(k - 1, j - 1), (k - 1, j), (k, j - 1)]
        k, j = min((way for way in ways if min(way) >= 0), key=lambda way: cost[way[0]][way[1]])
        path.append((k, j))
    groups: list[Group] = []
    for k, j in reversed(path):
        if groups and k == groups[-1][0][-1]:
            groups[-1][1].append(j)
        elif groups and j == groups[-1][1][-1]:
            groups[-1][0].append(k)
        else:
            groups.append(([k], [j]))
    return groups


def cumulative_cost(source_texts: list[bytes], target_texts: list[bytes]) -> list[list[int]]:
    """f of `pair_tokens`, as S rows of T."""
    rows: list[list[int]] = []
    for k, source_text in enumerate(source_texts):
        row: list[int] = []
        for j, target_text in enumerate(target_texts):
            distance = Levenshtein.distance(source_text, target_text)
            if k > 0 and j > 0:
                row.append(distance + min(rows[k - 1][j], row[j - 1], rows[k - 1][j - 1]))
            elif k > 0:
                row.append(distance + rows[k - 1][j])
            elif j > 0:
                row.append(distance + row[j - 1])
            else:
                row.append(distance)
        rows.append(row)
    return rows


def top_k(table: ByteTable, ids_K: npt.NDArray[np.int32], log_probs_K: npt.NDArray[np.float32]) -> dict[int, float]:
    """Probabilities by token, scaled to 1. Entries that are no tokens are left out."""
    pairs = zip(ids_K.tolist(), np.exp(log_probs_K, dtype=np.float64).tolist(), strict=True)
    probs = {token_id: prob for token_id, prob in pairs if 0 <= token_id < table.size}
    total = sum(probs.values())
    return {token_id: prob / total for token_id, prob in probs.items()}


def transport_top_k(
    source_table: ByteTable,
    source_top: dict[int, float],
    target_table: ByteTable,
    target_top: dict[int, float],
    epsilon: float,
) -> dict[int, float]:
    """Balanced entropic transport between two top-k, c the normalised edit distance of their texts and H the entropy:

        min_G  <c, G> - epsilon * H(G)    subject to  G 1 = p,  G^T 1 = q

    The column sums are q, whatever the source says: so each source candidate is sent, whole, to the target candidate
    that receives most of its mass.
    """
    source_texts = [source_table.token(i) for i in source_top]
    target_texts = [target_table.token(i) for i in target_top]
    cost = np.array([[Levenshtein.normalized_distance(x, y) for y in target_texts] for x in source_texts])
    p, q = np.array(list(source_top.values())), np.array(list(target_top.values()))
    plan = ot.sinkhorn(p, q, cost, epsilon, stopThr=TOLERANCE, warn=False)
    target_ids = list(target_top)
    aligned: dict[int, float] = {}
    for prob, row in zip(source_top.values(), plan, strict=True):
        token_id = target_ids[row.argmax()]
        aligned[token_id] = aligned.get(token_id, 0.0) + prob
    return aligned
