"""Where programs that a model has written may run: without network, and with one directory to write to.

bubblewrap (`bwrap`) starts a command in user, mount, network, process and IPC namespaces of its own. There it has no
capabilities and sees the system read-only; home directories, /tmp and /run, where sockets of other services lie, are
empty but for what it is given. It holds back neither memory nor CPU time: the harness ends each program after seconds.
"""

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from pta_ray.errors import JobError

_KEPT_VARIABLES = ("PATH", "LANG", "CUDA_VISIBLE_DEVICES", "LD_LIBRARY_PATH", "OMP_NUM_THREADS", "PYTHONPATH")
"""Of the environment: no token and no password comes along."""
_HIDDEN = ("/home", "/root", "/run", "/tmp", "/var/tmp")
_HIDDEN_BYTES = 1 << 30  # that may be written to each of these, in memory; gone at the end


def check_sandbox() -> None:
    """Refuses a host without bubblewrap.

    Raises:
        JobError: names the mend.
    """
    if shutil.which("bwrap") is None:
        mend = "install bubblewrap (apt install bubblewrap), or leave out --run-generated-code"
        raise JobError("--run-generated-code", f"there is no bwrap here to shut generated programs in; {mend}")


def sandboxed(
    command: Sequence[str], writable: Path, readable: Sequence[Path], variables: Mapping[str, str]
) -> list[str]:
    """The command line that runs a command in the sandbox.

    Args:
        writable: the directory that it may write to, and starts in.
        readable: what it may read although it lies in a home directory or in /tmp.
        variables: of its environment, besides those that every program needs.
    """
    kept = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
    arguments = ["--unshare-all", "--cap-drop", "ALL", "--die-with-parent", "--new-session", "--clearenv"]
    for name, value in {**kept, "HOME": "/tmp", **variables}.items():
        arguments += ["--setenv", name, value]
    arguments += ["--ro-bind", "/", "/", "--proc", "/proc", "--dev", "/dev"]
    for device in sorted(Path("/dev").glob("nvidia*")):
        arguments += ["--dev-bind", str(device), str(device)]
    for hidden in filter(os.path.isdir, _HIDDEN):
        arguments += ["--size", str(_HIDDEN_BYTES), "--tmpfs", hidden]
    for path in readable:
        arguments += ["--ro-bind", str(path), str(path)]
    arguments += ["--bind", str(writable), str(writable), "--chdir", str(writable)]
    return ["bwrap", *arguments, "--", *command]
