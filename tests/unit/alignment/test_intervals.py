"""Set-valued targets against sets of tokens, and against every way a unigram source can spell a string."""

from collections.abc import Iterator
from functools import cache
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given

from pta_ray.alignment.conditioning import SourceCandidates, condition
from pta_ray.alignment.intervals import interval_targets, token_intervals
from pta_ray.alignment.pairing import pair_boundaries
from pta_ray.alignment.pinning import Pinned, pin
from pta_ray.distributions import IntervalTargets, own_distribution
from tests.fixtures.load import load_fixture
from tests.oracles.prefixes import Row, conditional
from tests.unit.alignment import toy
from tests.unit.alignment.test_conditioning import rows
from tests.unit.alignment.toy import World

Tokens = frozenset[bytes]


def run(world: World) -> tuple[SourceCandidates, Pinned, IntervalTargets]:
    spoken = world.spoken()
    pinned = world.pinned(spoken)
    confidence_M = np.ones(len(world.target.ids_M), np.float32)
    return spoken, pinned, interval_targets(world.vocabularies, spoken, pinned, confidence_M, world.target.ids_M)


def stands_for(x: bytes, vocabulary: list[bytes]) -> Tokens:
    """The tokens that begin with x, or else the longest one that x begins with."""
    return frozenset(y for y in vocabulary if y.startswith(x)) or frozenset(
        [max((y for y in vocabulary if x.startswith(y)), key=len)]
    )


def beliefs(left: Row, vocabulary: list[bytes], actual: bytes, actual_prob: float) -> dict[Tokens, float]:
    """The mass of all sets within each set, with what the candidates have left and the actual token's probability."""
    sets = [(stands_for(x, vocabulary), mass) for x, mass in left.items() if x and mass > 0]
    alone = frozenset([actual])
    held = {
        tokens: sum((mass for inner, mass in sets if inner <= tokens), actual_prob * (actual in tokens))
        for tokens, _ in sets
    }
    return held | {alone: actual_prob}


def named(world: World, found: IntervalTargets, m: int) -> Iterator[tuple[Tokens, float]]:
    """The tokens and the probability of each entry, in the order of the entries, empty ones left out."""
    in_order = sorted(world.target.vocabulary[1:])
    for low, high, prob in zip(found.low_MI[m], found.high_MI[m], found.probs_MI[m].tolist(), strict=True):
        if low < high:
            yield frozenset(in_order[low:high]), prob
        else:
            assert (low, high, prob) == (0, 0, 0)


@given(toy.worlds())
def test_an_interval_has_the_mass_of_all_sets_within_it(world: World) -> None:
    spoken, pinned, found = run(world)
    for m, actual in enumerate(world.target.tokens[:-1]):
        left = toy.candidates(world.source.table, spoken, m, pinned.rest_MC[m])
        expected = beliefs(left, world.target.vocabulary[1:], actual, float(pinned.actual_M[m]))
        (first, _), *_ = entries = list(named(world, found, m))
        assert first == {actual}
        assert len(dict(entries)) == len(entries)
        assert dict(entries) == pytest.approx(expected, rel=1e-5)


@given(toy.worlds(unigram=True))
def test_no_probability_is_above_that_of_all_spellings(world: World) -> None:
    """Equal where no shorter candidate can go on with the string, and nothing that begins with it lies elsewhere."""
    spoken, pinned, found = run(world)
    source, vocabulary = world.source, world.target.vocabulary[1:]
    [row, *_] = rows(source)
    for m, actual in enumerate(world.target.tokens[:-1]):
        follow, _ = conditional(world.text, source.tokens, rows(source), int(world.target.ends[m]))
        follow = {x: prob for x, prob in follow.items() if x}  # the end of the document is followed by nothing
        if spoken.retained_T[m] < 1:
            follow[b""] = 1 - sum(follow.values())  # the token that is all read: anything follows it
        left = toy.candidates(source.table, spoken, m, pinned.rest_MC[m])
        probs = dict(named(world, found, m))
        del probs[frozenset([actual])]
        for tokens, prob in probs.items():
            said = [x for x, mass in left.items() if x and mass > 0 and stands_for(x, vocabulary) == tokens]
            x = min([*said, *tokens] if len(tokens) == 1 else said, key=len)
            assert prob <= begins_with(x, follow, row) * (1 + 1e-4)
            longer = [z for z in follow if z.startswith(x)]
            shorter = [z for z in follow if x.startswith(z) and z != x]
            if x in said and not shorter and all(stands_for(z, vocabulary) <= tokens for z in longer):
                assert prob == pytest.approx(begins_with(x, follow, row), rel=1e-4)


def begins_with(x: bytes, follow: Row, row: Row) -> float:
    """P(the next bytes begin with x) over all spellings, the first token from `follow`, those behind it from `row`."""

    @cache
    def again(x: bytes) -> float:
        return spelt(x, {z: prob for z, prob in row.items() if z})

    def spelt(x: bytes, first: Row) -> float:
        whole = sum(prob for z, prob in first.items() if z.startswith(x))
        return whole + sum(prob * again(x[len(z) :]) for z, prob in first.items() if x.startswith(z) and z != x)

    return spelt(x, follow)


