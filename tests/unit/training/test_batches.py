import dataclasses
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pta_ray.distributions import FusedRow, FusedTargets, IntervalTargets, SparseDistribution
from pta_ray.training.batches import collate, deal, find_bad
from pta_ray.training.loss import SetTargets, TokenTargets

lengths_of_windows = st.lists(st.integers(2, 300), max_size=70)


def make_row(length: int, num_entries: int, seed: int, of_tokens: bool) -> FusedRow:
    """A window of `length` tokens."""
    rng = np.random.default_rng(seed)
    shape = (length - 1, num_entries)
    ids_L = rng.integers(1, 100, length).astype(np.int32)
    probs = rng.random(shape, np.float32) / num_entries
    confidence_M = rng.random(length - 1, np.float32)
    is_own_M = rng.random(length - 1) < 0.5
    low = rng.integers(0, 50, shape).astype(np.int32)
    if not of_tokens:
        return FusedRow(ids_L, IntervalTargets(low, low + 1, probs, confidence_M), is_own_M)
    low[:, 0] = ids_L[1:]
    return FusedRow(ids_L, SparseDistribution(low, probs, confidence_M), is_own_M)


def work(lengths: list[int], micro_batch: list[int]) -> int:
    """Tokens that a pass goes through, padding included."""
    return len(micro_batch) * max((lengths[i] for i in micro_batch), default=0)


@given(lengths_of_windows, st.integers(1, 7), st.integers(1, 9))
def test_every_window_is_dealt_once_and_all_workers_make_as_many_passes(
    lengths: list[int], num_workers: int, micro_batch_windows: int
) -> None:
    dealt = deal(lengths, num_workers, micro_batch_windows)
    assert sorted(i for passes in dealt for micro_batch in passes for i in micro_batch) == list(range(len(lengths)))
    assert [len(passes) for passes in dealt] == [-(-len(lengths) // (num_workers * micro_batch_windows))] * num_workers
    assert max((len(m) for passes in dealt for m in passes), default=0) <= micro_batch_windows


@given(lengths_of_windows, st.integers(1, 7), st.integers(1, 9))
def test_work_is_even_among_workers(lengths: list[int], num_workers: int, micro_batch_windows: int) -> None:
    """In total as in each pass, they differ by the largest micro-batch at most, and by one window."""
    dealt = deal(lengths, num_workers, micro_batch_windows)
    windows = [sum(len(micro_batch) for micro_batch in passes) for passes in dealt]
    positions = [sum(work(lengths, micro_batch) for micro_batch in passes) for passes in dealt]
    largest = max((work(lengths, micro_batch) for passes in dealt for micro_batch in passes), default=0)
    assert max(windows) - min(windows) <= 1
    assert max(positions) - min(positions) <= largest


@given(lengths_of_windows, st.integers(1, 7), st.integers(1, 9))
def test_no_window_is_padded_beyond_the_next_micro_batch(
    lengths: list[int], num_workers: int, micro_batch_windows: int
) -> None:
    """Lengths of two micro-batches do not interleave, so that what is padding adds up to one longest window a place."""
    micro_batches = [m for passes in deal(lengths, num_workers, micro_batch_windows) for m in passes if m]
    spans = sorted((min(lengths[i] for i in m), max(lengths[i] for i in m)) for m in micro_batches)
    assert all(high <= next_low for (_, high), (next_low, _) in pairwise(spans))
    padding = sum(work(lengths, m) for m in micro_batches) - sum(lengths)
    assert padding <= micro_batch_windows * max(lengths, default=0)


@pytest.mark.parametrize("of_tokens", [True, False])
@given(st.lists(st.tuples(st.integers(2, 9), st.integers(1, 5)), min_size=1, max_size=5))
def test_windows_come_out_of_a_batch_as_they_went_in(of_tokens: bool, shapes: list[tuple[int, int]]) -> None:
    rows = [make_row(length, num_entries, seed, of_tokens) for seed, (length, num_entries) in enumerate(shapes)]
    batch = collate(rows)
    num_B, num_M = len(rows), batch.ids_BL.shape[1] - 1
    assert batch.num_positions == sum(len(row.ids_L) - 1 for row in rows)
    assert batch.num_positions + batch.num_padded == num_B * num_M
    assert isinstance(batch.targets, TokenTargets if of_tokens else SetTargets)
    *entries, confidence_N, weight_N = (tensor.view(num_B, num_M, *tensor.shape[1:]) for tensor in batch.targets)
    for row, (ids_L, targets, _) in enumerate(rows):
        m = len(ids_L) - 1
        assert batch.ids_BL[row].tolist() == ids_L.tolist() + [0] * (num_M - m)
        assert weight_N[row].tolist() == [1] * m + [0] * (num_M - m)
        *fields, confidence_M = (getattr(targets, field.name) for field in dataclasses.fields(targets))
        np.testing.assert_array_equal(confidence_N[row, :m], confidence_M)
        for tensor, array in zip(entries, fields, strict=True):
            np.testing.assert_array_equal(tensor[row, :m, : array.shape[1]], array)
        empty = entries[0][row] == (-1 if of_tokens else entries[1][row])
        assert empty[m:].all() and empty[:, fields[0].shape[1] :].all()
        assert not entries[-1][row][empty].any()


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(1, 5)), min_size=1, max_size=5))
def test_sums_by_window_leave_nothing_out(shapes: list[tuple[int, int]]) -> None:
    batch = collate([make_row(length, num_entries, 0, True) for length, num_entries in shapes])
    ones_N = batch.targets.weight_N
    assert batch.by_window(ones_N).tolist() == [length - 1 for length, _ in shapes]


@pytest.mark.parametrize("of_tokens", [True, False])
def test_a_batch_without_a_window_is_that_of_the_others(of_tokens: bool) -> None:
    rows = [make_row(9, 3, seed, of_tokens) for seed in range(4)]
    found, expected = collate(rows).without([0, 2]), collate([rows[1], rows[3]])
    torch.testing.assert_close(found.ids_BL, expected.ids_BL)
    torch.testing.assert_close(found.targets, expected.targets)


SPOILT = [
    *((of_tokens, name, value) for of_tokens in (True, False) for name in ("probs", "confidence")
      for value in (np.nan, np.inf, -0.1, 1.01)),
    (False, "low", -1),
    (False, "low", 60),  # beyond high
]  # fmt: skip


@pytest.mark.parametrize(("of_tokens", "name", "value"), SPOILT)
def test_windows_with_a_bad_target_are_found(of_tokens: bool, name: str, value: float) -> None:
    rows = [make_row(9, 3, seed, of_tokens) for seed in range(4)]
    assert find_bad(rows) == []
    for index in (1, 3):
        rows[index] = rows[index]._replace(targets=spoilt(rows[index].targets, name, value))
    assert find_bad(rows) == [1, 3]


def spoilt(targets: FusedTargets, name: str, value: float) -> FusedTargets:
    """The targets with one number of a field changed."""
    [field] = [field.name for field in dataclasses.fields(targets) if field.name.startswith(name)]
    array = getattr(targets, field).copy()
    array.flat[5] = value
    return dataclasses.replace(targets, **{field: array})


def test_a_probability_that_float16_rounded_up_is_none() -> None:
    """A window is not bad for it."""
    row = make_row(9, 3, 0, True)
    assert isinstance(row.targets, SparseDistribution)
    row.targets.probs_MK[2, 0] = np.nextafter(np.float16(1), np.float16(2))
    assert find_bad([row]) == []
