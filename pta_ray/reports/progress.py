"""The live display: tokens per second of every stage, the loss, the time left."""

import threading
import time
from types import TracebackType

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from pta_ray.telemetry import Snapshot, Telemetry

_REFRESH_SECONDS = 0.5
_LINE_SECONDS = 10.0


class ProgressDisplay:
    """Redraws in place on a terminal, prints a plain line now and then elsewhere. Use as a context manager."""

    def __init__(self, console: Console, telemetry: Telemetry) -> None:
        self._console = console
        self._telemetry = telemetry
        self._phase = ""
        self._begin = time.monotonic()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def phase(self, text: str) -> None:
        """Says what the run is doing now."""
        self._phase = text
        if not self._console.is_terminal:
            self._print(text)

    def __enter__(self) -> "ProgressDisplay":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        if self._console.is_terminal:
            with Live(console=self._console, auto_refresh=False, transient=True) as live:
                while not self._stopped.wait(_REFRESH_SECONDS):
                    live.update(self._draw(self._telemetry.snapshot()), refresh=True)
        else:
            while not self._stopped.wait(_LINE_SECONDS):
                self._print(one_line(self._telemetry.snapshot()))

    def _print(self, text: str) -> None:
        self._console.print(f"{time.monotonic() - self._begin:6.0f} s  {text}", highlight=False, soft_wrap=True)

    def _draw(self, snapshot: Snapshot) -> RenderableType:
        stages = Table(box=None, pad_edge=False)
        stages.add_column("stage")
        for heading in ("windows", "tokens", "tokens/s"):
            stages.add_column(heading, justify="right")
        for name, stage in snapshot.stages.items():
            stages.add_row(name, f"{stage.rows:,}", f"{stage.tokens:,}", f"{stage.tokens_per_second:,.0f}")
        parts: list[RenderableType] = [Text(self._phase), stages, Text(training_line(snapshot))]
        if snapshot.training:
            parts.insert(2, ProgressBar(total=1.0, completed=snapshot.training["progress"], width=50))
        return Group(*parts)


def one_line(snapshot: Snapshot) -> str:
    """All of a snapshot for a log file."""
    stages = [f"{name} {stage.tokens_per_second:,.0f} tok/s" for name, stage in snapshot.stages.items()]
    return " | ".join(filter(None, [training_line(snapshot), *stages]))


def training_line(snapshot: Snapshot) -> str:
    """Step, loss and time left, if the target is trained already."""
    training = snapshot.training
    if not training:
        return "" if snapshot.stages else "engines start"
    progress = min(training["progress"], 1.0)
    began, first = snapshot.training_began or (0.0, progress)
    left = "time left unknown"
    if progress > first:
        left = f"{_duration((time.time() - began) * (1 - progress) / (progress - first))} left"
    losses = f"loss {training['loss']:.3f} (clm {training['clm']:.3f}, fused {training['fused']:.3f})"
    workers = f"{training['workers']:.0f} worker{'s' if training['workers'] != 1 else ''}"
    return f"step {training['step']:.0f}, {progress:.0%}, {losses}, {workers}, {left}"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}"
