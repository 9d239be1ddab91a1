"""What the handle reports of the code that it watches over."""

from types import SimpleNamespace

import pytest

from pta_ray.board import SetAside
from pta_ray.errors import StreamError
from tests.unit.in_process import in_process, make_windows

WINDOWS = make_windows(3)


def test_work_that_ends_is_entered_with_what_it_counted_until_then() -> None:
    with in_process() as (telemetry, board):
        counts = {"seen": 0}
        with telemetry.attempt("score", WINDOWS, 60.0) as work:
            work.done(tokens=7, counts=counts)
            counts["seen"] = 3
        with telemetry.attempt("score", WINDOWS, 60.0) as work:
            assert work.times_failed == 0
            work.done(tokens=7, counts=counts)
    stage = board.snapshot().stages["score"]
    assert (stage.rows, stage.tokens, stage.failures) == (3, 7, 0)
    assert board.snapshot().counts == {"seen": 3}


def test_work_that_fails_is_known_the_next_time_and_counts_nothing() -> None:
    with in_process() as (telemetry, board):
        for times in range(2):
            with pytest.raises(ValueError, match="odd"), telemetry.attempt("score", WINDOWS, 60.0) as work:
                assert work.times_failed == times
                work.done(tokens=7, counts={"seen": 3})
                raise ValueError("odd")
    stage = board.snapshot().stages["score"]
    assert (stage.rows, stage.tokens, stage.failures) == (0, 0, 2)
    assert board.snapshot().counts == {}


def test_work_that_is_left_counts_nothing_and_is_no_failure() -> None:
    with in_process() as (telemetry, board):
        for _ in range(2):
            with telemetry.attempt("score", WINDOWS, 60.0) as work:
                assert work.times_failed == 0
                work.leave()
    stages = board.snapshot().stages
    assert (stages["score"].rows, stages["score"].failures) == (0, 0)


def test_a_process_that_is_at_a_batch_for_too_long_is_named() -> None:
    clock = SimpleNamespace(now=0.0)
    with in_process(clock=lambda: clock.now) as (telemetry, _), telemetry.attempt("score", WINDOWS, 60.0):
        clock.now = 60.0
        assert telemetry.overdue() == []
        clock.now = 60.5
        [late] = telemetry.overdue()
        assert late.node == "this host" and late.pid > 0


def test_a_block_without_rows_is_no_work_of_a_stage_that_is_timed() -> None:
    with in_process() as (telemetry, board):
        for rows in (2, 0, 3):
            with telemetry.timed("train") as work:
                work.done(tokens=10, rows=rows)
    stage = board.snapshot().stages["train"]
    assert (stage.rows, stage.tokens) == (5, 20)


def test_what_is_set_aside_ends_the_run_when_it_is_too_much() -> None:
    found = [SetAside(f"0:{i}", "align", "too odd", 0.5) for i in range(2)]
    with in_process(max_failed_share=0.5) as (telemetry, board):
        telemetry.set_aside(found[0])
        with pytest.raises(StreamError, match=r"100.0% of the training text failed.*0:0: align: too odd; 0:1: align"):
            telemetry.set_aside(found[1])
    assert board.snapshot().set_aside == found


def test_memory_that_runs_out_is_known_to_the_next_process() -> None:
    with in_process() as (telemetry, _):
        assert telemetry.batched_tokens("score", 1024) == 1024
        assert telemetry.ran_out_of_memory("score", 1024)
        assert telemetry.batched_tokens("score", 1024) == 512
