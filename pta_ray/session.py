"""The Ray session of a run, and the file that takes the libraries' log noise."""

import logging
import math
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray
from rich.console import Console

from pta_ray.errors import JobError, first_line

_LOCAL_OBJECT_STORE_BYTES = 1 << 30
_CONNECT_SECONDS = 10
_WORKER_ENVIRONMENT = {
    # Scoring runs on changing threads, and each heap of glibc's keeps what its largest batch needed: one is enough.
    "MALLOC_ARENA_MAX": "1",
    # After the loss of a host Ray Train may count on it still; then it looks again, and takes fewer workers.
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "10",
}


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
        _check_reachable(address or "")
        ray.init(
            address=address or "local",
            log_to_driver=False,
            logging_level=logging.WARNING,
            runtime_env={"env_vars": _WORKER_ENVIRONMENT},
            **({} if address else _local_options(local_cpus)),
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise JobError("--address", f"cannot join a Ray cluster at {address} ({first_line(error)})") from None
    try:
        yield ray.cluster_resources()
    finally:
        ray.shutdown()


def _check_reachable(address: str) -> None:
    """Ray itself goes on trying for many minutes."""
    host, separator, port = address.rpartition(":")
    if separator and port.isdigit() and "://" not in host:
        socket.create_connection((host, int(port)), timeout=_CONNECT_SECONDS).close()


def _local_options(local_cpus: float) -> dict[str, Any]:
    return {
        "include_dashboard": False,
        "object_store_memory": _LOCAL_OBJECT_STORE_BYTES,
        "num_cpus": max(os.cpu_count() or 1, math.ceil(local_cpus)),
    }


@contextmanager
def noise_to_file(path: Path) -> Iterator[Console]:
    """Sends everything that this process and its libraries, compiled ones included, write to standard output and error
    to a file, and yields a console that still writes to where standard output was."""
    sys.stdout.flush()
    sys.stderr.flush()
    saved = [os.dup(1), os.dup(2)]
    with path.open("ab") as log, os.fdopen(os.dup(1), "w") as terminal:
        try:
            for stream in (1, 2):
                os.dup2(log.fileno(), stream)
            yield Console(file=terminal)
        finally:
            for stream, original in zip((1, 2), saved, strict=True):
                os.dup2(original, stream)
                os.close(original)
