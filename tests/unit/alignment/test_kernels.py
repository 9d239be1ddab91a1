"""Pairing, candidates, cost and transport against brute force, rapidfuzz and POT."""

import numpy as np
import ot
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rapidfuzz.distance import Levenshtein

from pta_ray.alignment.candidates import TargetCandidates, longest_prefix
from pta_ray.alignment.conditioning import SourceCandidates
from pta_ray.alignment.cost import transport_cost
from pta_ray.alignment.pairing import pair_boundaries
from pta_ray.alignment.transport import transport
from pta_ray.tokenizers.byte_tokenizer import ByteTokenizer
from tests.unit.alignment import toy

rising = st.lists(st.integers(0, 60), min_size=1, max_size=20).map(sorted)
strings = st.lists(st.binary(min_size=1, max_size=6), min_size=1, max_size=6, unique=True)


@given(rising, rising)
def test_pairing_finds_the_last_boundary_at_or_before(ends_S: list[int], ends_T: list[int]) -> None:
    found = pair_boundaries(np.array(ends_S, np.int64), np.array(ends_T, np.int64))
    expected = [max((s for s, end in enumerate(ends_S) if end <= target), default=-1) for target in ends_T]
    assert found.tolist() == expected


@given(st.binary(max_size=12))
def test_longest_prefix_is_the_longest(text: bytes) -> None:
    table = toy.table([b"a", b"ab", b"abcd", b"", b"\x00", b"\xff", b"\xff\x00", b"b"])
    found = longest_prefix(np.frombuffer(text, np.uint8), table.data_N, table.offsets_V1, table.sorted_ids_O)
    fitting = [i for i in range(table.size) if table.token(i) and text.startswith(table.token(i))]
    assert found == max(fitting, key=lambda i: len(table.token(i)), default=-1)


def test_longest_prefix_of_a_token_is_that_token(tokenizers: dict[str, ByteTokenizer]) -> None:
    for tokenizer in tokenizers.values():
        table = tokenizer.table
        for i in table.sorted_ids_O[::7]:
            x = np.frombuffer(table.token(i), np.uint8)
            found = longest_prefix(x, table.data_N, table.offsets_V1, table.sorted_ids_O)
            assert table.token(found) == table.token(i)


def costs(kind: str, xs: list[bytes], ys: list[bytes]) -> np.ndarray:
    source, target = toy.table(xs), toy.table(ys)
    spoken = SourceCandidates(
        source.offsets_V1[None, :-1], np.diff(source.offsets_V1)[None].astype(np.int32),
        np.ones((1, len(xs)), np.float32), np.ones(1, np.float32), np.zeros(1),
    )  # fmt: skip
    candidates = TargetCandidates(np.arange(len(ys), dtype=np.int32)[None], np.ones((1, len(ys)), np.float32))
    return transport_cost(kind, source, spoken, target, candidates)[0]  # type: ignore[arg-type]


@given(strings, strings)
def test_edit_cost_agrees_with_rapidfuzz(xs: list[bytes], ys: list[bytes]) -> None:
    expected = [[Levenshtein.normalized_distance(x, y) for y in ys] for x in xs]
    np.testing.assert_allclose(costs("edit", xs, ys), expected, atol=1e-6)


@given(strings, strings)
def test_prefix_cost_is_zero_exactly_where_one_begins_with_the_other(xs: list[bytes], ys: list[bytes]) -> None:
    free = [[x.startswith(y) or y.startswith(x) for y in ys] for x in xs]
    assert (costs("prefix", xs, ys) == 0).tolist() == free


@pytest.mark.parametrize(("epsilon", "rho"), [(0.05, 0.2), (0.5, 1.0), (1.0, 0.05), (0.1, 1e6)])
def test_transport_agrees_with_pot(epsilon: float, rho: float) -> None:
    rng = np.random.default_rng(0)
    cost = rng.uniform(0, 1, (8, 6, 9)).astype(np.float32)
    p = rng.dirichlet(np.ones(6), 8).astype(np.float32)
    q = rng.dirichlet(np.ones(9), 8).astype(np.float32)
    masses, num_missed = transport(cost, p, q, epsilon, rho)
    assert num_missed == 0
    for m in range(8):
        # POT's entropic term is relative to p q^T by default; reg_type="entropy" is the plain one of the equation.
        plan = ot.unbalanced.sinkhorn_unbalanced(
            p[m], q[m], cost[m].astype(np.float64), epsilon, (float("inf"), rho), reg_type="entropy",
            numItermax=20_000, stopThr=1e-12,
        )  # fmt: skip
        np.testing.assert_allclose(masses[m], plan.sum(0), atol=2e-4)


@settings(max_examples=200)
@given(st.integers(0, 10_000), st.floats(0.01, 10), st.floats(1e-3, 1e3))
def test_transport_conserves_mass_whatever_the_input(seed: int, epsilon: float, rho: float) -> None:
    rng = np.random.default_rng(seed)
    cost = rng.choice([0, 0.5, 1], (4, 3, 5)).astype(np.float32)
    p = (rng.dirichlet(np.full(3, 0.1), 4) * rng.choice([0, 1e-6, 0.5, 1], (4, 1))).astype(np.float32)
    q = (rng.dirichlet(np.full(5, 0.1), 4) * rng.choice([0, 1], (4, 5))).astype(np.float32)
    masses, _ = transport(cost, p, q, epsilon, rho)
    assert np.all(np.isfinite(masses)) and np.all(masses >= 0)
    reachable = q.sum(1) > 0
    np.testing.assert_allclose(masses.sum(1)[reachable], p.sum(1)[reachable], atol=1e-5)
    assert np.all(masses[~reachable] == 0)
