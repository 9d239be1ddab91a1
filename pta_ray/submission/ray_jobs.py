"""Runs a job on a Ray cluster that is there already, through Ray's Jobs API."""

import asyncio
import logging
import os
from collections.abc import Iterator
from contextlib import aclosing, contextmanager
from functools import partial
from typing import Any

import aiohttp
from ray.exceptions import AuthenticationError
from ray.job_submission import JobDetails, JobStatus, JobSubmissionClient

from pta_ray.errors import JobError, StreamError, first_line
from pta_ray.submission.following import ConnectionLostError, Patience, Write
from pta_ray.submission.job import Submission, next_run

logging.getLogger(JobSubmissionClient.__module__).setLevel(logging.WARNING)  # says when each connection ends

_ANSWER_SECONDS = 30
_SILENCE_SECONDS = 60.0
_END = "END_OF_JOB"


class _Client(JobSubmissionClient):  # type: ignore[misc]
    """Ray's own would wait for an answer for ever."""

    def _do_request(self, *arguments: Any, **options: Any) -> Any:
        return super()._do_request(*arguments, timeout=_ANSWER_SECONDS, **options)


class RayJob:
    """A run that the cluster knows by its submission id."""

    def __init__(self, client: JobSubmissionClient, address: str, name: str) -> None:
        self._client, self._address, self.name = client, address, name
        self.stop_command = f"ray job stop --address {address} {name}"
        self._num_written = 0
        """Characters of the log."""

    def exit_code(self) -> int | None:
        """That of its driver, or 1 if it has none: it was stopped, or never began."""
        details = _find(self._client, self._address, self.name)
        if details is None:
            raise StreamError(f"{self._address} does not know {self.name} any more: the cluster was started anew")
        if not details.status.is_terminal():
            return None
        return 0 if details.status == JobStatus.SUCCEEDED else details.driver_exit_code or 1

    def copy_log(self, write: Write) -> None:
        """Every connection begins at the beginning of the log."""
        with _answers(self._address):
            asyncio.run(self._copy_log(write))

    async def _copy_log(self, write: Write) -> None:
        num_read = 0
        async with aclosing(self._client.tail_job_logs(self.name)) as pieces:
            while (piece := await _next(pieces)) is not None:
                num_read += len(piece)
                if num_read > self._num_written:
                    write(piece[self._num_written - num_read :])
                    self._num_written = num_read


async def _next(pieces: Any) -> str | None:
    """Nothing at the end, and after a silence: a connection that was cut somewhere on the way looks like that."""
    try:
        async with asyncio.timeout(_SILENCE_SECONDS):
            piece: str = await anext(pieces)
    except (StopAsyncIteration, TimeoutError):
        return None
    return piece


def submit(submission: Submission, address: str, say: Write, patience: Patience) -> RayJob:
    """Starts a job, or finds it if it runs there already.

    It travels in the command line, as the standard input of `pta-ray fuse`: the run needs no files but those of its
    hosts, and whoever looks at the dashboard sees what runs.

    Args:
        address: of the dashboard, `http://HOST:8265`.

    Raises:
        JobError: nothing answers at that address, or it wants another token.
        StreamError: the cluster was away for too long.
    """
    client = _connect(address)

    def has_ended(run: str) -> bool:
        details = _find(client, address, run)
        return details is not None and bool(details.status.is_terminal())

    def start(run: str) -> None:
        if _find(client, address, run) is None:
            _start(client, address, run, entrypoint)
        say(f"{run} is on {address}")

    entrypoint = f"pta-ray fuse /dev/stdin --resume <<'{_END}'\n{submission.content}{_END}\n"
    # Chosen once: should the answer to the start be lost, and the run end meanwhile, it is not begun again.
    run = patience.insist(partial(next_run, submission.name, has_ended), submission.name, say)
    patience.insist(partial(start, run), run, say)
    return RayJob(client, address, run)


def _start(client: JobSubmissionClient, address: str, run: str, entrypoint: str) -> None:
    """The cluster takes an id once: where the answer was lost, or another was faster, the run is there."""
    try:
        with _answers(address):
            client.submit_job(entrypoint=entrypoint, submission_id=run)
    except ConnectionLostError:
        if _find(client, address, run) is None:
            raise


def _connect(address: str) -> JobSubmissionClient:
    if not address.startswith(("http://", "https://")):
        raise JobError("--address", f"{address} is not that of a Ray dashboard: http://HOST:8265")
    os.environ["RAY_API_SERVER_ADDRESS"] = address  # RAY_ADDRESS would win over the client's argument
    try:
        with _answers(address):
            return _Client(address)
    except ConnectionLostError as error:
        raise JobError("--address", f"no Ray cluster answers at {address} ({error})") from None


def _find(client: JobSubmissionClient, address: str, run: str) -> JobDetails | None:
    try:
        with _answers(address):
            return client.get_job_info(run)
    except ConnectionLostError as error:
        if "status code 404" in str(error):
            return None
        raise


@contextmanager
def _answers(address: str) -> Iterator[None]:
    """What can go wrong when a cluster is asked for something."""
    try:
        yield
    except BrokenPipeError:
        raise  # nobody reads what is written here; the libraries wrap their own
    except AuthenticationError:
        problem = f"{address} asks for a token, which is missing or not the right one"
        mend = "set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH to the cluster's"
        raise JobError("RAY_AUTH_TOKEN", f"{problem}; {mend}") from None
    except (OSError, RuntimeError, aiohttp.ClientError) as error:
        raise ConnectionLostError(first_line(error)) from None
