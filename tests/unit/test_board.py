"""What the board knows when reports come twice, out of order, or not at all."""

from collections.abc import Iterable, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pta_ray.board import Batch, Board, Process, SetAside

HERE, THERE = Process("here", 1, 0.0), Process("there", 2, 0.0)


def make_batch(rows: Sequence[int] = range(4), task: int = 0, stage: str = "score") -> Batch:
    return Batch(stage, np.full(len(rows), task, np.int32), np.array(rows, np.int32), np.zeros(len(rows), np.bool_))


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@st.composite
def ends(draw: st.DrawFn) -> tuple[int, list[Batch]]:
    """How many windows there are, and batches of them that end: each one so often as a whole, and then each of its
    windows so often alone; those of different batches in any order."""
    queues, first = [], 0
    for size in draw(st.lists(st.integers(1, 4), min_size=1, max_size=5)):
        rows = range(first, first + size)
        num_whole = draw(st.integers(0, 3))
        least_alone = 0 if num_whole else 1
        alone = [row for row in rows for _ in range(draw(st.integers(least_alone, 3)))]
        singles = [make_batch([row]) for row in draw(st.permutations(alone))]
        queues.append([make_batch(rows)] * num_whole + singles)
        first += size
    turns = draw(st.permutations([i for i, queue in enumerate(queues) for _ in queue]))
    iterators = [iter(queue) for queue in queues]
    return first, [next(iterators[i]) for i in turns]


@given(ends())
def test_what_is_done_again_does_not_count_again(case: tuple[int, list[Batch]]) -> None:
    num_windows, batches = case
    board = Board(0.0)
    for batch in batches:
        assert board.begin(batch, HERE, 9) == 0
        board.end(batch, HERE, 10 * len(batch.rows_N), 1.0, {"seen": len(batch.rows_N)})
    snapshot = board.snapshot()
    assert snapshot.counts["seen"] == snapshot.stages["score"].rows == num_windows
    assert snapshot.stages["score"].tokens == 10 * num_windows


def test_stages_and_tasks_count_for_themselves() -> None:
    board = Board(0.0)
    for batch in (make_batch(), make_batch(task=1), make_batch(stage="align")):
        board.end(batch, HERE, 0, 0.0, {"seen": 1})
    assert board.snapshot().counts["seen"] == 3
    assert {name: stage.rows for name, stage in board.snapshot().stages.items()} == {"score": 8, "align": 4}


def test_a_batch_may_hold_windows_of_several_tasks() -> None:
    board, batch = (
        Board(0.0),
        Batch("score", np.array([0, 0, 1], np.int32), np.array([7, 8, 0], np.int32), np.zeros(3, np.bool_)),
    )
    for one in (batch, batch, make_batch([8]), make_batch([1], task=1)):
        board.end(one, HERE, 0, 0.0, {"seen": len(one.rows_N)})
    assert board.snapshot().counts["seen"] == 4


@given(st.lists(st.sampled_from(["dies", "fails", "is left"]), max_size=6))
def test_a_batch_that_is_begun_again_tells_how_often_it_was_cut_short(events: list[str]) -> None:
    board, num_failed = Board(0.0), 0
    for event in events:
        assert board.begin(make_batch(), HERE, 9) == num_failed
        if event == "fails":
            board.fail(make_batch())
        elif event == "is left":
            board.leave(make_batch())
        num_failed += event != "is left"
    assert board.begin(make_batch(), THERE, 9) == num_failed
    assert board.begin(make_batch([0]), HERE, 9) == board.begin(make_batch(stage="align"), HERE, 9) == 0
    assert board.snapshot().stages["score"].failures == num_failed
    board.end(make_batch(), THERE, 0, 0.0, {})
    assert board.begin(make_batch(), HERE, 9) == 0


def test_a_process_is_overdue_once_for_each_batch_that_it_hangs_at() -> None:
    clock = Clock()
    board = Board(0.0, clock)
    board.begin(make_batch(task=0), HERE, 10)
    board.begin(make_batch(task=1), THERE, 20)
    clock.now += 10
    assert board.overdue() == []
    clock.now += 1
    assert board.overdue() == [HERE] and board.overdue() == []
    assert board.begin(make_batch(task=0), HERE, 10) == 1
    clock.now += 10.5
    assert sorted(board.overdue()) == [HERE, THERE] and board.overdue() == []


