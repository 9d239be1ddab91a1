"""Against enumeration over toy vocabularies, where the top-k is the whole vocabulary."""

import numpy as np
import pytest
from hypothesis import given

from pta_ray.alignment.conditioning import condition
from pta_ray.alignment.pairing import pair_boundaries
from tests.oracles.prefixes import Row, conditional, prefix_probability
from tests.unit.alignment import toy
from tests.unit.alignment.toy import Reader, World

TEXT = b"abaabbab"
READER = toy.reader(TEXT, [b"ab", b"aba", b"ba", b"bb", b"abb"], seed=6)


def rows(reader: Reader) -> list[Row]:
    return [dict(zip(reader.vocabulary, probs_V, strict=True)) for probs_V in reader.probs_MV.tolist()]


@given(toy.worlds())
def test_the_chain_rule_holds_at_every_boundary(world: World) -> None:
    """Also across windows of tokens that hold several of the other model's."""
    source = world.source
    expected = [
        prefix_probability(world.text, source.tokens, rows(source), int(offset)) for offset in world.target.ends
    ]
    np.testing.assert_allclose(np.exp(world.spoken().log_prefix_T), expected, rtol=1e-4)


@given(toy.worlds(), toy.seeds)
def test_whatever_a_top_k_leaves_out_the_chain_rule_gives_the_sources_own_probability_of_the_text(
    world: World, seed: int
) -> None:
    top_k = 1 + seed % world.source.table.size
    total = world.source.scores().next_log_probs_M.sum(dtype=np.float64)
    assert world.spoken(top_k).log_prefix_T[-1] == pytest.approx(total, rel=1e-6)


@given(toy.worlds())
def test_candidates_are_those_that_begin_with_what_was_read_without_it(world: World) -> None:
    """One that is all read says nothing about what follows: its mass is tail."""
    source, spoken = world.source, world.spoken()
    for t, offset in enumerate(world.target.ends[:-1]):
        expected, retained = conditional(world.text, source.tokens, rows(source), int(offset))
        assert toy.candidates(source.table, spoken, t, spoken.probs_TC[t]) == pytest.approx(expected, rel=1e-4)
        assert spoken.retained_T[t] == pytest.approx(retained, rel=1e-4)


def test_a_window_without_text_has_the_end_of_the_document_only() -> None:
    world = World(b"", toy.reader(b"", [b"ab"], 0), toy.reader(b"", [], 1))
    spoken = world.spoken()
    [row] = rows(world.source)
    assert toy.candidates(world.source.table, spoken, 0, spoken.probs_TC[0]) == pytest.approx(row, rel=1e-5)
    assert np.exp(spoken.log_prefix_T) == pytest.approx([1, row[b""]], rel=1e-5)


def test_a_source_that_stops_early_abstains_afterwards() -> None:
    scores, ends_S = READER.scores(), READER.ends[:3]
    ends_T = np.arange(len(TEXT) + 2)
    spoken = condition(
        READER.table, TEXT, ends_S, ends_T, pair_boundaries(ends_S, ends_T), scores.next_ids_M[:2],
        scores.next_log_probs_M[:2], scores.top_ids_MK[:2], scores.top_log_probs_MK[:2],
    )  # fmt: skip
    np.testing.assert_array_equal(np.isfinite(spoken.log_prefix_T), ends_T <= ends_S[-1])
    assert np.all(spoken.probs_TC[ends_T >= ends_S[-1]] == 0)


def test_a_dummy_prefix_is_read_like_the_space_that_it_is() -> None:
    """SentencePiece puts a space in front: its first boundary is at -1."""
    table = toy.table([b" a", b" b", b" ", b"a", b"b", b""])
    probs_1V = np.array([[0.4, 0.3, 0.1, 0.1, 0.05, 0.05]], np.float32)
    ids_1V = np.arange(6, dtype=np.int32)[None]
    ends_S, ends_T = np.array([-1, 1]), np.array([0, 1])
    spoken = condition(
        table, b"a", ends_S, ends_T, pair_boundaries(ends_S, ends_T), ids_1V[:, 0], np.log(probs_1V[:, 0]),
        ids_1V, np.log(probs_1V),
    )  # fmt: skip
    assert toy.candidates(table, spoken, 0, spoken.probs_TC[0]) == pytest.approx({b"a": 0.5, b"b": 0.375})
    assert spoken.retained_T[0] == pytest.approx(0.8)


def test_tokens_that_are_none_are_left_out() -> None:
    """Padding, entries beyond the vocabulary, special tokens, and the actual one's second mention."""
    table = toy.with_special(toy.table([b"", b"a", b"b"]))
    top_1K = np.array([[1, -1, 99, 3, 2]], np.int32)
    log_probs_1K = np.log(np.array([[0.5, 0.2, 0.1, 0.1, 0.1]], np.float32))
    ends = np.array([0, 1])
    spoken = condition(
        table, b"a", ends, ends, pair_boundaries(ends, ends), top_1K[:, 0], log_probs_1K[:, 0], top_1K, log_probs_1K
    )
    assert toy.candidates(table, spoken, 0, spoken.probs_TC[0]) == pytest.approx({b"a": 0.5, b"b": 0.1})
