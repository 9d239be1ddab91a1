"""Peak memory of a whole run over the demo's text, and over ten times as much: it must not grow with the text."""

import subprocess
import sys
import tempfile
import time
from contextlib import suppress

import psutil

COMMAND = "from pta_ray.cli import main; main()"
LENGTHS = (1, 10)


def measure() -> dict[str, float]:
    """Peak memory in MiB per number of epochs over the demo's text, and their ratio."""
    peaks = {f"peak_mib_{epochs}x": peak_mib(epochs) for epochs in LENGTHS}
    return {**peaks, "peak_10x_over_1x": peaks["peak_mib_10x"] / peaks["peak_mib_1x"]}


def peak_mib(epochs: int) -> float:
    """The largest sum of proportional set sizes (shared pages counted once) over all processes of a run."""
    with tempfile.TemporaryDirectory() as folder:
        options = ["--set", f"data.epochs={epochs}", "--set", "data.held_out=[]", "--set", f"output={folder}/fused"]
        run = subprocess.Popen([sys.executable, "-c", COMMAND, "fuse", "jobs/demo.yaml", *options])
        peak = 0
        while run.poll() is None:
            peak = max(peak, total_bytes(psutil.Process(run.pid)))
            time.sleep(2)
        assert run.returncode == 0
    return peak / (1 << 20)


def total_bytes(root: psutil.Process) -> int:
    """Memory of a process and everything it started."""
    total = 0
    with suppress(psutil.NoSuchProcess):
        for process in [root, *root.children(recursive=True)]:
            with suppress(psutil.NoSuchProcess):
                total += process.memory_full_info().pss
    return total
