"""Fusions with simulated engines, so that actors start in seconds, over a little of the demo's text; the target is
trained for real. Their processes can be found, killed and looked for afterwards.
"""

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import psutil
import yaml

from pta_ray.errors import JobError
from pta_ray.job_file import load_job
from pta_ray.text.windows import cut
from pta_ray.tokenizers.loading import load_tokenizer
from pta_ray.training.checkpoints import CheckpointStore

READING = "reading worker"
TITLES = {
    "scoring actor": "MapWorker(MapBatches(Scorer))",
    "alignment actor": "MapWorker(MapBatches(Fuser))",
    READING: "MapBatches(WindowReader)",
    "training worker": "RayTrainWorker",
    "split coordinator": "SplitCoordinator",
    "training controller": "TrainController",
}
"""What the processes of a run call themselves."""

LEAVE_SECONDS = 120.0
"""For processes to notice that their driver is gone; Ray's agents, which do nothing by then, take a minute."""

_SECONDS = 1200.0  # for any one thing to happen
_LOOK_SECONDS = 0.1
_SHARED_MEMORY = Path("/dev/shm")

BATCH_WINDOWS, EPOCHS = 4, 3
_TEXT_BYTES = 12_000  # of each of two domains


def write_job(
    folder: Path, demo: Path, of_models: Mapping[str, Mapping[str, Any]] = MappingProxyType({}), **changes: Any
) -> Path:
    """A job over a little of the demo's text, with simulated engines.

    Args:
        of_models: settings of single models, by name.
        changes: of `served`, which all models have, and of sections of the job.
    """
    folder.mkdir(parents=True, exist_ok=True)
    served = {"engine": "simulated", "simulated": {"tokens_per_second": 600}, "cpus": 0.25, "replicas": 2}
    served |= changes.get("served", {})
    target, *sources = [
        {"model": str(demo / "models" / name), **served, **of_models.get(name, {})}
        for name in ("target", "python", "translations")
    ]
    train = [_write_text(folder, demo, domain) for domain in ("python", "translations")]
    checkpoints = {"every_steps": 2}
    training = {"learning_rate": 1e-3, "batch_windows": BATCH_WINDOWS, "checkpoints": checkpoints, "trackers": []}
    job = {
        "target": target,
        "sources": sources,
        "data": {"train": train, "window_tokens": 64, "epochs": EPOCHS, **changes.get("data", {})},
        "alignment": {"replicas": 2, **changes.get("alignment", {})},
        "training": {**training, **changes.get("training", {})},
        "output": str(folder / "fused"),
    }
    path = folder / "job.yaml"
    path.write_text(yaml.safe_dump(job))
    return path


def _write_text(folder: Path, demo: Path, domain: str) -> str:
    """The first of the demo's documents, none of them long: then every one is several windows, and all are mixed."""
    path = folder / f"{domain}.jsonl"
    lines: list[str] = []
    for line in (demo / "data" / "fuse" / f"{domain}.jsonl").read_text().splitlines():
        if len("".join(lines)) < _TEXT_BYTES:
            lines.append(json.dumps({"text": json.loads(line)["text"][:1500]}))
    path.write_text("\n".join(lines))
    return str(path)


def windows_by_domain(path: Path) -> Counter[str]:
    """How many windows a job learns from, counted without the stream."""
    job, counts = load_job(path, []), Counter[str]()
    tokenizer = load_tokenizer(job.target.model, trust_remote_code=False)
    for source in job.data.train:
        for line in Path(source.path).read_text().splitlines():
            windows = cut(json.loads(line)["text"], tokenizer, job.data.window_tokens)
            counts[source.domain] += job.data.epochs * len(list(windows))
    return counts


