import io
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pta_ray.ledger import LEDGER_SCHEMA, Ledger

Window = tuple[int, int]

# How many rows each task has; 0 for a task without windows.
LENGTHS = st.lists(st.integers(0, 7), min_size=1, max_size=8)


def add(ledger: Ledger, windows: Sequence[Window], lengths: Sequence[int]) -> None:
    tasks, rows = (np.array([window[i] for window in windows], np.int32) for i in range(2))
    ledger.add(tasks, rows, np.array([row == lengths[task] - 1 for task, row in windows], np.bool_))


def held(ledger: Ledger, lengths: Sequence[int]) -> set[Window]:
    """What a ledger holds as a reader of the tasks sees it."""
    return {
        (task, row)
        for task, length in enumerate(lengths)
        for row, is_missing in enumerate(ledger.missing(task, np.arange(length, dtype=np.int32)))
        if not is_missing
    }


@st.composite
def additions(draw: st.DrawFn) -> tuple[list[int], list[list[Window]]]:
    """Some of the windows of some tasks, in any order, in several steps."""
    lengths = draw(LENGTHS)
    windows = draw(st.permutations([(task, row) for task, length in enumerate(lengths) for row in range(length)]))
    cuts = sorted(draw(st.lists(st.integers(0, len(windows)), min_size=1, max_size=4)))
    return lengths, [windows[start:stop] for start, stop in zip([0, *cuts], cuts, strict=False)]


@given(additions())
def test_it_is_a_set_of_windows(case: tuple[list[int], list[list[Window]]]) -> None:
    lengths, steps = case
    ledger, expected = Ledger(), set[Window]()
    for step in steps:
        add(ledger, step, lengths)
        expected |= set(step)
        assert held(ledger, lengths) == expected
        assert ledger.num_windows == len(expected)
        for task, length in enumerate(lengths):
            assert ledger.is_done(task) == (length > 0 and {(task, row) for row in range(length)} <= expected)


@given(additions(), st.data())
def test_no_window_is_learned_from_twice(case: tuple[list[int], list[list[Window]]], data: st.DataObject) -> None:
    lengths, steps = case
    ledger, added = Ledger(), [window for step in steps for window in step]
    for step in steps:
        add(ledger, step, lengths)
    others = [(task, row) for task, length in enumerate(lengths) for row in range(length) if (task, row) not in added]
    again = data.draw(st.sampled_from(added)) if added else (0, 0)
    twice = others + [again] * (1 if added else 2)
    with pytest.raises(ValueError, match=f"row {again[1]} of task {again[0]} has been learned from before"):
        add(ledger, data.draw(st.permutations(twice)), lengths)
    assert held(ledger, lengths) == set(added)
    assert ledger.num_windows == len(added)
    add(ledger, others, lengths)
    assert all(ledger.is_done(task) for task, length in enumerate(lengths) if length)


@given(additions())
def test_a_table_holds_all_of_it(case: tuple[list[int], list[list[Window]]]) -> None:
    lengths, steps = case
    ledger, file = Ledger(), io.BytesIO()
    for step in steps:
        add(ledger, step, lengths)
    table = ledger.to_table()
    assert table.schema == LEDGER_SCHEMA
    pq.write_table(table, file)
    again = Ledger.from_table(pq.read_table(file))
    assert held(again, lengths) == held(ledger, lengths)
    assert again.num_windows == ledger.num_windows
    rest = set.difference({(t, row) for t, length in enumerate(lengths) for row in range(length)}, *map(set, steps))
    for one in (ledger, again):
        add(one, sorted(rest, reverse=True), lengths)
    assert again.to_table().equals(ledger.to_table())
    assert again.to_table().num_rows == sum(length > 0 for length in lengths)


def test_a_table_tells_which_tasks_are_done_and_how_far_the_others_are() -> None:
    ledger, lengths = Ledger(), [3, 2, 9, 4]
    add(ledger, [(2, 7), (0, 1), (2, 0), (3, 3), (2, 1), (0, 2), (3, 1), (0, 0)], lengths)
    assert ledger.to_table().to_pylist() == [
        {"task": 0, "start": 0, "stop": 3, "num_rows": 3},
        {"task": 2, "start": 0, "stop": 2, "num_rows": None},
        {"task": 2, "start": 7, "stop": 8, "num_rows": None},
        {"task": 3, "start": 1, "stop": 2, "num_rows": 4},
        {"task": 3, "start": 3, "stop": 4, "num_rows": 4},
    ]


def test_an_empty_ledger_misses_everything() -> None:
    for ledger in (Ledger(), Ledger.from_table(Ledger().to_table())):
        assert ledger.num_windows == 0 and not ledger.is_done(5)
        assert ledger.missing(5, np.array([0, 1 << 30], np.int32)).all()


def test_a_long_run_takes_bytes_for_each_task_and_not_for_each_window() -> None:
    num_tasks, rows_per_task = 200_000, 2_000  # 400 million windows, 300 GB of text
    tasks = np.arange(num_tasks, dtype=np.int32)
    whole = np.full(num_tasks, rows_per_task, np.int32)
    table = pa.table([tasks, np.zeros_like(whole), whole, whole], schema=LEDGER_SCHEMA)
    ledger, file = Ledger.from_table(table), io.BytesIO()
    for row in range(3):  # the next tasks under way
        under_way = np.arange(num_tasks, num_tasks + 64, dtype=np.int32)
        ledger.add(under_way, np.full(64, row, np.int32), np.zeros(64, np.bool_))
    assert ledger.num_windows == num_tasks * rows_per_task + 3 * 64
    in_memory = sum(value.nbytes for value in vars(ledger).values() if isinstance(value, np.ndarray))
    assert in_memory <= 6 * num_tasks
    pq.write_table(ledger.to_table(), file, compression="zstd")
    assert len(file.getvalue()) <= 6 * num_tasks
