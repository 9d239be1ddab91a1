"""Follows a run elsewhere to its end, over a connection that may be lost."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from pta_ray.errors import StreamError

Write = Callable[[str], None]
Answer = TypeVar("Answer")


class ConnectionLostError(Exception):
    """The cluster does not answer, or not sensibly; the run itself may go on."""


class RemoteRun(Protocol):
    """A run on a cluster, which goes on without us."""

    name: str
    stop_command: str
    """For a shell."""

    def exit_code(self) -> int | None:
        """Of `pta-ray fuse` there, once the run has ended. Raises `ConnectionLostError`."""

    def copy_log(self, write: Write) -> None:
        """Writes what has not been written of its log yet, and what comes, until the log ends or is silent for long.
        Raises `ConnectionLostError`."""


@dataclass
class Patience:
    """How long to wait for a cluster that does not answer."""

    first_seconds: float = 1.0
    """Before the second try; twice as long before each one after it."""
    longest_seconds: float = 30.0
    total_seconds: float = 1800.0
    """From the first try that failed to giving up."""
    _since: float | None = field(default=None, init=False)
    _seconds: float = field(default=0.0, init=False)

    def insist(self, ask: Callable[[], Answer], run: str, say: Write) -> Answer:
        """Asks until there is an answer. Raises as `wait`."""
        while True:
            try:
                answer = ask()
            except ConnectionLostError as error:
                self.wait(error, run, say)
            else:
                self.reached(say)
                return answer

    def reached(self, say: Write) -> None:
        """The cluster has answered."""
        if self._since is not None:
            say("connected again")
        self._since = None

    def wait(self, error: ConnectionLostError, run: str, say: Write) -> None:
        """Returns when it is time for another try.

        Raises:
            StreamError: the cluster was away for too long.
        """
        now = time.monotonic()
        if self._since is None:
            self._since, self._seconds = now, self.first_seconds
            say(f"the connection is lost ({error}); {run} may go on, trying again")
        if now - self._since >= self.total_seconds:
            waited = f"{self.total_seconds:.0f} s"
            raise StreamError(f"no answer for {waited} ({error}); {run} may go on: the same command follows it again")
        time.sleep(self._seconds)
        self._seconds = min(2 * self._seconds, self.longest_seconds)


def follow(run: RemoteRun, write: Write, say: Write, patience: Patience) -> int:
    """Copies the log of a run until its end, and returns its exit code.

    Args:
        write: takes pieces of the log, each once.
        say: takes what is to be said about the connection, a line at a time.

    Raises:
        StreamError: the cluster was away for too long.
    """

    def heard(piece: str) -> None:
        patience.reached(say)
        write(piece)

    try:
        while True:
            try:
                # Asked before the log is read: what the run has written before its end is then in there.
                exit_code = run.exit_code()
                run.copy_log(heard)
            except ConnectionLostError as error:
                patience.wait(error, run.name, say)
                continue
            patience.reached(say)
            if exit_code is not None:
                return exit_code
            time.sleep(patience.first_seconds)
    except KeyboardInterrupt:
        say(f"{run.name} goes on. The same command follows it again; this ends it: {run.stop_command}")
        raise
