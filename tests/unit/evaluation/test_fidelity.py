"""Fidelity: values worked out by hand, and what must hold for any distributions."""

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pta_ray.alignment.conditioning import EOS_LENGTH, SourceCandidates, condition
from pta_ray.alignment.pairing import pair_boundaries
from pta_ray.distributions import SparseDistribution, own_distribution
from pta_ray.evaluation.fidelity import (
    EOS_OUTCOME,
    NUM_OUTCOMES,
    TAIL_OUTCOME,
    Fidelity,
    aligned_next_bytes,
    fidelity_counts,
    fidelity_from_counts,
    information_bits,
    measure_fidelity,
    next_byte_divergence_bits,
    same_most_probable,
    source_next_bytes,
)
from tests.fixtures.load import Fixture, load_fixture
from tests.unit.alignment.toy import table

TABLE = table([b"", b"a", b"b", b"ab", b"c"])  # token 0 is EOS
A, B, C = b"abc"


@pytest.fixture(scope="module")
def fixture() -> Fixture:
    return load_fixture()


def source(tokens: list[list[int]], probs: list[list[float]], log_prefix: list[float]) -> SourceCandidates:
    """A source that knows `TABLE` and speaks at shared boundaries; the last boundary predicts nothing."""
    ids_TC = np.array([*tokens, [0] * len(tokens[0])])
    probs_TC = np.array([*probs, [0.0] * len(tokens[0])], np.float32)
    lengths_TC = np.where(ids_TC == 0, EOS_LENGTH, TABLE.lengths_V[ids_TC])
    return SourceCandidates(
        ids_TC=np.where(probs_TC > 0, ids_TC, -1).astype(np.int32),
        starts_TC=TABLE.offsets_V1[ids_TC],
        lengths_TC=np.where(probs_TC > 0, lengths_TC, 0).astype(np.int32),
        probs_TC=probs_TC,
        retained_T=np.ones(len(ids_TC), np.float32),
        log_prefix_T=np.array(log_prefix),
    )


def aligned(tokens: list[list[int]], probs: list[list[float]], confidence: list[float]) -> SparseDistribution:
    return SparseDistribution(
        np.array(tokens, np.int32), np.array(probs, np.float32), np.array(confidence, np.float32)
    )  # fmt: skip


def outcomes(mass: dict[int, float]) -> np.ndarray:
    """One row of next-byte outcomes."""
    row = np.zeros((1, NUM_OUTCOMES))
    row[0, list(mass)] = list(mass.values())
    return row


def test_tokens_with_the_same_first_byte_add_up_and_the_rest_is_tail() -> None:
    """EOS is an outcome of its own; an empty entry holds nothing."""
    expected = outcomes({A: 0.5, B: 0.25, EOS_OUTCOME: 0.125, TAIL_OUTCOME: 0.125})
    tokens, probs = [[3, 2, 1, 0]], [[0.25, 0.25, 0.25, 0.125]]
    np.testing.assert_allclose(source_next_bytes(TABLE, source(tokens, probs, [0.0, 0.0])), expected)
    found = aligned([[*tokens[0], -1]], [[*probs[0], 0.0]], [1.0])
    np.testing.assert_allclose(aligned_next_bytes(TABLE, found), expected)


def test_inside_a_token_the_next_byte_is_the_first_that_remains() -> None:
    inside = SourceCandidates(
        ids_TC=np.array([[3], [-1]], np.int32),
        starts_TC=np.array([[TABLE.offsets_V1[3] + 1], [0]]),  # 'ab' behind its 'a'
        lengths_TC=np.array([[1], [0]], np.int32),
        probs_TC=np.array([[0.75], [0.0]], np.float32),
        retained_T=np.ones(2, np.float32),
        log_prefix_T=np.zeros(2),
    )
    np.testing.assert_allclose(source_next_bytes(TABLE, inside), outcomes({B: 0.75, TAIL_OUTCOME: 0.25}))


def test_divergence_of_a_hand_example() -> None:
    """1/2 log2(2) + 1/4 log2(1/2) + 1/4 log2(1) = 1/4."""
    found = next_byte_divergence_bits(
        outcomes({A: 0.5, B: 0.25, TAIL_OUTCOME: 0.25}), outcomes({A: 0.25, B: 0.5, TAIL_OUTCOME: 0.25})
    )
    assert found == pytest.approx([0.25], abs=1e-3)


def test_naming_nothing_costs_the_most_and_agrees_with_nobody() -> None:
    sure, silent = outcomes({A: 1.0}), outcomes({TAIL_OUTCOME: 1.0})
    assert next_byte_divergence_bits(sure, silent) == pytest.approx([-math.log2(1e-6)], abs=0.01)
    assert not same_most_probable(sure, silent)[0]
    assert not same_most_probable(outcomes({0: 0.6, TAIL_OUTCOME: 0.4}), silent)[0]


