"""A toy language model over a tiny vocabulary, whose distributions can be enumerated."""

import numpy as np

from pta_ray.tokenizers.byte_table import ByteTable, Role


def table(tokens: list[bytes]) -> ByteTable:
    """A byte table whose empty entries are EOS."""
    offsets = np.concatenate([[0], np.cumsum([len(t) for t in tokens])]).astype(np.int64)
    roles = np.array([Role.ORDINARY if t else Role.EOS for t in tokens], np.uint8)
    return ByteTable(np.frombuffer(b"".join(tokens), np.uint8), offsets, roles)


def ends(tokens: list[bytes]) -> np.ndarray:
    """Boundaries of a token sequence behind a start token; an empty token is EOS."""
    return np.concatenate([[0], np.cumsum([len(t) or 1 for t in tokens])]).astype(np.int64)


def distributions(num_positions: int, num_tokens: int, seed: int) -> np.ndarray:
    """One full next-token distribution per position."""
    return np.random.default_rng(seed).dirichlet(np.full(num_tokens, 0.5), num_positions).astype(np.float32)
