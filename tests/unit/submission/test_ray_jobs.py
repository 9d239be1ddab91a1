"""A client of Ray's Jobs API and a dashboard that is not Ray's: it forgets answers, cuts connections and wants tokens.

Jobs on a real cluster are in tests/end_to_end/test_submit.py.
"""

import asyncio
import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import ray
import yaml
from aiohttp import WSMsgType, web

from pta_ray.errors import JobError, StreamError
from pta_ray.submission import ray_jobs
from pta_ray.submission.following import Patience, follow
from pta_ray.submission.job import Submission

JOB = Submission("pta-ray-fused-0123", "target: a/b\n")
LOG = [f"{i:6.0f} s  step {i}\n" for i in range(9)]


@dataclass
class Dashboard:
    """Keeps jobs by their submission ids, with status, exit code and command line."""

    jobs: dict[str, tuple[str, int | None, str]] = field(default_factory=dict)
    refuses: int | None = None
    """The status of every answer."""
    forgets_answers: int = 0
    """So many submissions are accepted and not answered."""
    ends_meanwhile: bool = False
    """Those jobs have failed when they are asked for."""
    breaks_after: list[int] = field(default_factory=list)
    """Pieces of the log after which connections break, one after the other."""
    silent_after: list[int] = field(default_factory=list)
    """Or say no more."""
    address: str = ""

    def app(self) -> web.Application:
        app = web.Application(middlewares=[self._check])
        app.router.add_get("/api/version", self._version)
        app.router.add_post("/api/jobs/", self._submit)
        app.router.add_get("/api/jobs/{id}", self._details)
        app.router.add_get("/api/jobs/{id}/logs/tail", self._tail)
        return app

    @web.middleware
    async def _check(self, request: web.Request, handler: object) -> web.StreamResponse:
        if self.refuses:
            return web.Response(status=self.refuses, text="Unauthorized")
        return await handler(request)  # type: ignore[operator]

    async def _version(self, request: web.Request) -> web.Response:
        versions = {"version": "4", "ray_version": ray.__version__, "ray_commit": "", "session_name": "x"}
        return web.json_response(versions)

    async def _submit(self, request: web.Request) -> web.Response:
        asked = await request.json()
        if asked["submission_id"] in self.jobs:
            return web.Response(status=500, text=f"Job with submission_id {asked['submission_id']} already exists.")
        status = ("FAILED", 1) if self.ends_meanwhile else ("RUNNING", None)
        self.jobs[asked["submission_id"]] = (*status, asked["entrypoint"])
        if self.forgets_answers:
            self.forgets_answers -= 1
            self._cut(request)
        return web.json_response({"job_id": asked["submission_id"], "submission_id": asked["submission_id"]})

    async def _details(self, request: web.Request) -> web.Response:
        name = request.match_info["id"]
        if name not in self.jobs:
            return web.Response(status=404, text=f"Job {name} does not exist")
        status, exit_code, entrypoint = self.jobs[name]
        details = {"type": "SUBMISSION", "submission_id": name, "status": status, "driver_exit_code": exit_code}
        return web.json_response({**details, "entrypoint": entrypoint})

    async def _tail(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        silent = self.silent_after.pop(0) if self.silent_after else None
        breaks = self.breaks_after.pop(0) if self.breaks_after and silent is None else None
        for piece in LOG[: silent if silent is not None else breaks]:
            await socket.send_str(piece)
        if breaks is not None:
            self._cut(request)
        if silent is not None:
            while (await socket.receive()).type not in (WSMsgType.CLOSE, WSMsgType.CLOSED, WSMsgType.CLOSING):
                pass
        if silent is breaks is None:
            status, _, entrypoint = self.jobs[request.match_info["id"]]
            if status == "RUNNING":
                self.jobs[request.match_info["id"]] = ("SUCCEEDED", 0, entrypoint)
        return socket

    @staticmethod
    def _cut(request: web.Request) -> None:
        assert request.transport is not None
        request.transport.abort()


@pytest.fixture
def dashboard(monkeypatch: pytest.MonkeyPatch) -> Iterator[Dashboard]:
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "")  # and have it restored
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    served = Dashboard()
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    runner = web.AppRunner(served.app(), shutdown_timeout=0.1)

    async def start() -> None:
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()

    asyncio.run_coroutine_threadsafe(start(), loop).result()
    host, port = runner.addresses[0]
    served.address = f"http://{host}:{port}"
    yield served
    asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result()
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


def into_a_closed_pipe(piece: str) -> None:
    raise BrokenPipeError


def submit_and_follow(dashboard: Dashboard, job: Submission = JOB) -> tuple[int, str, list[str]]:
    written: list[str] = []
    said: list[str] = []
    patience = Patience(0.01, 0.02, 5)
    run = ray_jobs.submit(job, dashboard.address, said.append, patience)
    return follow(run, written.append, said.append, patience), "".join(written), said


def test_a_connection_that_breaks_costs_no_line_and_repeats_none(dashboard: Dashboard) -> None:
    dashboard.breaks_after = [3, 2, 7]
    code, written, said = submit_and_follow(dashboard)
    assert (code, written) == (0, "".join(LOG))
    assert any("connection is lost" in line for line in said) and "connected again" in said
    assert not dashboard.breaks_after and len(dashboard.jobs) == 1


