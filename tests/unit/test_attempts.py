"""Work on windows that fails, or takes its process with it, on the real board."""

from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pta_ray.attempts import attempt
from pta_ray.board import SetAside
from pta_ray.errors import JobError, StreamError
from pta_ray.telemetry import Telemetry, Work
from tests.unit.in_process import in_process, make_windows

NUM_WINDOWS = 5

Fault = Callable[[Sequence[int]], None]
"""Does harm, or none, when some windows are worked on."""


class Died(BaseException):
    """The end of a process: nothing that follows it in the code is done."""


def run(telemetry: Telemetry, fault: Fault, num_windows: int = NUM_WINDOWS) -> list[str | None]:
    """Works on a block as often as its process dies, as Ray does."""

    def work_on(numbers: Sequence[int], work: Work) -> list[str]:
        fault(numbers)
        work.done(tokens=10 * len(numbers), counts={"seen": len(numbers)})
        return [f"result {i}" for i in numbers]

    while True:
        try:
            return attempt(telemetry, "score", 60.0, make_windows(num_windows), work_on)
        except Died:
            pass


def results(num_windows: int = NUM_WINDOWS, without: Sequence[int] = ()) -> list[str | None]:
    return [None if i in without else f"result {i}" for i in range(num_windows)]


class Bad:
    """Harm that some windows do, so often each; keeps what was tried."""

    def __init__(self, error: BaseException, windows: Sequence[int], times: float = float("inf")) -> None:
        self.error, self.left = error, dict.fromkeys(windows, times)
        self.tried: list[tuple[int, ...]] = []

    def __call__(self, numbers: Sequence[int]) -> None:
        self.tried.append(tuple(numbers))
        for i in numbers:
            if self.left.get(i, 0) > 0:
                self.left[i] -= 1
                raise self.error


def test_a_batch_is_worked_on_at_once() -> None:
    fault = Bad(ValueError(), [])
    with in_process() as (telemetry, board):
        assert run(telemetry, fault) == results()
    assert fault.tried == [tuple(range(NUM_WINDOWS))]
    stage = board.snapshot().stages["score"]
    assert (stage.rows, stage.tokens, stage.failures) == (NUM_WINDOWS, 10 * NUM_WINDOWS, 0)


def test_no_window_is_no_work() -> None:
    fault = Bad(ValueError(), [])
    with in_process() as (telemetry, _):
        assert run(telemetry, fault, num_windows=0) == []
    assert fault.tried == []


def test_a_window_that_fails_three_times_is_set_aside_and_the_others_are_not() -> None:
    fault = Bad(ValueError("too odd\nfor words"), [2])
    with in_process() as (telemetry, board):
        assert run(telemetry, fault) == results(without=[2])
    assert fault.tried == [(0, 1, 2, 3, 4), (0,), (1,), (2,), (2,), (2,), (3,), (4,)]
    assert board.snapshot().set_aside == [SetAside("0:2", "score", "ValueError: too odd", 0.01)]
    assert board.snapshot().counts["seen"] == NUM_WINDOWS - 1
    assert board.snapshot().stages["score"].failures == 1 + 3


def test_a_window_that_fails_less_often_is_not_set_aside() -> None:
    with in_process(max_failed_share=0.0) as (telemetry, board):
        assert run(telemetry, Bad(ValueError(), [2], times=3)) == results()  # in the batch, and twice alone
    assert board.snapshot().set_aside == [] and board.snapshot().counts["seen"] == NUM_WINDOWS


def test_windows_may_all_be_set_aside() -> None:
    with in_process() as (telemetry, board):
        assert run(telemetry, Bad(ValueError(), range(NUM_WINDOWS))) == [None] * NUM_WINDOWS
    assert [found.what for found in board.snapshot().set_aside] == [f"0:{i}" for i in range(NUM_WINDOWS)]


def test_too_many_that_are_set_aside_end_the_work_with_the_first_reasons() -> None:
    fault = Bad(ValueError("too odd"), [0, 1, 2])
    problem = "3.0% of the training text failed.*: 0:0: score: ValueError: too odd; 0:1: .*; 0:2: "
    with in_process(max_failed_share=0.025) as (telemetry, _), pytest.raises(StreamError, match=problem):
        run(telemetry, fault)
    assert (3,) not in fault.tried


