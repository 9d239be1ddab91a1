"""Toy language models over tiny vocabularies, whose distributions can be enumerated."""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from hypothesis import strategies as st

from pta_ray.alignment.conditioning import EOS_LENGTH, SourceCandidates, condition
from pta_ray.alignment.pairing import pair_boundaries
from pta_ray.alignment.pinning import Pinned, pin
from pta_ray.alignment.trie import build_trie
from pta_ray.alignment.vocabularies import Vocabularies
from pta_ray.distributions import Scores
from pta_ray.tokenizers.byte_table import ByteTable, Role

ALPHABET = b"ab\xff"


def table(tokens: list[bytes]) -> ByteTable:
    """A byte table whose empty entries are EOS."""
    offsets = np.concatenate([[0], np.cumsum([len(t) for t in tokens])]).astype(np.int64)
    roles = np.array([Role.ORDINARY if t else Role.EOS for t in tokens], np.uint8)
    return ByteTable(np.frombuffer(b"".join(tokens), np.uint8), offsets, roles)


def with_special(of: ByteTable) -> ByteTable:
    """With one token more, that is special and has no bytes."""
    return replace(
        of, offsets_V1=np.append(of.offsets_V1, of.offsets_V1[-1]), roles_V=np.append(of.roles_V, np.uint8(2))
    )


def vocabularies(source: ByteTable, target: ByteTable) -> Vocabularies:
    """The indexes, without the cache on disk."""
    return Vocabularies(source, target, build_trie(target))


def ends(tokens: list[bytes]) -> np.ndarray:
    """Boundaries of a token sequence behind a start token; an empty token is EOS."""
    return np.concatenate([[0], np.cumsum([len(t) or 1 for t in tokens])]).astype(np.int64)


def distributions(num_positions: int, num_tokens: int, seed: int) -> np.ndarray:
    """One full next-token distribution per position."""
    return np.random.default_rng(seed).dirichlet(np.full(num_tokens, 0.5), num_positions).astype(np.float32)


@dataclass(frozen=True)
class Reader:
    """A model that has read a text: one distribution over its whole vocabulary in front of each token."""

    table: ByteTable
    ids_M: npt.NDArray[np.int32]
    probs_MV: npt.NDArray[np.float64]

    @property
    def vocabulary(self) -> list[bytes]:
        return [self.table.token(i) for i in range(self.table.size)]

    @property
    def tokens(self) -> list[bytes]:
        return [self.table.token(i) for i in self.ids_M]

    @property
    def ends(self) -> np.ndarray:
        return ends(self.tokens)

    def scores(self, top_k: int | None = None) -> Scores:
        """The model's scores; its whole vocabulary in falling order if no top-k is asked for."""
        with np.errstate(divide="ignore"):
            log_probs_MV = np.log(self.probs_MV).astype(np.float32)
        top_MK = np.argsort(-self.probs_MV, axis=1, kind="stable")[:, : top_k or self.table.size].astype(np.int32)
        return Scores(
            np.concatenate([[0], self.ids_M]).astype(np.int32),
            np.take_along_axis(log_probs_MV, self.ids_M[:, None].astype(np.int64), 1)[:, 0],
            top_MK,
            np.take_along_axis(log_probs_MV, top_MK, 1),
        )


@dataclass(frozen=True)
class World:
    """A text and two models that have read it."""

    text: bytes
    source: Reader
    target: Reader

    @property
    def vocabularies(self) -> Vocabularies:
        return vocabularies(self.source.table, self.target.table)

    @property
    def last_T(self) -> npt.NDArray[np.int64]:
        return pair_boundaries(self.source.ends, self.target.ends)

    def spoken(self, top_k: int | None = None) -> SourceCandidates:
        scores = self.source.scores(top_k)
        return condition(
            self.source.table, self.text, self.source.ends, self.target.ends, self.last_T,
            scores.next_ids_M, scores.next_log_probs_M, scores.top_ids_MK, scores.top_log_probs_MK,
        )  # fmt: skip

    def pinned(self, spoken: SourceCandidates) -> Pinned:
        return pin(self.source.table, spoken, self.text, self.target.ends, self.last_T)


def reader(text: bytes, words: list[bytes], seed: int, unigram: bool = False) -> Reader:
    """A model with random beliefs whose tokenization of the text, EOS at its end, is as random.

    Its vocabulary is EOS, the alphabet's bytes and the words; a unigram model believes the same everywhere.
    """
    random = np.random.default_rng(seed)
    vocabulary = [b"", *dict.fromkeys([*(bytes([b]) for b in ALPHABET), *words])]
    ids, at = [], 0
    while at < len(text):
        i = random.choice([i for i, token in enumerate(vocabulary) if token and text.startswith(token, at)])
        ids.append(i)
        at += len(vocabulary[i])
    num_rows = 1 if unigram else len(ids) + 1
    probs_MV = random.dirichlet(np.full(len(vocabulary), 0.5), num_rows) + 1e-6
    probs_MV = np.broadcast_to(probs_MV / probs_MV.sum(1, keepdims=True), (len(ids) + 1, len(vocabulary))).copy()
    return Reader(table(vocabulary), np.array([*ids, 0], np.int32), probs_MV)


_letters = st.sampled_from([bytes([b]) for b in ALPHABET])
words = st.lists(st.lists(_letters, min_size=2, max_size=4).map(b"".join), max_size=8)
texts = st.lists(_letters, max_size=10).map(b"".join)
seeds = st.integers(0, 2**32 - 1)


@st.composite
def worlds(draw: st.DrawFn, unigram: bool = False) -> World:
    """Any two readers of any short text."""
    text = draw(texts)
    return World(
        text, reader(text, draw(words), draw(seeds), unigram), reader(text, draw(words), draw(seeds), unigram=False)
    )


def candidates(
    of: ByteTable, source: SourceCandidates, t: int, probs_C: npt.NDArray[np.floating]
) -> dict[bytes, float]:
    """A row of masses by the candidates' remaining bytes, which must be distinct; the end of the document is empty."""
    found: dict[bytes, float] = {}
    for start, length, prob in zip(source.starts_TC[t], source.lengths_TC[t], probs_C, strict=True):
        if length:
            token = b"" if length == EOS_LENGTH else of.data_N[start : start + length].tobytes()
            assert token not in found
            found[token] = float(prob)
    return found
