"""Has this machine what Ray and the stages of a job take for granted?"""

import os
import resource
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil

from pta_ray.doctor.finding import Finding, error, ok, warning

GB = 1e9

_MIN_MEMORY = 4 * GB  # an engine with a model of 135 million parameters takes 2.8 GB, Ray and its object store the rest
_OBJECT_STORE = 1 << 30  # of a Ray that is started here
_MIN_FILES = 4096  # below these Ray warns: every actor, worker and connection takes some
_FULL_SHARE = 0.95  # from here on Ray writes no more objects to a disk
_LONGEST_SOCKET = 107  # bytes in the path of a Unix socket
_SESSION = "/ray/session_0000-00-00_00-00-00_000000_0000000/sockets/plasma_store"
_CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")


def gpus() -> list[str]:
    """The names of this machine's NVIDIA GPUs, as their driver gives them."""
    if shutil.which("nvidia-smi") is None:
        return []
    command = ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader"]
    found = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    return found.stdout.splitlines() if found.returncode == 0 else []


def find_machine(names: list[str]) -> Iterator[Finding]:
    """Of the machine that this runs on.

    Args:
        names: of its GPUs.
    """
    yield check_devices(os.cpu_count() or 1, names)
    yield check_memory(psutil.virtual_memory().available, _memory_limit())
    if Path("/dev/shm").is_dir():
        yield check_shared_memory(psutil.disk_usage("/dev/shm").free)
    temporary = ray_directory()
    yield check_socket_path(temporary)
    usage = psutil.disk_usage(str(existing_parent(temporary)))
    yield check_disk(str(temporary), usage.free, usage.percent / 100)
    yield check_open_files(resource.getrlimit(resource.RLIMIT_NOFILE)[1])


def check_devices(num_cpus: int, names: list[str]) -> Finding:
    """What models and training run on; there is always something."""
    return ok("devices", f"{num_cpus} CPU cores, {', '.join(names) or 'no GPU'}")


def check_memory(available: float, limit: float | None) -> Finding:
    """There is memory for the smallest of jobs.

    Args:
        available: bytes that the machine has to give.
        limit: bytes that a container may use, if it is limited.
    """
    free = min(available, limit or available)
    if free >= _MIN_MEMORY:
        return ok("memory", f"{free / GB:.1f} GB available")
    mend = "end other programs, or give the container or the machine more"
    return warning("memory", f"{free / GB:.1f} GB available; an engine and Ray take {_MIN_MEMORY / GB:.0f}", mend)


def check_shared_memory(free: float) -> Finding:
    """Ray's object store has room in memory."""
    if free >= _OBJECT_STORE:
        return ok("/dev/shm", f"{free / GB:.1f} GB free")
    detail = f"{free / GB:.2f} GB free: Ray keeps its objects on disk, which is slow"
    return warning("/dev/shm", detail, "remove what lies there; in a container, docker run --shm-size=8g")


def check_socket_path(directory: Path) -> Finding:
    """Ray's sockets have paths that the system can take."""
    longest = len(os.fsencode(f"{directory}{_SESSION.removeprefix('/ray')}"))
    if longest <= _LONGEST_SOCKET:
        return ok("Ray's directory", str(directory))
    detail = f"{directory} makes socket paths of {longest} bytes, and {_LONGEST_SOCKET} is the most"
    return error("Ray's directory", detail, "export RAY_TMPDIR=/tmp, or another short path")


def check_disk(where: str, free: float, used_share: float) -> Finding:
    """A disk is not about to be full.

    Args:
        free: bytes.
        used_share: 0 to 1.
    """
    detail = f"{free / GB:.1f} GB free, {used_share:.0%} used"
    if used_share < _FULL_SHARE:
        return ok(f"disk of {where}", detail)
    mend = "remove old /tmp/ray/session_* directories and finished runs, or choose another disk (RAY_TMPDIR, output)"
    return warning(f"disk of {where}", f"{detail}; from {_FULL_SHARE:.0%} on Ray writes no objects to it", mend)


def check_open_files(hard_limit: int) -> Finding:
    """Processes may open enough files; Ray raises the soft limit to the hard one by itself."""
    if hard_limit == resource.RLIM_INFINITY or hard_limit >= _MIN_FILES:
        shown = "no limit" if hard_limit == resource.RLIM_INFINITY else f"up to {hard_limit}"
        return ok("open files", shown)
    mend = "raise it: ulimit -Hn 65536 as root, /etc/security/limits.conf, or docker run --ulimit nofile=65536"
    return warning("open files", f"up to {hard_limit}; many actors need {_MIN_FILES} and more", mend)


def ray_directory() -> Path:
    """Where a Ray that is started here keeps its sessions."""
    return Path(os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or "/tmp") / "ray"


def existing_parent(path: Path) -> Path:
    """The path itself, or the nearest directory above it that exists."""
    path = path.absolute()
    return next(parent for parent in (path, *path.parents) if parent.is_dir())


def _memory_limit() -> float | None:
    """Bytes that the control group of this process may use, where there is a limit."""
    try:
        return float(_CGROUP_LIMIT.read_text())
    except (OSError, ValueError):  # "max"
        return None