@pytest.mark.parametrize("error", [JobError("max_batched_tokens", "too few"), StreamError("no such model")])
@pytest.mark.parametrize("times_before", [0, 1])
def test_what_trying_again_would_not_mend_is_not_tried_again(error: Exception, times_before: int) -> None:
    """At once, or when the windows are tried alone."""
    sudden, lasting = Bad(ValueError(), [3], times_before), Bad(error, [3])

    def fault(numbers: Sequence[int]) -> None:
        sudden(numbers)
        lasting(numbers)

    with in_process() as (telemetry, board), pytest.raises(type(error)) as caught:
        run(telemetry, fault)
    assert caught.value is error
    assert sum(3 in numbers for numbers in sudden.tried) == 1 + times_before
    assert board.snapshot().set_aside == []


def test_windows_of_a_process_that_died_are_tried_alone() -> None:
    fault = Bad(Died(), [2], times=1)
    with in_process(max_failed_share=0.0) as (telemetry, board):
        assert run(telemetry, fault) == results()
    assert fault.tried == [(0, 1, 2, 3, 4), (0,), (1,), (2,), (3,), (4,)]
    stage = board.snapshot().stages["score"]
    assert (stage.rows, stage.tokens, stage.failures) == (NUM_WINDOWS, 10 * NUM_WINDOWS, 1)


def test_a_window_that_three_processes_die_of_is_set_aside_at_the_price_of_one_more() -> None:
    fault = Bad(Died(), [2])
    with in_process() as (telemetry, board):
        assert run(telemetry, fault) == results(without=[2])
    assert board.snapshot().set_aside == [SetAside("0:2", "score", "a process that was at it has died", 0.01)]
    assert board.snapshot().stages["score"].failures == 1 + 3
    assert board.snapshot().counts["seen"] == NUM_WINDOWS - 1


def test_deaths_and_errors_of_a_window_are_counted_together() -> None:
    """It kills two processes, the first together with others, and then fails twice."""
    deadly, bad = Bad(Died(), [2], times=3), Bad(ValueError("too odd"), [2])

    def fault(numbers: Sequence[int]) -> None:
        deadly(numbers)
        bad(numbers)

    with in_process() as (telemetry, board):
        assert run(telemetry, fault) == results(without=[2])
    assert [numbers for numbers in bad.tried if 2 in numbers] == [(2,)]
    assert board.snapshot().set_aside == [SetAside("0:2", "score", "ValueError: too odd", 0.01)]


@given(
    lasting=st.dictionaries(st.integers(0, NUM_WINDOWS - 1), st.sampled_from([ValueError(), Died()])),
    passing=st.lists(st.tuples(st.integers(0, 30), st.sampled_from([ValueError(), Died()])), max_size=2),
    num_blocks=st.integers(1, 3),
)
def test_every_window_counts_once_or_is_set_aside_once_whatever_happens(
    lasting: dict[int, BaseException], passing: list[tuple[int, BaseException]], num_blocks: int
) -> None:
    """Some windows never succeed; two other pieces of work are cut short; and what was done is done again, since its
    result was lost."""
    times, calls = dict(passing), 0

    def fault(numbers: Sequence[int]) -> None:
        nonlocal calls
        calls += 1
        for error in [times.get(calls), *(lasting.get(i) for i in numbers)]:
            if error:
                raise error

    with in_process() as (telemetry, board):
        for _ in range(num_blocks):
            assert run(telemetry, fault) == results(without=[*lasting])
    snapshot = board.snapshot()
    num_sound = NUM_WINDOWS - len(lasting)
    assert snapshot.counts["seen"] == snapshot.stages["score"].rows == num_sound
    assert snapshot.stages["score"].tokens == 10 * num_sound
    assert sorted(found.what for found in snapshot.set_aside) == [f"0:{i}" for i in sorted(lasting)]
