"""Following a run whose cluster answers, or not, as it is told to here."""

from collections.abc import Callable

import pytest

from pta_ray.errors import StreamError
from pta_ray.submission.following import ConnectionLostError, Patience, follow

Step = int | str | None | type[BaseException]


class ToldRun:
    """Answers with exit codes, writes pieces of a log, or raises."""

    name = "told"
    stop_command = "stop told"

    def __init__(self, *steps: tuple[Step, Step]) -> None:
        self._steps = list(steps)

    def exit_code(self) -> int | None:
        code, _ = self._steps[0]
        if isinstance(code, type):
            self._advance()
            raise code("no answer")
        assert code is None or isinstance(code, int)
        return code

    def copy_log(self, write: Callable[[str], None]) -> None:
        _, piece = self._advance()
        if isinstance(piece, type):
            raise piece("cut off")
        if isinstance(piece, str):
            write(piece)

    def _advance(self) -> tuple[Step, Step]:
        return self._steps.pop(0) if len(self._steps) > 1 else self._steps[0]


def run_to_end(run: ToldRun, total_seconds: float = 5) -> tuple[int, str, list[str]]:
    written: list[str] = []
    said: list[str] = []
    code = follow(run, written.append, said.append, Patience(0.001, 0.004, total_seconds))
    return code, "".join(written), said


@pytest.mark.parametrize("code", [0, 1, 2])
def test_what_is_written_before_the_end_is_copied_and_the_exit_code_is_the_runs(code: int) -> None:
    assert run_to_end(ToldRun((None, "a"), (None, None), (code, "b"))) == (code, "ab", [])


@pytest.mark.parametrize("lost", [(ConnectionLostError, None), (None, ConnectionLostError)])
def test_a_lost_connection_is_said_once_and_taken_up_again(lost: tuple[Step, Step]) -> None:
    code, written, said = run_to_end(ToldRun((None, "a"), lost, lost, lost, (None, "b"), (0, None)))
    assert (code, written) == (0, "ab")
    assert [line.split(" (")[0] for line in said] == ["the connection is lost", "connected again"]


@pytest.mark.parametrize("lost", [(ConnectionLostError, None), (None, ConnectionLostError)])
def test_a_cluster_that_stays_away_is_given_up(lost: tuple[Step, Step]) -> None:
    with pytest.raises(StreamError, match="told may go on: the same command follows it again"):
        run_to_end(ToldRun((None, "a"), lost), total_seconds=0.05)


def test_tries_come_ever_more_slowly(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr("time.sleep", waits.append)
    patience = Patience(first_seconds=1, longest_seconds=5)
    for _ in range(5):
        patience.wait(ConnectionLostError(""), "run", print)
    assert waits == [1, 2, 4, 5, 5]


def test_an_interruption_leaves_the_run_and_says_how_to_end_it() -> None:
    said: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        follow(ToldRun((None, KeyboardInterrupt)), print, said.append, Patience())
    [line] = said
    assert "told goes on" in line and "stop told" in line
