"""The walk and the minimum-edit-cost programme against brute force, each other and the true byte boundaries."""

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pta_ray.alignment.pairing import pair_boundaries, pair_by_edit_distance, pair_whole_by_edit_distance
from pta_ray.tokenizers.byte_table import ByteTable
from pta_ray.tokenizers.byte_tokenizer import ByteTokenizer
from tests.conftest import CORPUS
from tests.oracles.pairing import cheapest_pairings, cost_of, least_cost
from tests.unit.alignment import toy

TEXT = "".join(CORPUS[:6])
short = st.lists(st.binary(min_size=1, max_size=4).map(lambda b: bytes(32 + x % 4 for x in b)), min_size=1, max_size=5)


def sequence(tokens: list[bytes], ends: bool) -> tuple[ByteTable, np.ndarray]:
    """A table with one entry per token behind its EOS, which also starts the sequence."""
    return toy.table([b"", *tokens]), np.array([0, *range(1, len(tokens) + 1), *([0] if ends else [])], np.int32)


def pairs(last_T: np.ndarray) -> set[tuple[int, int]]:
    return {(int(s), t) for t, s in enumerate(last_T) if s >= 0}


@settings(max_examples=100)
@given(short, short)
def test_the_programme_finds_a_path_of_least_cost(source: list[bytes], target: list[bytes]) -> None:
    found = pair_whole_by_edit_distance(*sequence(source, False), *sequence(target, False), 8)
    assert frozenset(pairs(found)) in cheapest_pairings(source, target)


@settings(max_examples=100)
@given(short, short, st.integers(1, 4), st.booleans())
def test_pairing_with_the_sides_exchanged_gives_the_same_pairs(
    source: list[bytes], target: list[bytes], band: int, whole: bool
) -> None:
    pair = pair_whole_by_edit_distance if whole else pair_by_edit_distance
    there = pair(*sequence(source, True), *sequence(target, True), band)
    back = pair(*sequence(target, True), *sequence(source, True), band)
    assert pairs(there) == {(s, t) for t, s in pairs(back)}


@settings(max_examples=100)
@given(short, short, st.integers(1, 4))
def test_pairs_rise_on_both_sides_and_ends_meet_by_role(source: list[bytes], target: list[bytes], band: int) -> None:
    found = pair_by_edit_distance(*sequence(source, True), *sequence(target, True), band)
    assert found[0] == 0 and found[-1] == len(source) + 1
    assert np.all(np.diff(found[found >= 0]) > 0)


@given(st.lists(st.binary(min_size=1, max_size=3), min_size=1, max_size=40), st.integers(1, 3))
def test_walk_and_programme_agree_where_all_groups_are_one_to_one(tokens: list[bytes], band: int) -> None:
    table, ids = sequence([bytes(33 + x % 90 for x in token) for token in tokens], False)
    ends = np.concatenate([[0], np.cumsum(table.lengths_V[ids[1:]])])
    expected = pair_boundaries(ends, ends).tolist()
    assert pair_whole_by_edit_distance(table, ids, table, ids, band).tolist() == expected
    assert pair_by_edit_distance(table, ids, table, ids, band).tolist() == expected


def test_groups_of_every_shape_around_a_byte_that_differs() -> None:
    source = [b"ab", b"c", b"X", b"de", b"fg", b"h"]
    target = [b"a", b"bc", b"x", b"d", b"e", b"fgh"]
    found = pair_by_edit_distance(*sequence(source, True), *sequence(target, True), 8)
    assert found.tolist() == [0, -1, 2, 3, -1, 4, 6, 7]


def test_the_programme_finds_the_shapes_of_groups_that_it_can_tell_apart() -> None:
    """1-1, N-1 and 1-N. Not N-M: a diagonal step inside such a group leaves out a cell, so it never costs more."""
    source, target = [b"Aaa", b"aa", b"aa", b"aabaZ"], [b"z", b"aa", b"aaaaaa", b"bab"]
    expected = {(0, 0), (1, 1), (3, 2), (4, 4)}
    assert cheapest_pairings(source, target) == {frozenset(expected)}
    for pair in (pair_by_edit_distance, pair_whole_by_edit_distance):
        assert pairs(pair(*sequence(source, False), *sequence(target, False), 8)) == expected


def test_spaces_alone_do_not_shift_pairs() -> None:
    source, target = [b" a", b" ", b" ", b"b", b"c ", b"d", b"."], [b"a", b"  ", b"bc", b" d", b" ."]
    found = pair_by_edit_distance(*sequence(source, True), *sequence(target, True), 8)
    assert found.tolist() == [0, 1, 3, -1, 6, 7, 8]


def test_what_follows_a_truncated_side_pairs_with_nothing() -> None:
    source, target = [b"ab", b"cd"], [b"a", b"b", b"cdef", b"g"]
    found = pair_by_edit_distance(*sequence(source, False), *sequence(target, True), 8)
    assert found.tolist() == [0, -1, 1, -1, -1, -1]


