"""The Ray session of a run, and the file that takes the libraries' log noise."""

import logging
import math
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray

from pta_ray.errors import JobError

_LOCAL_OBJECT_STORE_BYTES = 1 << 30
_NOISY = ("ray", "ray.data", "ray.train", "transformers", "deepspeed", "vllm")


@contextmanager
def ray_session(address: str | None, local_cpus: float) -> Iterator[dict[str, float]]:
    """Joins the cluster at an address, or starts Ray on this machine for as long as the block runs.

    On one machine the stages share the cores there are: Ray is told of as many CPUs as they reserve together.
    Yields the resources of the cluster.

    Raises:
        JobError: there is no cluster at that address.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        ray.init(
            address=address or "local",
            log_to_driver=False,
            logging_level=logging.WARNING,
            **({} if address else _local_options(local_cpus)),
        )
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise JobError("--address", f"cannot join a Ray cluster at {address} ({_first_line(error)})") from None
    try:
        yield ray.cluster_resources()
    finally:
        ray.shutdown()


def _local_options(local_cpus: float) -> dict[str, Any]:
    return {
        "include_dashboard": False,
        "object_store_memory": _LOCAL_OBJECT_STORE_BYTES,
        "num_cpus": max(os.cpu_count() or 1, math.ceil(local_cpus)),
    }


@contextmanager
def noise_to_file(path: Path) -> Iterator[None]:
    """Sends what libraries log and warn in this process to a file; the terminal is for the display."""
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(name)s %(levelname)s %(message)s"))
    loggers = [logging.getLogger(), *map(logging.getLogger, _NOISY)]
    before = [(logger, logger.handlers, logger.propagate) for logger in loggers]
    logging.captureWarnings(True)
    for logger in loggers:
        logger.handlers, logger.propagate = [], True
    loggers[0].handlers = [handler]
    try:
        yield
    finally:
        for logger, handlers, propagate in before:
            logger.handlers, logger.propagate = handlers, propagate
        logging.captureWarnings(False)
        warnings.resetwarnings()
        handler.close()


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
