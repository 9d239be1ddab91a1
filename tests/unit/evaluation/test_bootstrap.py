"""Intervals against closed forms, and how often they hold what they should."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pta_ray.evaluation.bootstrap import Interval, compare
from pta_ray.evaluation.document_bits import DocumentBits


def documents(bits: list[list[float]], num_bytes: list[int]) -> DocumentBits:
    return DocumentBits(np.array(bits, np.float64), np.array(num_bytes), len(num_bytes))


def random_documents(rng: np.random.Generator, num: int, num_models: int = 2) -> DocumentBits:
    """Documents of very different lengths, the long ones dearer by the byte; models that agree about most of that."""
    num_bytes = rng.integers(50, 5000, num)
    of_text = 1 + num_bytes / 5000 + rng.normal(0, 0.2, num)
    bits = [num_bytes * (of_text + 0.1 * m + rng.normal(0, 0.02, num)) for m in range(num_models)]
    return documents([list(b) for b in bits], list(num_bytes))


def ends(interval: Interval) -> tuple[float, float]:
    assert interval.low is not None and interval.high is not None
    return interval.low, interval.high


def test_bits_per_byte_are_a_ratio_of_sums_and_the_mean_is_over_domains() -> None:
    found = compare({"a": documents([[10, 20], [30, 30]], [5, 25]), "b": documents([[8, 4], [2, 2]], [2, 2])}, 99)
    first, second = found.models
    assert [first.domains[name].estimate for name in "ab"] == [1.0, 3.0] and first.mean.estimate == 2.0
    assert [second.domains[name].estimate for name in "ab"] == [2.0, 1.0] and second.mean.estimate == 1.5
    [difference] = found.differences
    assert [difference.domains[name].estimate for name in "ab"] == [1.0, -2.0] and difference.mean.estimate == -0.5


def test_two_documents_give_the_interval_between_them() -> None:
    """Of two, a sample holds the one twice, the other twice, or both: a quarter, a quarter, a half."""
    [found] = compare({"text": documents([[10, 60]], [10, 20])}).models
    assert ends(found.domains["text"]) == (1.0, 3.0)
    assert found.domains["text"].estimate == pytest.approx(70 / 30)


def test_the_width_is_that_of_the_normal_approximation() -> None:
    """Of equally long documents the ratio is a mean, whose standard error is that of the sample over the root of D."""
    rng = np.random.default_rng(3)
    bits = rng.normal(200, 40, 500)
    [found] = compare({"text": documents([list(bits)], [100] * 500)}).models
    low, high = ends(found.domains["text"])
    error = bits.std() / 100 / math.sqrt(500)
    assert low == pytest.approx(bits.mean() / 100 - 1.96 * error, abs=0.1 * error)
    assert high == pytest.approx(bits.mean() / 100 + 1.96 * error, abs=0.1 * error)


@settings(max_examples=30)
@given(
    st.lists(st.tuples(st.integers(1, 5000), st.floats(0, 16)), min_size=2, max_size=30),
    st.floats(-1, 1),
)
def test_intervals_hold_the_estimate_and_a_constant_difference_has_no_width(
    texts: list[tuple[int, float]], shift: float
) -> None:
    num_bytes = [length for length, _ in texts]
    first = [length * rate for length, rate in texts]
    second = [length * (rate + shift) for length, rate in texts]
    found = compare({"text": documents([first, second], num_bytes)}, 999)
    for estimates in found.models:
        low, high = ends(estimates.domains["text"])
        assert low - 1e-9 <= estimates.domains["text"].estimate <= high + 1e-9
    [difference] = found.differences
    assert ends(difference.domains["text"]) == pytest.approx((shift, shift), abs=1e-9)
    assert difference.domains["text"] == difference.mean


def test_one_document_tells_nothing_of_others() -> None:
    two = documents([[8, 4]], [2, 2])
    [found] = compare({"one": documents([[10]], [5]), "two": two}, 99).models
    assert found.domains["one"] == Interval(2.0, None, None)
    assert found.mean == Interval(2.5, None, None)
    assert ends(found.domains["two"]) == (2.0, 4.0)


def test_pairing_takes_out_what_the_models_agree_on() -> None:
    found = compare({"text": random_documents(np.random.default_rng(5), 100)})
    widths = [high - low for low, high in (ends(e.domains["text"]) for e in [*found.models, *found.differences])]
    assert widths[2] < widths[0] / 5 and widths[2] < widths[1] / 5


def test_intervals_are_the_same_again() -> None:
    text = {"text": random_documents(np.random.default_rng(7), 20)}
    assert compare(text, 200) == compare(text, 200)


def test_nineteen_of_twenty_intervals_hold_the_truth() -> None:
    """Samples of 60 documents out of a population whose ratio is known. Of 400 intervals 380 should hold it, give or
    take 9; percentiles are a little short of that on samples of this size."""
    rng = np.random.default_rng(11)
    population = random_documents(rng, 20_000)
    truth_M = population.bits_MD.sum(axis=1) / population.bytes_D.sum()
    held = np.zeros(3)
    for _ in range(400):
        chosen = rng.integers(0, 20_000, 60)
        sample = DocumentBits(population.bits_MD[:, chosen], population.bytes_D[chosen], 60)
        found = compare({"text": sample}, 400)
        intervals = [ends(e.domains["text"]) for e in [*found.models, *found.differences]]
        truths = [*truth_M, truth_M[1] - truth_M[0]]
        held += [low <= truth <= high for (low, high), truth in zip(intervals, truths, strict=True)]
    assert all(0.91 <= share <= 0.98 for share in held / 400), held / 400
