"""Processes that hang, on a real Ray of two CPUs."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from typing import Any

import numpy as np
import psutil
import pytest
import ray

from pta_ray import watchdog
from pta_ray.board import Batch, Process, Snapshot
from pta_ray.telemetry import Telemetry, this_process
from pta_ray.watchdog import Watchdog
from tests.unit.in_process import make_windows
from tests.unit.own_driver import driver_of_two_cpus

WAIT_SECONDS = 120


@pytest.fixture(scope="module")
def driver() -> Iterator[ProcessPoolExecutor]:
    with driver_of_two_cpus() as driver:
        driver.submit(look_often).result()
        yield driver


def look_often() -> None:
    watchdog._LOOK_SECONDS = 0.25


class Hanging:
    """An actor that hangs the first time it is at a batch."""

    def __init__(self, telemetry: Telemetry) -> None:
        self._telemetry = telemetry

    def work(self, task: int, is_stopped: bool) -> int:
        """Returns how often the same work was cut short."""
        with self._telemetry.attempt("score", make_windows(2, task), 0.5) as work:
            if not work.times_failed:
                if is_stopped:
                    os.kill(os.getpid(), signal.SIGSTOP)
                time.sleep(10 * WAIT_SECONDS)
            work.done(tokens=7, counts={"seen": 2})
            return work.times_failed


def start(telemetry: Telemetry) -> Any:
    # With the restarts and retries that Ray Data gives its actors.
    return ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(Hanging).remote(telemetry)


def test_processes_that_sleep_or_are_stopped_are_replaced_and_their_batches_tried_again(
    driver: ProcessPoolExecutor,
) -> None:
    known = driver.submit(known_after_hanging).result()
    stage = known.stages["score"]
    assert (stage.rows, stage.tokens, stage.failures) == (4, 14, 2)
    assert known.counts == {"seen": 4}


def known_after_hanging() -> Snapshot:
    telemetry = Telemetry.start(max_failed_share=0.0)
    actors = [start(telemetry), start(telemetry)]
    with Watchdog(telemetry):
        calls = [actor.work.remote(task, is_stopped=task == 1) for task, actor in enumerate(actors)]
        assert ray.get(calls, timeout=WAIT_SECONDS) == [1, 1]
    return telemetry.snapshot()


@contextmanager
def sleepers() -> Iterator[list[subprocess.Popen]]:
    found = [subprocess.Popen(["sleep", str(10 * WAIT_SECONDS)]) for _ in range(2)]
    try:
        yield found
    finally:
        for process in found:
            process.kill()
            process.wait()


def test_no_process_is_ended_for_another_that_had_its_number(driver: ProcessPoolExecutor) -> None:
    driver.submit(look_for_one_that_is_gone).result()


def look_for_one_that_is_gone() -> None:
    """The first one that is overdue was born earlier and is gone already."""
    telemetry = Telemetry.start(max_failed_share=0.0)
    with sleepers() as (spared, meant):
        node = this_process().node
        late = [
            Process(node, sleeper.pid, psutil.Process(sleeper.pid).create_time() - seconds)
            for sleeper, seconds in ((spared, 5.0), (meant, 0.0))
        ]
        for task, process in enumerate(late):
            batch = Batch("score", np.array([task], np.int32), np.array([0], np.int32), np.zeros(1, np.bool_))
            ray.get(telemetry._board.begin.remote(batch, process, 0.0))
        with Watchdog(telemetry):
            assert meant.wait(WAIT_SECONDS) == -signal.SIGKILL
        assert spared.poll() is None
