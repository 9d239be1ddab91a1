"""Drivers of Ray in processes of their own, as every run is one.

From the second session of a process on, Ray 2.60 leaves a thread of its metrics running to the very end, while what it
uses is being destroyed. So the process of the tests itself may start Ray once, and does so for those of `SpreadEngine`.
"""

import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager

import ray


@contextmanager
def own_driver() -> Iterator[ProcessPoolExecutor]:
    """A process for the functions that are submitted to it, one at a time."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as driver:
        yield driver


@contextmanager
def driver_of_two_cpus() -> Iterator[ProcessPoolExecutor]:
    """A process that is the driver of a Ray of two CPUs."""
    with own_driver() as driver:
        driver.submit(_start).result()
        yield driver
        driver.submit(ray.shutdown).result()


def _start() -> None:
    ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False)
