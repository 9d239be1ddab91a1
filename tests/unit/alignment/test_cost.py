"""The costs against rapidfuzz and their definitions."""

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st
from rapidfuzz.distance import Levenshtein

from pta_ray.alignment.candidates import TargetCandidates
from pta_ray.alignment.conditioning import EOS_LENGTH, SourceCandidates
from pta_ray.alignment.cost import COSTS
from tests.unit.alignment import toy

few_bytes = st.text("ab\x00\xff", max_size=6).map(lambda text: text.encode("latin-1"))
long = st.text("ab", min_size=60, max_size=70).map(str.encode)
strings = st.lists(st.one_of(few_bytes, st.binary(max_size=4), long), min_size=1, max_size=6)


def costs(kind: str, xs: list[bytes], ys: list[bytes], p: list[float] | None = None) -> np.ndarray:
    """[C, Y]; empty strings are the ends of documents."""
    source, target = toy.table(xs), toy.table([*ys, b""])
    lengths_C = np.where(source.lengths_V == 0, EOS_LENGTH, source.lengths_V)
    ids_TC = np.tile(np.arange(len(xs), dtype=np.int32), (2, 1))
    spoken = SourceCandidates(
        ids_TC, np.tile(source.offsets_V1[:-1], (2, 1)), np.tile(lengths_C, (2, 1)).astype(np.int32),
        np.ones(ids_TC.shape, np.float32), np.ones(2, np.float32), np.zeros(2),
    )  # fmt: skip
    # Two targets may not end the document: the first entry that has no bytes stands for it.
    ids = [i if y else target.eos_id for i, y in enumerate(ys)]
    candidates = TargetCandidates(np.array([[*ids, -1]], np.int32), np.ones((1, len(ys) + 1), np.float32))
    p_MC = np.array([p or [1.0] * len(xs)], np.float32)
    cost_CY: np.ndarray = COSTS[kind](toy.vocabularies(source, target), spoken, p_MC, candidates)[0]
    assert np.all(cost_CY[:, -1] == 1)  # an empty entry
    return cost_CY[:, :-1]


def expected(xs: list[bytes], ys: list[bytes], of_strings: object) -> list[list[float]]:
    return [[of_strings(x, y) if x and y else float(x != y) for y in ys] for x in xs]  # type: ignore[operator]


@given(strings, strings)
def test_edit_cost_agrees_with_rapidfuzz(xs: list[bytes], ys: list[bytes]) -> None:
    np.testing.assert_allclose(costs("edit", xs, ys), expected(xs, ys, Levenshtein.normalized_distance), atol=1e-6)


nested = st.lists(st.text("ab", max_size=3).map(str.encode), min_size=3, max_size=8)
"""Many of which begin with one another."""


@given(st.one_of(strings, nested), st.one_of(strings, nested))
@example([b"ab", b"a"], [b"ab", b"a", b"abb"])
def test_canonical_cost_is_0_where_both_take_their_longest_token(xs: list[bytes], ys: list[bytes]) -> None:
    def cost(x: bytes, y: bytes) -> float:
        if x.startswith(y):
            return float(y != max((z for z in ys if x.startswith(z)), key=len))
        return float(not y.startswith(x) or any(y.startswith(z) for z in xs if len(z) > len(x)))

    np.testing.assert_allclose(costs("canonical", xs, ys), expected(xs, ys, cost), atol=1e-6)


def test_inside_a_token_what_was_read_counts_too() -> None:
    """Of the source's "ab" and "abc" the "a" is read: "bc" does not begin "ab", as that would have been "abc"."""
    source, target = toy.table([b"ab", b"abc", b"b"]), toy.table([b"b", b"bc", b"bd"])
    spoken = SourceCandidates(
        np.array([[0, 2]], np.int32), source.offsets_V1[[0, 2]][None] + [[1, 0]], np.array([[1, 1]], np.int32),
        np.ones((1, 2), np.float32), np.ones(1, np.float32), np.zeros(1),
    )  # fmt: skip
    candidates = TargetCandidates(np.array([[0, 1, 2]], np.int32), np.ones((1, 3), np.float32))
    found = COSTS["canonical"](toy.vocabularies(source, target), spoken, np.ones((1, 2), np.float32), candidates)
    np.testing.assert_allclose(found[0], [[0, 1, 0], [0, 0, 0]], atol=1e-6)


@given(strings, strings)
def test_prefix_cost_is_the_share_of_the_shorter_string_that_disagrees(xs: list[bytes], ys: list[bytes]) -> None:
    def share(x: bytes, y: bytes) -> float:
        shorter = min(len(x), len(y))
        return 1 - max(n for n in range(shorter + 1) if x[:n] == y[:n]) / shorter

    np.testing.assert_allclose(costs("prefix", xs, ys), expected(xs, ys, share), atol=1e-6)


@given(strings, strings)
def test_exact_cost_tells_equal_strings_from_others(xs: list[bytes], ys: list[bytes]) -> None:
    np.testing.assert_array_equal(costs("exact", xs, ys), expected(xs, ys, lambda x, y: float(x != y)))


@given(strings, strings, st.sampled_from(list(COSTS)))
def test_what_has_no_mass_costs_1_and_leaves_no_trace(xs: list[bytes], ys: list[bytes], kind: str) -> None:
    p = [float(c % 2) for c in range(len(xs))]
    found, whole = costs(kind, xs, ys, p), costs(kind, xs, ys)
    np.testing.assert_array_equal(found[1::2], whole[1::2])
    assert np.all(found[::2] == 1)
