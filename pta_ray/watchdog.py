"""Ends processes that hang: their actors are started again, and their batches are tried again."""

import threading
from types import TracebackType

import psutil
import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from pta_ray.board import Process
from pta_ray.telemetry import Telemetry

_LOOK_SECONDS = 5.0


class Watchdog:
    """Looks for processes that are overdue for as long as the block runs. Use as a context manager."""

    def __init__(self, telemetry: Telemetry) -> None:
        self._telemetry = telemetry
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopped.wait(_LOOK_SECONDS):
            try:
                for process in self._telemetry.overdue():
                    # From its own host, and not by Ray: a process that is stopped answers to nothing but a signal.
                    there = NodeAffinitySchedulingStrategy(process.node, soft=False)
                    kill = ray.remote(num_cpus=0, max_retries=0, scheduling_strategy=there)(_kill)
                    kill.remote(process)
            except RayError:  # the session ends
                return


def _kill(process: Process) -> None:
    found = psutil.Process(process.pid) if psutil.pid_exists(process.pid) else None
    if found and found.create_time() == process.born:
        found.kill()
