"""Fusions whose processes and hosts are killed while they run, and what became of them.

A seeded generator decides who dies next and when. What a run should learn from is counted without the stream: the text,
cut into windows.
"""

import contextlib
import random
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import ray
from ray.cluster_utils import Cluster
from ray.util import placement_group_table

from pta_ray.job_file import load_job
from tests.end_to_end.simulated_runs import LEAVE_SECONDS, READING, TITLES, Run, title, windows_by_domain

DRIVER, HOST = "driver", "host"
ENDS_TRAINING = {"training worker", "split coordinator", "training controller", HOST, DRIVER}
"""Whose death starts the training again: a run gives up when that has no effect three times in a row."""

_MOST_SECONDS = 2.0  # from a step to a kill
_OBJECT_STORE_BYTES = 300 << 20


@dataclass
class Kill:
    """One process, or host, that was killed."""

    what: str
    second: float
    """Of the run."""
    step: int
    """The newest checkpoint at that time; 0 before the first."""
    recovery_seconds: float | None = None
    """Until the second checkpoint from then on; none where the run wrote fewer."""


@dataclass
class Outcome:
    """What became of a run."""

    run: str
    kills: list[Kill]
    seconds: float
    num_windows: int
    """In the text, over all epochs."""
    trained: int
    """Windows that were learned from, counted as often as that happened."""
    lost: int
    doubled: int
    set_aside: int
    losses: dict[int, float]
    """By step."""
    left: list[str]
    """Processes and files that outlived the run."""


class Hosts:
    """A Ray cluster of a head, where the driver is, and hosts that may be lost. Use as a context manager."""

    def __init__(self) -> None:
        soon = {"health_check_period_ms": 1000, "health_check_timeout_ms": 2000, "health_check_failure_threshold": 3}
        head = {"num_cpus": 2, "object_store_memory": _OBJECT_STORE_BYTES, "_system_config": soon}
        self._cluster = Cluster(initialize_head=True, head_node_args=head)
        self._hosts: list[Any] = []
        for _ in range(2):
            self._add()

    def __enter__(self) -> "Hosts":
        return self

    def __exit__(self, *error: object) -> None:
        self._cluster.shutdown()

    @property
    def address(self) -> str:
        return str(self._cluster.address)

    def _add(self) -> None:
        self._hosts.append(self._cluster.add_node(num_cpus=2, object_store_memory=_OBJECT_STORE_BYTES))

    def kill(self, rng: random.Random) -> None:
        """Kills everything on one host at once; another one joins in its place."""
        host = self._hosts.pop(rng.randrange(len(self._hosts)))
        raylet = psutil.Process(host.all_processes["raylet"][0].process.pid)
        for process in [raylet, *raylet.children(recursive=True)]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self._cluster.remove_node(host, allow_graceful=False)
        self._add()

    def left(self) -> list[str]:
        """What a run that has ended still holds."""
        deadline = time.monotonic() + LEAVE_SECONDS
        while (left := self._held()) and time.monotonic() < deadline:
            time.sleep(1)
        return left

    def _held(self) -> list[str]:
        ray.init(address=self.address, log_to_driver=False)
        try:
            there = [group for group in placement_group_table().values() if group["state"] != "REMOVED"]
        finally:
            ray.shutdown()
        groups = [f"placement group {group['name']}" for group in there]
        titles = [title(child) for child in psutil.Process().children(recursive=True)]
        return groups + [name for name in titles if any(kind in name for kind in [*TITLES.values(), "Board"])]


def fuse_and_kill(
    name: str, job: Path, kills: Sequence[str], rng: random.Random, hosts: Hosts | None = None
) -> Outcome:
    """Runs a job; in it dies one thing after the other at random moments: some before the first step, the others
    anywhere on the way.

    Returns: what became of it, when its exit code was 0.
    """
    expected = windows_by_domain(job)
    num_steps = -(-expected.total() // load_job(job, []).training.batch_windows)
    with Run(job, *(["--address", hosts.address] if hosts else [])) as run:
        done = list(_kill_one_by_one(run, kills, num_steps, rng, hosts))
        code = run.end()
        assert code == 0, run.printed
    for kill in done:
        kill.recovery_seconds = run.recovery_seconds(kill.second)
    return _outcome(name, run, done, expected, hosts)


def _kill_one_by_one(
    run: Run, kills: Sequence[str], num_steps: int, rng: random.Random, hosts: Hosts | None
) -> Iterator[Kill]:
    first_step = 0  # that must have been reached
    for moment, what in sorted((_moment(what, rng) * num_steps, what) for what in kills):
        run.wait_until(partial(run.has_reached, max(moment, first_step) if what in ENDS_TRAINING else moment))
        time.sleep(rng.uniform(0, _MOST_SECONDS))
        yield from _kill(run, what, rng, hosts)
        if what in ENDS_TRAINING:
            first_step = run.step + 1


def _moment(what: str, rng: random.Random) -> float:
    """A share of the steps: negative before the first one, as it is for readers, which are done soon; and so early that
    the run is still there when its turn comes."""
    return -1.0 if what == READING else rng.uniform(-0.3, 0.6 if what in ENDS_TRAINING else 0.8)


def _kill(run: Run, what: str, rng: random.Random, hosts: Hosts | None) -> list[Kill]:
    """Kills one of a kind as soon as there is one; none if the run ends before."""
    while run.is_running:
        victims = run.wait_until(partial(run.processes, what)) if what in TITLES else []
        kill = Kill(what, run.seconds, run.step)
        if what == DRIVER:
            run.kill_driver()
        elif hosts and what == HOST:
            hosts.kill(rng)
        else:
            try:
                rng.choice(victims).kill()
            except (psutil.NoSuchProcess, IndexError):  # it, or the run, has just ended
                continue
        return [kill]
    return []


def _outcome(name: str, run: Run, kills: list[Kill], expected: Counter[str], hosts: Hosts | None) -> Outcome:
    metrics = run.metrics()
    training, trained = metrics["training"], Counter[str]()
    for key, count in metrics["counts"].items():
        if key.startswith("won/"):
            trained[key.split("/")[1]] += int(count)
    return Outcome(
        run=name,
        kills=kills,
        seconds=run.seconds,
        num_windows=expected.total(),
        trained=trained.total(),
        # The ledger counts every window once, `trained` as often as it was learned from.
        lost=max((expected - trained).total(), expected.total() - training["num_windows"]),
        doubled=max((trained - expected).total(), trained.total() - training["num_windows"]),
        set_aside=len(metrics["set_aside"]) + len(training["set_aside"]),
        losses=dict(training["losses"]),
        left=run.left() + (hosts.left() if hosts else []),
    )
