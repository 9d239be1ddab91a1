"""The demo job as a stream, beside a plain loop in one process (`single_process.py`): what the stream costs, where that
goes, and what it writes to disk on the way."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from tests.benchmarks.memory import COMMAND

JOB = "jobs/demo.yaml"
LOOK_SECONDS = 0.5
OUTPUT = "fused"
NOT_BETWEEN = {OUTPUT, "checkpoints", "logs"}
"""Folders of the result, of checkpoints, and of what Ray's processes print."""
NOT_ROWS = ("vllm_dist_*", "cc*.s", "test.?", "stderr.txt", ".validate_storage_marker")
"""Temporary files that hold nothing of the stream: where vLLM's processes meet, and what DeepSpeed compiles and Ray
Train writes to see whether that works."""


def measure() -> dict[str, Any]:
    """Times of both, from the start to the end of their processes; the largest distance between the losses of the same
    step; and bytes on disk as of `Written`. Where the time goes: the loop's phases follow each other; of the stream's
    stages, scoring, alignment and training go on at the same time, and the rest is start-up, export and closing."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        loop_seconds, loop = plain_loop(folder / "loop")
        stream_seconds, written = stream(folder / "stream")
        found = json.loads((folder / "stream" / OUTPUT / "metrics.json").read_text())
        bytes_between, bytes_of_stages = written.bytes_between, written.bytes_of_stages
    pairs = zip(found["training"]["losses"], loop["losses"], strict=True)
    return {
        "overhead_over_single_process": stream_seconds / loop_seconds,
        "single_process_seconds": {"all": loop_seconds, **loop["seconds"]},
        "seconds": {"all": stream_seconds, **spans(found["stages"])},
        "loss_gap_to_single_process": max(abs(ours - theirs) for (_, ours), (_, theirs) in pairs),
        "intermediate_disk_bytes": bytes_between,
        "stage_processes_write_bytes": bytes_of_stages,
    }


def plain_loop(output: Path) -> tuple[float, dict[str, Any]]:
    """Runs it; returns its time and its metrics."""
    begin = time.time()
    subprocess.run([sys.executable, "-m", "tests.benchmarks.single_process", JOB, str(output)], check=True)
    return time.time() - begin, json.loads((output / "metrics.json").read_text())


def stream(folder: Path) -> tuple[float, "Written"]:
    """Runs it, with the folder for everything that it writes; returns its time and what it wrote."""
    folder.mkdir()
    begin, written = time.time(), Written(folder)
    environment = {**os.environ, "TMPDIR": str(folder), "RAY_TMPDIR": str(folder)}
    command = [sys.executable, "-c", COMMAND, "fuse", JOB, "--set", f"output={folder / OUTPUT}"]
    run = subprocess.Popen(command, env=environment)
    while run.poll() is None:
        written.look(psutil.Process(run.pid))
        time.sleep(LOOK_SECONDS)
    assert run.returncode == 0
    return time.time() - begin, written


def spans(stages: dict[str, dict[str, float]]) -> dict[str, float]:
    """From the first to the last batch of each stage."""
    return {name: stage["tokens"] / stage["tokens_per_second"] for name, stage in stages.items() if stage["tokens"]}


class Written:
    """What a run writes to disk between its text and its result.

    `bytes_between`: the sizes of all files that were seen at any time in the folder that takes the run's temporary
    files, its Ray session and its output, but for logs, checkpoints and the result. Rows that the object store spills
    would be there, and blocks or caches of any stage.
    `bytes_of_stages`: what the kernel counts as written to storage by the processes that rows pass: those of the
    stages, the one that coordinates the stream, and Ray's spilling ones. Their logs are among that.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._sizes: dict[Path, int] = {}
        self._written: dict[tuple[int, float], int] = {}

    def look(self, run: psutil.Process) -> None:
        """To be called all the time."""
        for path in self._files():
            with suppress(FileNotFoundError):
                self._sizes[path] = max(self._sizes.get(path, 0), path.stat().st_size)
        with suppress(psutil.NoSuchProcess):
            for process in run.children(recursive=True):
                with suppress(psutil.Error):
                    if any(word in process.name() for word in ("MapWorker", "SplitCoord", "Spill", "raylet")):
                        key = process.pid, process.create_time()
                        self._written[key] = process.io_counters().write_bytes

    def _files(self) -> Iterator[Path]:
        for path in self._folder.rglob("*"):
            is_name = path.parent.name.startswith("session_")  # of a port or a host, in Ray's session itself
            is_name = is_name or any(path.match(pattern) for pattern in NOT_ROWS)
            if path.is_file() and not is_name and NOT_BETWEEN.isdisjoint(path.relative_to(self._folder).parts):
                yield path

    @property
    def bytes_between(self) -> int:
        staging = self._folder / f"{OUTPUT}.partial"
        became = {staging / path.relative_to(self._folder / OUTPUT) for path in (self._folder / OUTPUT).rglob("*")}
        return sum(size for path, size in self._sizes.items() if path not in became)

    @property
    def bytes_of_stages(self) -> int:
        return sum(self._written.values())