def test_a_connection_that_is_cut_without_a_word_is_taken_up_again(
    dashboard: Dashboard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_jobs, "_SILENCE_SECONDS", 0.3)
    dashboard.silent_after = [4, 4]
    code, written, _ = submit_and_follow(dashboard)
    assert (code, written) == (0, "".join(LOG))
    assert not dashboard.silent_after


@pytest.mark.parametrize("ends_meanwhile", [False, True])
def test_a_submission_whose_answer_was_lost_runs_once(dashboard: Dashboard, ends_meanwhile: bool) -> None:
    dashboard.forgets_answers, dashboard.ends_meanwhile = 1, ends_meanwhile
    code, _, _ = submit_and_follow(dashboard)
    assert code == int(ends_meanwhile)
    assert list(dashboard.jobs) == [JOB.name]


def test_the_same_job_is_followed_while_it_runs_and_begun_again_when_it_has_ended(dashboard: Dashboard) -> None:
    for _ in range(2):
        ray_jobs.submit(JOB, dashboard.address, print, Patience())
    assert list(dashboard.jobs) == [JOB.name]
    dashboard.jobs[JOB.name] = ("FAILED", 1, "")
    ray_jobs.submit(JOB, dashboard.address, print, Patience())
    assert list(dashboard.jobs) == [JOB.name, f"{JOB.name}-2"]


@pytest.mark.parametrize(("state", "expected"), [(("FAILED", 2), 2), (("FAILED", None), 1), (("STOPPED", None), 1)])
def test_the_exit_code_is_that_of_the_driver(
    dashboard: Dashboard, state: tuple[str, int | None], expected: int
) -> None:
    run = ray_jobs.submit(JOB, dashboard.address, print, Patience())
    dashboard.jobs[JOB.name] = (*state, "")
    assert follow(run, print, print, Patience()) == expected


def test_a_cluster_that_was_started_anew_ends_the_following(dashboard: Dashboard) -> None:
    run = ray_jobs.submit(JOB, dashboard.address, print, Patience())
    dashboard.jobs.clear()
    with pytest.raises(StreamError, match=f"does not know {JOB.name} any more"):
        follow(run, print, print, Patience())


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Ctrl-C comes through, even if the tests run in the background of a shell, which has them ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_an_interruption_leaves_the_run_and_says_how_to_end_it(dashboard: Dashboard) -> None:
    written: list[str] = []
    said: list[str] = []
    dashboard.silent_after = [2]
    run = ray_jobs.submit(JOB, dashboard.address, print, Patience())
    with pytest.raises(KeyboardInterrupt):
        threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
        follow(run, written.append, said.append, Patience())
    assert written == LOG[:2]
    assert f"ray job stop --address {dashboard.address} {JOB.name}" in said[-1]
    assert dashboard.jobs[JOB.name][0] == "RUNNING"


def test_who_stops_reading_ends_the_following_and_not_the_connection(dashboard: Dashboard) -> None:
    run = ray_jobs.submit(JOB, dashboard.address, print, Patience())
    with pytest.raises(BrokenPipeError):
        follow(run, into_a_closed_pipe, print, Patience())


@pytest.mark.parametrize("status", [401, 403])
def test_a_missing_or_wrong_token_is_refused_in_a_line_that_names_the_mend(dashboard: Dashboard, status: int) -> None:
    dashboard.refuses = status
    with pytest.raises(JobError, match=r"^RAY_AUTH_TOKEN: .*set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN") as caught:
        ray_jobs.submit(JOB, dashboard.address, print, Patience())
    assert "\n" not in str(caught.value)
    assert not dashboard.jobs


@pytest.mark.parametrize("address", ["127.0.0.1:8265", "ray://127.0.0.1:10001", "http://127.0.0.1:1"])
def test_an_address_without_a_dashboard_is_refused_at_once(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "")
    with pytest.raises(JobError, match=r"^--address: "):
        ray_jobs.submit(JOB, address, print, Patience())


def test_a_shell_hands_pta_ray_the_job_as_it_is(dashboard: Dashboard, tmp_path: Path) -> None:
    content = {"output": "/a b/$HOME`id`\\n'\"", "note": "first\nEND_OF_JOB\n\nlast\n", "é": ["%s", "#", "!"]}
    job = Submission("name", yaml.safe_dump(content))
    ray_jobs.submit(job, dashboard.address, print, Patience())
    (tmp_path / "pta-ray").write_text('#!/bin/sh\necho "# $*"\ncat "$2"\nexit 2\n')
    (tmp_path / "pta-ray").chmod(0o755)
    _, _, entrypoint = dashboard.jobs["name"]
    done = subprocess.run(
        entrypoint, shell=True, env={"PATH": f"{tmp_path}:/usr/bin:/bin"}, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert done.stdout.splitlines()[0] == "# fuse /dev/stdin --resume"
    assert yaml.safe_load(done.stdout) == content
