"""The trie against brute force over the vocabulary."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pta_ray.alignment.trie import build_trie, token_within, walk
from pta_ray.tokenizers.byte_table import ByteTable
from pta_ray.tokenizers.byte_tokenizer import ByteTokenizer
from tests.unit.alignment import toy

few_bytes = st.binary(max_size=6).map(lambda text: bytes(b"ab\x00\xff"[c % 4] for c in text))
tokens = st.lists(st.one_of(few_bytes, st.binary(max_size=4)), max_size=40)


def brute_force(table: ByteTable, x: bytes) -> tuple[int, int, int]:
    in_order = [(int(i), table.token(i)) for i in table.sorted_ids_O]
    longest = max((len(token) for _, token in in_order if x.startswith(token)), default=0)
    prefix = next((i for i, token in in_order if token == x[:longest]), -1)
    places = [place for place, (_, token) in enumerate(in_order) if token.startswith(x)]
    return (prefix, places[0], places[-1] + 1) if places else (prefix, 0, 0)


def walked(table: ByteTable, xs: list[bytes]) -> list[tuple[int, int, int]]:
    trie = build_trie(table)
    return [walk(trie, np.frombuffer(x, np.uint8)) for x in xs]


@given(tokens, st.lists(few_bytes, min_size=1))
def test_a_walk_finds_the_longest_prefix_and_the_tokens_that_begin_with_the_string(
    vocabulary: list[bytes], xs: list[bytes]
) -> None:
    table = toy.table(vocabulary)
    xs += vocabulary
    assert walked(table, xs) == [brute_force(table, x) for x in xs]


@given(tokens, few_bytes, few_bytes)
def test_a_token_that_ends_within_the_rest_is_found(vocabulary: list[bytes], x: bytes, rest: bytes) -> None:
    table = toy.table(vocabulary)
    ordinary = [table.token(i) for i in table.sorted_ids_O]
    expected = any(len(token) > len(x) and (x + rest).startswith(token) for token in ordinary)
    found = token_within(build_trie(table), np.frombuffer(x, np.uint8), np.frombuffer(rest, np.uint8))
    assert found == expected


def test_every_byte_may_follow_every_byte() -> None:
    table = toy.table([bytes([a, b]) for a in range(0, 256, 5) for b in range(256)])
    xs = [bytes([a, b]) for a in range(0, 256, 15) for b in range(0, 256, 51)] + [b"\x00", b"\xff", b"\x01\x00", b""]
    assert walked(table, xs) == [brute_force(table, x) for x in xs]


def test_of_tokens_with_equal_bytes_the_first_in_byte_order_is_found() -> None:
    table = toy.table([b"a", b"ab", b"a", b"ab"])
    assert walked(table, [b"abc", b"a"]) == [(table.sorted_ids_O[2], 0, 0), (table.sorted_ids_O[0], 0, 4)]


def test_each_token_of_a_real_vocabulary_leads_to_itself(tokenizers: dict[str, ByteTokenizer]) -> None:
    for tokenizer in tokenizers.values():
        table = tokenizer.table
        tokens = [table.token(i) for i in table.sorted_ids_O]
        for place, (found, low, high) in enumerate(walked(table, tokens)):
            assert table.token(found) == tokens[place] and low <= place < high
