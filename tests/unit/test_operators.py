"""Queues and the bottleneck of streams whose figures can be told from how they were made."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pta_ray.board import Batch, Board, Operator, Process, SetAside, Snapshot
from pta_ray.config import Job, ServedModel
from pta_ray.operators import bottleneck, operators, queue_lengths
from pta_ray.placement import place

OPERATORS = [
    Operator("read", ("read",), "more CPUs"),
    Operator("score a, b", ("score a", "score b"), "more replicas"),
    Operator("align", ("align",), "more alignment.replicas"),
    Operator("train", ("train",), "more training.workers"),
]
STAGES = [stage for operator in OPERATORS for stage in operator.stages]
HERE = Process("host", 1, 0.0)


def job(**settings: object) -> Job:
    return Job.model_validate(
        {"target": "t", "sources": ["a", {"model": "b", "engine": "simulated"}], "data": "text", **settings}
    )


def finish(board: Board, stage: str, first_row: int, num: int, num_held_out: int = 0) -> None:
    rows_N = np.arange(first_row, first_row + num, dtype=np.int32)
    board.end(
        Batch(stage, np.zeros_like(rows_N), rows_N, np.zeros(len(rows_N), np.bool_), num_held_out),
        HERE,
        10 * num,
        1.0,
        {},
    )


def worked(stage_seconds: dict[str, tuple[float, int, float]], windows: int = 100) -> Snapshot:
    """A stream of so many windows. Of each stage: busy seconds of a process per window, processes, when they begin."""
    snapshot = Snapshot(operators=OPERATORS)
    for s, (stage, (seconds, num_processes, begin)) in enumerate(stage_seconds.items()):
        shared = 1 if stage in {"score a", "score b"} else s  # these take turns in the same processes
        for p in range(num_processes):
            process = Process("host", 100 * shared + p, 0.0)
            for i in range(windows // num_processes):
                snapshot.stages[stage].add(process, begin + (i + 1) * max(seconds, 1.0), 1, 10, seconds)
    return snapshot


def test_operators_are_those_of_the_stream_and_models_that_share_actors_are_one() -> None:
    found = operators(place(job(), has_gpus=False), job().models)
    assert [operator.name for operator in found] == ["read", "score t, a", "score b (simulated)", "align", "train"]
    assert [operator.stages for operator in found[1:3]] == [("score t", "score a"), ("score b (simulated)",)]


def test_what_waits_is_what_the_stage_before_has_done() -> None:
    board = Board(operators=OPERATORS)
    finish(board, "read", 0, 50, num_held_out=5)
    finish(board, "score a", 0, 30, num_held_out=5)
    finish(board, "score b", 0, 20, num_held_out=5)
    assert queue_lengths(board.snapshot()) == {"score a": 20, "score b": 10}
    finish(board, "align", 0, 5, num_held_out=5)
    finish(board, "align", 5, 9)
    board.work("train", HERE, 4, 40, 1.0)
    assert queue_lengths(board.snapshot()) == {"score a": 20, "score b": 10, "align": 6, "train": 5}


def test_windows_that_were_set_aside_wait_for_nothing() -> None:
    board = Board(operators=OPERATORS)
    finish(board, "score a", 0, 10)
    finish(board, "score b", 0, 9)
    assert queue_lengths(board.snapshot())["score b"] == 1
    board.set_aside(SetAside("w", "score b", "why", 0.1))
    finish(board, "align", 0, 9)
    assert queue_lengths(board.snapshot()) == {"score b": 0, "align": 0}


def test_a_stream_that_is_started_again_has_nothing_waiting() -> None:
    board = Board(operators=OPERATORS)
    finish(board, "score a", 0, 10)
    finish(board, "score b", 0, 2)
    board.start_over({}, [])
    assert queue_lengths(board.snapshot()) == {"score b": 0}
    finish(board, "score a", 2, 8)
    assert queue_lengths(board.snapshot()) == {"score b": 8}
    assert board.snapshot().stages["score a"].rows == 18, "what was done stays counted"


@given(st.permutations(range(len(STAGES))).map(list), st.lists(st.integers(1, 400), min_size=4, max_size=4))
def test_queues_are_those_of_windows_that_move_one_by_one(order: list[int], moves: list[int]) -> None:
    board, done = Board(operators=OPERATORS), [0] * len(STAGES)
    for seed in moves:
        for s in order:
            room = (400 if s == 0 else done[s - 1]) - done[s]
            num = min(room, 1 + seed % 17)
            if num:
                finish(board, STAGES[s], done[s], num)
                done[s] += num
    found = queue_lengths(board.snapshot())
    assert found == {STAGES[s]: done[s - 1] - done[s] for s in range(1, len(STAGES)) if done[s - 1] and done[s]}


def test_before_any_work_nothing_limits() -> None:
    assert bottleneck(Snapshot(operators=OPERATORS)) is None


@pytest.mark.parametrize("slow", ["read", "align", "train"])
def test_the_stage_that_takes_longest_for_a_window_limits(slow: str) -> None:
    stages = {stage: (2.0 if stage == slow else 0.1, 1, 0.0) for stage in STAGES}
    found = bottleneck(worked(stages))
    assert found is not None
    assert (found.operator, found.busy_share) == (slow, pytest.approx(1.0))
    assert found.windows_per_second == pytest.approx(0.5)


def test_models_that_take_turns_add_up() -> None:
    found = bottleneck(worked({"score a": (0.4, 1, 0.0), "score b": (0.4, 1, 0.0), "train": (0.7, 1, 0.0)}))
    assert found is not None and found.operator == "score a, b"
    assert found.windows_per_second == pytest.approx(1 / 0.8)
    assert found.busy_share == pytest.approx(0.8, abs=0.01)
    assert str(found) == "limited by score a, b (busy 80%); what would help: more replicas"


def test_several_processes_share_the_work() -> None:
    one, four = ({"score a": (2.0, n, 0.0), "train": (1.0, 1, 0.0)} for n in (1, 4))
    assert [bottleneck(worked(stages)).operator for stages in (one, four)] == ["score a, b", "train"]  # type: ignore[union-attr]


def test_processes_that_follow_each_other_are_one_at_a_time() -> None:
    snapshot = worked({"train": (1.5, 1, 0.0)})
    for p in range(4):  # each takes over where the last one died
        for i in range(25):
            snapshot.stages["score a"].add(Process("host", p, 0.0), 2.0 * (25 * p + i + 1), 1, 10, 2.0)
    found = bottleneck(snapshot)
    assert found is not None and found.operator == "score a, b"
    assert found.windows_per_second == pytest.approx(0.5)


def test_waiting_for_a_model_that_starts_late_is_no_work() -> None:
    found = bottleneck(worked({"score a": (1.0, 1, 0.0), "train": (3.0, 1, 10_000.0)}))
    assert found is not None and found.operator == "train"


def test_a_stream_from_a_cache_is_trained_only() -> None:
    target = ServedModel(model="t")
    placement = place(job(), has_gpus=False)
    of_cache = replace(placement, scoring=[])
    assert [operator.name for operator in operators(of_cache, [target])] == ["train"]
