"""The Ray session of a run, and the file that takes the libraries' log noise."""

import logging
import math
import os
import shutil
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import AuthenticationError
from rich.console import Console

from pta_ray.errors import JobError, StreamError, first_line

_LOCAL_OBJECT_STORE_BYTES = 1 << 30
_CONNECT_SECONDS = 10
_START_ATTEMPTS = 3
_WORKER_ENVIRONMENT = {
    # Scoring runs on changing threads, and each heap of glibc's keeps what its largest batch needed: one is enough.
    "MALLOC_ARENA_MAX": "1",
    # After the loss of a host Ray Train may count on it still; then it looks again, and takes fewer workers.
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "10",
}

_OPTIONS: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.WARNING}


@contextmanager
def ray_session(address: str | None, local_cpus: float) -> Iterator[list[dict[str, float]]]:
    """Joins the cluster at an address, or starts Ray on this machine for as long as the block runs.

    On one machine the stages share the cores there are: Ray is told of as many CPUs as they reserve together.
    Yields the resources of every host.

    Raises:
        JobError: there is no cluster at that address, or it wants a token.
        StreamError: Ray does not start on this machine.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if address:
        _join(address)
    else:
        _start(local_cpus)
    session = Path(ray._private.worker._global_node.get_session_dir_path())
    try:
        yield [node["Resources"] for node in ray.nodes() if node["Alive"]]
    finally:
        ray.shutdown()
    if not address:
        shutil.rmtree(session, ignore_errors=True)  # Ray's logs, of which a run that went well has no need


def _join(address: str) -> None:
    try:
        check_reachable(address)
        ray.init(address=address, runtime_env={"env_vars": _WORKER_ENVIRONMENT}, **_OPTIONS)
    except AuthenticationError:
        raise token_wanted(address) from None
    except (OSError, ValueError, RuntimeError) as error:
        raise JobError("--address", f"cannot join a Ray cluster at {address} ({first_line(error)})") from None


def token_wanted(address: str) -> JobError:
    """What to tell those whom a cluster does not let in."""
    problem = f"the cluster at {address} wants a token, or another one than this"
    mend = "export RAY_AUTH_MODE=token and RAY_AUTH_TOKEN, or RAY_AUTH_TOKEN_PATH (on its head: ray get-auth-token)"
    return JobError("--address", f"{problem}; {mend}")


def _start(cpus: float) -> None:
    """Ray gives its own processes 30 seconds to start, which a busy machine may exceed.

    Its workers inherit this process's environment. A runtime environment would have each of them import Ray twice.
    """
    os.environ.update(_WORKER_ENVIRONMENT)
    for attempt in range(1, _START_ATTEMPTS + 1):
        try:
            ray.init(address="local", **_OPTIONS, **_local_options(cpus))
            return
        except Exception as error:  # of no kind of its own
            ray.shutdown()
            if attempt == _START_ATTEMPTS:
                raise StreamError(f"Ray did not start on this machine: {first_line(error)}") from None


def check_reachable(address: str) -> None:
    """Ends at once where Ray itself would go on trying for many minutes.

    Raises:
        OSError: nobody listens at `HOST:PORT`.
    """
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