def test_the_tail_is_no_most_probable_byte() -> None:
    assert same_most_probable(outcomes({A: 0.2, TAIL_OUTCOME: 0.8}), outcomes({A: 0.6, B: 0.4}))[0]
    assert not same_most_probable(outcomes({A: 0.6, B: 0.4}), outcomes({A: 0.3, B: 0.4, TAIL_OUTCOME: 0.3}))[0]


def test_a_token_that_is_not_named_gets_its_share_of_the_tail() -> None:
    """Two positions spoken at, 1 + 2 bits of the source; at the second a tail of 0.2 over the 4 tokens not named."""
    spoken = source([[1], [2], [4]], [[0.5], [0.25], [0.5]], [0.0, math.log(1 / 2), math.log(1 / 8), math.log(1 / 16)])
    found = aligned([[1, -1], [2, 1], [4, -1]], [[0.5, 0.0], [0.0, 0.8], [0.5, 0.0]], [1.0, 0.5, 0.0])
    source_bits, aligned_bits = information_bits(spoken, TABLE, found)
    assert source_bits == pytest.approx(3)
    assert aligned_bits == pytest.approx(1 - math.log2(0.2 / 4), rel=1e-5)


def test_a_one_hot_on_another_token_is_charged_the_floor() -> None:
    spoken = source([[1]], [[0.5]], [0.0, math.log(1 / 2)])
    _, aligned_bits = information_bits(spoken, TABLE, aligned([[1, 2]], [[0.0, 1.0]], [1.0]))
    assert aligned_bits == pytest.approx(-math.log2(1e-6 / 4))


def test_positions_that_abstain_count_for_coverage_alone() -> None:
    spoken = source([[1], [2]], [[0.5], [0.25]], [0.0, math.log(1 / 2), math.log(1 / 8)])
    entries = [[1], [2]], [[0.5], [0.25]]
    both = measure_fidelity(TABLE, spoken, TABLE, aligned(*entries, [1.0, 1.0]))
    first = measure_fidelity(TABLE, spoken, TABLE, aligned(*entries, [1.0, 0.0]))
    none = measure_fidelity(TABLE, spoken, TABLE, aligned(*entries, [0.0, 0.0]))
    assert (both.coverage, first.coverage, none.coverage) == (1.0, 0.5, 0.0)
    assert (both.source_bits, first.source_bits) == (pytest.approx(3), pytest.approx(1))
    assert both.information_kept == first.information_kept == pytest.approx(1)
    assert math.isnan(none.information_kept) and math.isnan(none.next_byte_divergence_bits)
    assert math.isnan(Fidelity().coverage)


def test_sums_add_up_over_windows() -> None:
    one = Fidelity(10, 8, 8, 6, 4.0, 20.0, 25.0)
    two = Fidelity(10, 10, 2, 1, 1.0, 5.0, 25.0)
    total = sum([one, two], Fidelity())
    assert total.coverage == 0.9
    assert total.next_byte_divergence_bits == 0.5
    assert total.next_byte_agreement == 0.7
    assert total.information_kept == 0.5


MASSES = st.dictionaries(st.sampled_from([0, A, B, EOS_OUTCOME, TAIL_OUTCOME]), st.floats(1e-9, 1), min_size=1)


@given(p=MASSES, q=MASSES)
def test_divergence_is_never_negative_and_nothing_from_itself(p: dict[int, float], q: dict[int, float]) -> None:
    p_1B, q_1B = (outcomes(mass) / sum(mass.values()) for mass in (p, q))
    assert next_byte_divergence_bits(p_1B, q_1B)[0] >= 0
    assert next_byte_divergence_bits(p_1B, p_1B)[0] == 0
    if p_1B[0, :TAIL_OUTCOME].any():
        assert same_most_probable(p_1B, p_1B)[0]


@pytest.mark.parametrize("name", ["target", "python", "translations", "smollm2"])
def test_a_model_keeps_everything_in_its_own_vocabulary(fixture: Fixture, name: str) -> None:
    model = fixture.models[name]
    total = Fidelity()
    for window, scores, ends in zip(fixture.windows, model.scores, model.ends, strict=True):
        spoken = condition(
            model.table, window.text, ends, ends, pair_boundaries(ends, ends),
            scores.next_ids_M, scores.next_log_probs_M, scores.top_ids_MK, scores.top_log_probs_MK,
        )  # fmt: skip
        total += measure_fidelity(model.table, spoken, model.table, own_distribution(scores))
    assert total.coverage == total.next_byte_agreement == 1
    assert total.next_byte_divergence_bits == pytest.approx(0, abs=1e-4)
    assert total.information_kept == pytest.approx(1, abs=1e-4)


def test_counted_fidelity_adds_up_by_source() -> None:
    first, second = Fidelity(10, 9, 8, 6, 1.0, 20.0, 21.0), Fidelity(4, 4, 4, 2, 0.5, 5.0, 6.0)
    counts: Counter[str] = Counter()
    for fidelity in (first, second):
        counts.update(fidelity_counts("a/b", fidelity))
    counts.update(fidelity_counts("c", first) | {"won/python/c": 3})
    assert fidelity_from_counts(counts) == {"a/b": first + second, "c": first}