class Run:
    """A fusion under way, in a process session of its own, by which all that it starts is known later. Use as a context
    manager: a run that does not end by itself ends with the block."""

    def __init__(self, job: Path, *options: str) -> None:
        """`options` of the command."""
        self._job, self._options = job, options
        self._output = Path(load_job(job, []).output)
        self._store = CheckpointStore(str(self._output.with_name(f"{self._output.name}.partial") / "checkpoints"))
        self._temporary = job.parent / "tmp"
        self._temporary.mkdir(exist_ok=True)
        self._shared = set(_SHARED_MEMORY.iterdir())
        self._drivers: list[subprocess.Popen[bytes]] = []
        self._begin = time.monotonic()
        self._checkpoints: list[tuple[float, int]] = []
        self._start()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._note_checkpoints, daemon=True)
        self._thread.start()

    def __enter__(self) -> "Run":
        return self

    def __exit__(self, *error: object) -> None:
        self._drivers[-1].kill()
        self._ended.set()
        self._thread.join()

    def _start(self, *options: str) -> None:
        command = [sys.executable, "-c", "from pta_ray.cli import main; main()", "fuse", str(self._job), "--simulated"]
        environment = {**os.environ, "TMPDIR": str(self._temporary), "RAY_TMPDIR": "/tmp"}  # sockets need short paths
        with self._log.open("ab") as log:
            self._drivers.append(
                subprocess.Popen(
                    [*command, *self._options, *options], stdout=log, stderr=log, env=environment,
                    start_new_session=True,
                )
            )  # fmt: skip

    @property
    def _log(self) -> Path:
        return self._job.with_suffix(".log")

    @property
    def seconds(self) -> float:
        """Since the beginning."""
        return time.monotonic() - self._begin

    @property
    def step(self) -> int:
        """Of the newest checkpoint; 0 before the first."""
        return self._checkpoints[-1][1] if self._checkpoints else 0

    def has_reached(self, step: float) -> bool:
        """Whether there is a checkpoint at that step or behind it."""
        return self.step >= step

    @property
    def is_running(self) -> bool:
        return self._drivers[-1].poll() is None

    @property
    def printed(self) -> str:
        """By the command, each time it was started."""
        return self._log.read_text()

    def _note_checkpoints(self) -> None:
        while not self._ended.wait(_LOOK_SECONDS):
            with contextlib.suppress(JobError):
                for step in self._store.steps():
                    if step > self.step:
                        self._checkpoints.append((self.seconds, step))

    def wait_until(self, condition: Callable[[], Any]) -> Any:
        """Returns what a condition is, as soon as it is true or the run has ended; fails when that takes too long."""
        deadline = time.monotonic() + _SECONDS
        while not (found := condition()) and self.is_running:
            assert time.monotonic() < deadline, self.printed
            time.sleep(_LOOK_SECONDS)
        return found

    def processes(self, what: str) -> list[psutil.Process]:
        """Those of one kind, on all hosts."""
        return [child for child in psutil.Process().children(recursive=True) if TITLES[what] in title(child)]

    def kill_driver(self) -> None:
        """Kills the driver and starts it again, while what it started goes down."""
        self._drivers[-1].kill()
        self._drivers[-1].wait()
        self._start("--resume")

    def end(self) -> int:
        """Waits for the end; returns the exit code."""
        return self._drivers[-1].wait(_SECONDS)

    def recovery_seconds(self, second: float) -> float | None:
        """From some second to the second checkpoint behind it: the first may have been on its way."""
        later = [at - second for at, _ in self._checkpoints if at > second]
        return later[1] if len(later) > 1 else None

    def left_processes(self) -> list[str]:
        """What is running of all that the run has started."""
        sessions = {driver.pid for driver in self._drivers}
        return [title(process) for process in psutil.process_iter() if _session(process) in sessions]

    def left(self) -> list[str]:
        """Processes and files that should not be there any more."""
        deadline = time.monotonic() + LEAVE_SECONDS
        while self.left_processes() and time.monotonic() < deadline:
            time.sleep(_LOOK_SECONDS)
        partial = self._output.with_name(f"{self._output.name}.partial")
        files = [*self._temporary.iterdir(), *(path for path in (partial, self._output / ".ray") if path.exists())]
        return [*self.left_processes(), *map(str, [*files, *_orphans(set(_SHARED_MEMORY.iterdir()) - self._shared)])]

    def metrics(self) -> dict[str, Any]:
        """Of a run that has ended well."""
        found: dict[str, Any] = json.loads((self._output / "metrics.json").read_text())
        return found


def title(process: psutil.Process) -> str:
    """What a process calls itself; nothing if it is gone."""
    try:
        return "" if process.status() == psutil.STATUS_ZOMBIE else " ".join(process.cmdline())
    except psutil.Error:
        return ""


def _session(process: psutil.Process) -> int | None:
    try:
        return os.getsid(process.pid) if process.status() != psutil.STATUS_ZOMBIE else None
    except (ProcessLookupError, psutil.Error):
        return None


def _orphans(shared: set[Path]) -> set[Path]:
    """Shared memory that no process has mapped: other programs than the run have theirs."""
    mapped = ""
    for maps in Path("/proc").glob("[0-9]*/maps") if shared else ():
        with contextlib.suppress(OSError):
            mapped += maps.read_text()
    return {path for path in shared if path.exists() and str(path) not in mapped}