@given(toy.worlds())
def test_nested_intervals_are_monotone_and_intervals_apart_share_out_the_mass(world: World) -> None:
    _, _, found = run(world)
    for m in range(len(world.target.ids_M)):
        entries = list(named(world, found, m))
        for one, other in combinations(entries, 2):
            (inner, small), (outer, large) = sorted((one, other), key=lambda entry: len(entry[0]))
            assert inner.isdisjoint(outer) or (inner <= outer and small <= large)
        apart = [prob for tokens, prob in entries if not any(tokens < other for other, _ in entries)]
        assert sum(apart) <= 1 + 1e-5


def test_a_hand_example() -> None:
    """The text goes on "ab", which the source reads as "a", "b": the probability of its way on is within what begins
    with "ab", beside its own token "ab"; "abbb" lies beyond all of the target's tokens, and so does "abba"."""
    source = toy.table([b"", b"a", b"b", b"ab", b"abbb", b"abba", b"\xff"])
    target = toy.table([b"", b"a", b"b", b"ab", b"aba", b"abb"])
    row = np.array([0.0, 0.4, 0.1, 0.2, 0.1, 0.05, 0.15])
    world = World(
        b"ab", toy.Reader(source, np.array([1, 2, 0], np.int32), np.tile(row, (3, 1))),
        toy.Reader(target, np.array([3, 0], np.int32), np.full((2, 6), 1 / 6)),
    )  # fmt: skip
    _, _, found = run(world)
    actual = 0.4 * 0.1
    ab = {b"ab", b"aba", b"abb"}
    assert dict(named(world, found, 0)) == pytest.approx(
        {
            frozenset([b"ab"]): actual,
            frozenset(ab): actual + 0.2 + 0.1 + 0.05,
            frozenset([b"a", *ab]): 0.4 + 0.2 + 0.1 + 0.05,
            frozenset([b"abb"]): 0.1 + 0.05,
            frozenset([b"b"]): 0.1,
        }
    )
    assert list(named(world, found, 1)) == []  # the end of the document has no bytes


def test_tokens_with_equal_bytes_are_one_interval_and_the_actual_one_has_its_own_place() -> None:
    target = toy.table([b"", b"a", b"b", b"a"])
    world = World(
        b"ab", toy.reader(b"ab", [], 0), toy.Reader(target, np.array([1, 2, 0], np.int32), np.full((3, 4), 0.25))
    )
    _, pinned, found = run(world)
    assert target.sorted_ids_O.tolist() == [3, 1, 2]
    assert (found.low_MI[0, 0], found.high_MI[0, 0]) == (1, 2)
    assert found.probs_MI[0, 0] == pinned.actual_M[0]


def test_real_distributions() -> None:
    fixture = load_fixture()
    source, target = fixture.models["smollm2"], fixture.models["target"]
    vocabularies = toy.vocabularies(source.table, target.table)
    tokens = [target.table.token(i) for i in target.table.sorted_ids_O]
    for i in range(0, len(fixture.windows), 6):
        text, scores, ends_T = fixture.windows[i].text, source.scores[i], target.ends[i]
        last_T = pair_boundaries(source.ends[i], ends_T)
        spoken = condition(
            source.table, text, source.ends[i], ends_T, last_T,
            scores.next_ids_M, scores.next_log_probs_M, scores.top_ids_MK, scores.top_log_probs_MK,
        )  # fmt: skip
        pinned = pin(source.table, spoken, text, ends_T, last_T)
        next_ids_M = target.scores[i].next_ids_M
        confidence_M = np.ones(len(next_ids_M), np.float32)
        found = interval_targets(vocabularies, spoken, pinned, confidence_M, next_ids_M)
        ordinary_M = pinned.spoken_M & (target.table.lengths_V[next_ids_M] > 0)
        for m in np.flatnonzero(ordinary_M)[::40]:
            left = toy.candidates(source.table, spoken, m, pinned.rest_MC[m])
            expected = beliefs(left, tokens, target.table.token(next_ids_M[m]), float(pinned.actual_M[m]))
            places = zip(found.low_MI[m], found.high_MI[m], found.probs_MI[m].tolist(), strict=True)
            assert {frozenset(tokens[low:high]): prob for low, high, prob in places if low < high} == pytest.approx(
                expected, rel=1e-4
            )


@given(toy.worlds())
def test_the_targets_own_tokens_are_intervals_of_one(world: World) -> None:
    """Those without bytes, the end of the document among them, have none; a padded head's ids neither."""
    table = toy.with_special(world.target.table)
    special, padding = table.size - 1, -1
    own = own_distribution(world.target.scores(4))
    own.ids_MK[:, 1:][own.ids_MK[:, 1:] == 1] = special
    own.ids_MK[:, 1:][own.ids_MK[:, 1:] == 2] = padding
    found = token_intervals(table, own)
    assert found.low_MI.dtype == found.high_MI.dtype == np.int32
    assert found.probs_MI.shape == own.probs_MK.shape
    for m, ids_K in enumerate(own.ids_MK.tolist()):
        for k, i in enumerate(ids_K):
            low, high = found.low_MI[m, k], found.high_MI[m, k]
            if i in (0, special, padding):
                assert (low, high, found.probs_MI[m, k]) == (0, 0, 0)
            else:
                assert table.sorted_ids_O[low:high].tolist() == [i]
                assert found.probs_MI[m, k] == own.probs_MK[m, k]
    np.testing.assert_array_equal(found.confidence_M, own.confidence_M)