def test_an_unknown_token_agrees_with_nothing_but_what_surrounds_it_pairs(word_piece: ByteTokenizer) -> None:
    [ids] = word_piece.encode(["the text \U0001f984 is not the text"])
    assert word_piece.backend.token_to_id("[UNK]") in ids
    sequence_L = word_piece.sequence(ids, True, 99)
    found = pair_by_edit_distance(word_piece.table, sequence_L, word_piece.table, sequence_L, 8)
    assert found.tolist() == list(range(len(sequence_L)))


def test_a_long_insertion_stays_inside_a_band_that_widens() -> None:
    source = [bytes([65 + i % 26, 65 + i // 26]) for i in range(200)]
    target = [t.lower() for t in source[:20]] + [b"%d" % i for i in range(90)] + [t.lower() for t in source[20:]]
    source = [t[:1] + t[1:].lower() for t in source]
    narrow = pair_by_edit_distance(*sequence(source, True), *sequence(target, True), 1)
    wide = pair_by_edit_distance(*sequence(source, True), *sequence(target, True), 500)
    assert np.mean(narrow == wide) > 0.95


@pytest.mark.parametrize(
    ("source_kind", "target_kind"),
    [("byte_level", "small_byte_level"), ("sentencepiece", "byte_level"), ("unigram", "byte_level")],
)
def test_where_bytes_agree_the_pairs_are_the_shared_boundaries(
    all_tokenizers: dict[str, ByteTokenizer], source_kind: str, target_kind: str
) -> None:
    source, target = all_tokenizers[source_kind], all_tokenizers[target_kind]
    text = TEXT + "  x   y \n\n"
    sides = [sequence_of(tokenizer, text) for tokenizer in (source, target)]
    ends_S, ends_T = (t.boundaries(s, text.encode()) for t, s in zip((source, target), sides, strict=True))
    assert ends_S is not None and ends_T is not None
    true = {(s, t) for s, a in enumerate(ends_S) for t, b in enumerate(ends_T) if a == b and t > 0}
    assert pairs(pair_by_edit_distance(source.table, sides[0], target.table, sides[1], 16)) == {(0, 0), *true}


def sequence_of(tokenizer: ByteTokenizer, text: str) -> np.ndarray:
    [ids] = tokenizer.encode([text])
    return tokenizer.sequence(ids, True, len(ids) + 2)


@pytest.mark.parametrize("source_kind", ["word_piece", "lowercase", "sentencepiece"])
def test_the_band_loses_nothing_on_texts(all_tokenizers: dict[str, ByteTokenizer], source_kind: str) -> None:
    """The banded path costs what the cheapest path of the whole table costs."""
    tokenizers = all_tokenizers[source_kind], all_tokenizers["byte_level"]
    source, target = sides = [sequence_of(tokenizer, TEXT[:500]) for tokenizer in tokenizers]
    found = pairs(pair_whole_by_edit_distance(tokenizers[0].table, source, tokenizers[1].table, target, 8))
    tokens = [
        [t.table.token(i) if t.table.roles_V[i] == 0 else b"\xff" for i in s[1:-1]]
        for t, s in zip(tokenizers, sides, strict=True)
    ]
    inside = {(s, t) for s, t in found if s <= len(tokens[0])}
    assert cost_of(inside, *tokens) == least_cost(*tokens)


@pytest.mark.parametrize("source_kind", ["word_piece", "lowercase"])
def test_normalising_tokenizers_pair_most_words(all_tokenizers: dict[str, ByteTokenizer], source_kind: str) -> None:
    text = CORPUS[1] * 8
    source, target = all_tokenizers[source_kind], all_tokenizers["byte_level"]
    sequences = [sequence_of(tokenizer, text) for tokenizer in (source, target)]
    assert source.boundaries(sequences[0], text.encode()) is None
    last_T = pair_by_edit_distance(source.table, sequences[0], target.table, sequences[1], 16)
    assert len(pairs(last_T)) > 0.5 * text.count(" ")
    prefixes = [(spelt(source, sequences[0][:s]), spelt(target, sequences[1][:t])) for s, t in closed(last_T)]
    assert np.mean([a == b for a, b in prefixes]) > 0.8


def closed(last_T: np.ndarray) -> list[tuple[int, int]]:
    """Lengths of the two sequences up to each pair, the end of the document left out."""
    return [(s + 1, t + 1) for s, t in pairs(last_T) if t + 1 < len(last_T)]


def spelt(tokenizer: ByteTokenizer, sequence_L: np.ndarray) -> bytes:
    return tokenizer.table.joined(sequence_L[1:]).lower().replace(b" ", b"")


def test_time_grows_with_the_length_and_not_with_its_square() -> None:
    def seconds(length: int) -> float:
        source = [bytes([65 + i * 7 % 26, 65 + i * 11 % 26]) for i in range(length)]
        sides = sequence(source, True), sequence([t.lower() for t in source], True)
        best = float("inf")
        for _ in range(3):
            begin = time.process_time()
            pair_by_edit_distance(*sides[0], *sides[1], 8)
            best = min(best, time.process_time() - begin)
        return best

    seconds(10)
    assert seconds(8_000) < 24 * seconds(1_000)
