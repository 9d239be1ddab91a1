"""Trainings from a cache of real fused text, started, killed and taken up again."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import yaml

from pta_ray.errors import JobError
from pta_ray.training.checkpoints import CheckpointStore
from tests.end_to_end.test_fuse import SETTINGS, pta_ray, soon_started, write_job

SECONDS = 500


def make_cache(folder: Path, demo: Path, held_out: bool = False, **alignment: object) -> Path:
    """Fused rows of three epochs over three documents of each domain, from engines that start soon; without held-out
    text, runs end sooner."""
    folder.mkdir(parents=True, exist_ok=True)
    job = write_job(folder, demo, **soon_started(demo, "python", "translations"), alignment=alignment)
    content = yaml.safe_load(job.read_text())
    for path in map(Path, content["data"]["train"]):
        path.write_text("\n".join(path.read_text().splitlines()[:3]))
    content["data"]["epochs"] = 3
    if not held_out:
        content["data"]["held_out"] = []
    job.write_text(yaml.safe_dump(content))
    result = pta_ray("align", job, "--output", folder / "cache")
    assert result.returncode == 0, result.stderr
    return folder


def command(cached: Path, output: Path, *options: str, **training: object) -> list[str]:
    """Of a training with other settings."""
    settings = {**SETTINGS, "micro_batch_windows": 2, **training}
    arguments = ["fuse", str(cached / "job.yaml"), "--from-cache", str(cached / "cache"), *options]
    arguments += ["--set", f"output={output}", "--set", f"training={json.dumps(settings)}"]
    return [sys.executable, "-c", "from pta_ray.cli import main; main()", *arguments]


def train(cached: Path, output: Path, *options: str, **training: object) -> dict[str, Any]:
    """Runs a training to its end; returns its metrics."""
    run = subprocess.run(
        command(cached, output, *options, **training), capture_output=True, text=True, timeout=SECONDS
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    metrics: dict[str, Any] = json.loads((output / "metrics.json").read_text())
    return metrics


def train_and_kill(cached: Path, output: Path, step: int, *options: str, **training: object) -> None:
    """Runs a training until it has a checkpoint at a step, and kills it with all that it started."""
    run = start(cached, output, *options, **training)
    wait_for_checkpoint(run, output, step)
    os.killpg(run.pid, signal.SIGKILL)
    run.wait()
    assert not output.exists()
    time.sleep(5)  # Ray's processes notice that their driver is gone


def start(cached: Path, output: Path, *options: str, **training: object) -> subprocess.Popen[str]:
    """Starts a training in a process group of its own."""
    return subprocess.Popen(
        command(cached, output, *options, **training),
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
    )  # fmt: skip


def wait_for_checkpoint(run: subprocess.Popen[str], output: Path, step: int, num_workers: int | None = None) -> None:
    """Returns when there is a complete checkpoint at that step or behind it, written by so many workers."""
    store = CheckpointStore(str(output.with_name(f"{output.name}.partial") / "checkpoints"))
    deadline = time.monotonic() + SECONDS
    while True:
        with contextlib.suppress(JobError):  # it was pruned meanwhile
            newest = store.newest()
            if newest and newest.step >= step and num_workers in (None, newest.manifest.num_workers):
                return
        assert run.poll() is None and time.monotonic() < deadline, f"no checkpoint at step {step}"
        time.sleep(0.1)