@pytest.mark.parametrize("what", ["end", "fail", "leave"])
def test_nobody_is_overdue_at_a_batch_that_is_over(what: str) -> None:
    clock = Clock()
    board = Board(0.0, clock)
    board.begin(make_batch(), HERE, 10)
    if what == "end":
        board.end(make_batch(), HERE, 0, 0.0, {})
    else:
        getattr(board, what)(make_batch())
    clock.now += 99
    assert board.overdue() == []


def make_set_aside(names: Iterable[str], share: float) -> list[SetAside]:
    return [SetAside(name, "score", "too odd", share) for name in names]


def test_so_much_of_the_text_may_be_set_aside_and_no_more() -> None:
    board = Board(0.25)
    found = make_set_aside("abcde", 0.0625)
    for one in found[:4]:
        assert board.set_aside(one) == "" == board.set_aside(one)  # a window that is tried again
    problem = board.set_aside(found[4])
    assert problem.startswith("31.2% of the training text failed, more than data.max_failed_share; the first: ")
    assert problem.endswith("a: score: too odd; b: score: too odd; c: score: too odd")
    assert board.snapshot().set_aside == found


def test_what_has_no_part_in_the_training_may_all_be_set_aside() -> None:
    board = Board(0.0)
    assert [board.set_aside(one) for one in make_set_aside("abc", 0.0)] == [""] * 3


def test_starting_over_knows_what_a_checkpoint_knew() -> None:
    clock = Clock()
    board = Board(0.25, clock)
    for task in range(2):
        board.begin(make_batch(task=task), HERE, 10)
    board.end(make_batch(task=0), HERE, 0, 0.0, {"seen": 4})
    for one in make_set_aside("ab", 0.125):
        board.set_aside(one)
    board.start_over({"seen": 2}, [["a", "score", "too odd", 0.125]])  # as JSON has it
    clock.now += 99
    assert board.overdue() == []
    assert board.snapshot().set_aside == make_set_aside("a", 0.125)
    assert board.begin(make_batch(task=1), HERE, 10) == 0
    board.end(make_batch(task=0), HERE, 0, 0.0, {"seen": 4})
    assert board.snapshot().counts == {"seen": 6}
    assert [bool(board.set_aside(one)) for one in make_set_aside("abc", 0.125)] == [False, False, True]


def test_every_time_the_memory_runs_out_half_as_many_tokens_are_taken() -> None:
    board = Board(0.0)
    assert board.batched_tokens("score", 1024) == 1024
    assert board.ran_out_of_memory("score", 1024)
    assert board.batched_tokens("score", 1024) == 512
    assert board.ran_out_of_memory("score", 1024)  # another actor, that still had more
    assert board.batched_tokens("score", 1024) == 512
    assert board.batched_tokens("score", 256) == 256
    assert board.batched_tokens("another", 1024) == 1024
    assert [board.ran_out_of_memory("score", tokens) for tokens in (512, 256, 128, 64)] == [True, True, True, False]
    assert board.snapshot().stages["score"].failures == 6


def test_the_busy_share_is_that_of_the_time_that_processes_were_there() -> None:
    clock = Clock()
    board = Board(0.0, clock)
    # One is busy for 2 + 3 of 10 seconds, the other, which came later, for all of its 5.
    for now, process, row, seconds in ((2, HERE, 0, 2.0), (10, HERE, 1, 3.0), (10, THERE, 2, 5.0)):
        clock.now = 1000.0 + now
        board.end(make_batch([row]), process, 30, seconds, {})
    stage = board.snapshot().stages["score"]
    assert stage.busy_share == pytest.approx((2 + 3 + 5) / (10 + 5))
    assert stage.tokens_per_second == pytest.approx(90 / 10)


def test_a_stage_that_has_done_nothing_has_no_speed() -> None:
    board = Board(0.0)
    board.fail(make_batch())
    stage = board.snapshot().stages["score"]
    assert (stage.busy_share, stage.tokens_per_second) == (0.0, 0.0)


def test_the_training_begins_with_the_first_step_that_is_reported() -> None:
    clock = Clock()
    board = Board(0.0, clock)
    assert board.snapshot().training_began is None
    for progress in (0.25, 0.5):
        board.step({"step": 1, "progress": progress})
        clock.now += 7
    assert board.snapshot().training_began == (1000.0, 0.25)
    assert board.snapshot().training == {"step": 1, "progress": 0.5}
