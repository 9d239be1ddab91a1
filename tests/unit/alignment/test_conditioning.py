"""Against exact enumeration over a toy vocabulary, where the top-k is the whole vocabulary."""

import itertools

import numpy as np
import pytest

from pta_ray.alignment.conditioning import EOS_LENGTH, SourceCandidates, condition
from pta_ray.alignment.pairing import pair_boundaries
from tests.unit.alignment import toy

VOCABULARY = [b"a", b"b", b"ab", b"abc", b"c", b"bc", b"", b"ca"]
TABLE = toy.table(VOCABULARY)
TEXT = b"abcabcca"
TOKENS = [b"abc", b"ab", b"c", b"ca", b""]


def run(ends_T: np.ndarray, probs_SV: np.ndarray) -> SourceCandidates:
    next_ids = np.array([VOCABULARY.index(t) for t in TOKENS], np.int32)
    ends_S = toy.ends(TOKENS)
    all_ids = np.tile(np.arange(len(VOCABULARY), dtype=np.int32), (len(TOKENS), 1))
    return condition(
        TABLE, TEXT, ends_S, ends_T, pair_boundaries(ends_S, ends_T),
        next_ids, np.log(probs_SV[np.arange(len(TOKENS)), next_ids]), all_ids, np.log(probs_SV),
    )  # fmt: skip


@pytest.fixture
def probs_SV() -> np.ndarray:
    return toy.distributions(len(TOKENS), len(VOCABULARY), seed=1)


def prefix_probability(probs_SV: np.ndarray, offset: int) -> float:
    """P(text up to offset) along the source's own tokenization, by enumeration of what may follow its last token."""
    total, at = 1.0, 0
    for probs_V, token in zip(probs_SV, TOKENS, strict=True):
        if at + len(token) > offset:
            rest = TEXT[at:offset]
            return total * sum(p for p, t in zip(probs_V, VOCABULARY, strict=True) if not rest or t.startswith(rest))
        total *= probs_V[VOCABULARY.index(token)]
        at += len(token)
        if at == offset:
            return total
    raise AssertionError


def test_the_chain_rule_at_every_byte(probs_SV: np.ndarray) -> None:
    source = run(np.arange(len(TEXT) + 1), probs_SV)
    expected = [prefix_probability(probs_SV, offset) for offset in range(len(TEXT) + 1)]
    np.testing.assert_allclose(np.exp(source.log_prefix_T), expected, rtol=1e-5)


def test_a_shared_boundary_passes_the_distribution_on(probs_SV: np.ndarray) -> None:
    source = run(toy.ends(TOKENS), probs_SV)
    assert source.retained_T.tolist() == [1.0] * (len(TOKENS) + 1)
    for t in range(len(TOKENS)):
        assert candidates(source, t) == pytest.approx(
            dict(zip(VOCABULARY, probs_SV[t].tolist(), strict=True)), rel=1e-5
        )


def test_inside_a_token_candidates_are_stripped_and_renormalised(probs_SV: np.ndarray) -> None:
    source = run(np.array([1]), probs_SV)  # inside "abc", behind "a"
    kept = {t[1:]: float(p) for t, p in zip(VOCABULARY, probs_SV[0], strict=True) if t.startswith(b"a")}
    retained = sum(kept.values())
    assert source.retained_T[0] == pytest.approx(retained, rel=1e-5)
    # "a" itself agrees with what was read and says nothing about what follows: its mass is tail.
    expected = {t: p / retained for t, p in kept.items() if t}
    assert candidates(source, 0) == pytest.approx(expected, rel=1e-5)


def test_the_end_of_the_document_is_matched_by_role(probs_SV: np.ndarray) -> None:
    source = run(np.array([len(TEXT), len(TEXT) + 1]), probs_SV)
    assert candidates(source, 0)[b""] == pytest.approx(float(probs_SV[-1, VOCABULARY.index(b"")]), rel=1e-5)
    difference = source.log_prefix_T[1] - source.log_prefix_T[0]
    assert np.exp(difference) == pytest.approx(float(probs_SV[-1, VOCABULARY.index(b"")]), rel=1e-5)


def test_a_source_that_stops_early_abstains_afterwards(probs_SV: np.ndarray) -> None:
    ends_S, ends_T = toy.ends(TOKENS)[:2], np.array([0, 3, 5, 9])
    next_ids = np.array([VOCABULARY.index(TOKENS[0])], np.int32)
    top_ids = np.arange(len(VOCABULARY), dtype=np.int32)[None]
    source = condition(
        TABLE, TEXT, ends_S, ends_T, pair_boundaries(ends_S, ends_T),
        next_ids, np.log(probs_SV[:1, next_ids[0]]), top_ids, np.log(probs_SV[:1]),
    )  # fmt: skip
    assert np.isfinite(source.log_prefix_T).tolist() == [True, True, False, False]
    assert source.probs_TC[1:].sum() == 0


def candidates(source: SourceCandidates, t: int) -> dict[bytes, float]:
    """Bytes to probability; the end of the document as the empty string."""
    found: dict[bytes, float] = {}
    rows = zip(source.starts_TC[t], source.lengths_TC[t], source.probs_TC[t], strict=True)
    for start, length, prob in rows:
        if length:
            token = b"" if length == EOS_LENGTH else TABLE.data_N[start : start + length].tobytes()
            assert token not in found
            found[token] = float(prob)
    return found


def test_every_tokenization_pair_conserves_mass(probs_SV: np.ndarray) -> None:
    for cut in itertools.combinations(range(len(TEXT) + 1), 3):
        source = run(np.array(cut), probs_SV)
        assert np.all(source.probs_TC.sum(1) <= 1 + 1e-5)
        assert np.all(source.probs_TC >= 0)
