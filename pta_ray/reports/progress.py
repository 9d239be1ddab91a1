"""The live display: what every stage does, which of them sets the pace, the loss, the time left."""

import threading
import time
from types import TracebackType

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from pta_ray.board import Snapshot
from pta_ray.operators import bottleneck, queue_lengths
from pta_ray.telemetry import Telemetry

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
        limit = bottleneck(snapshot)
        head = f"{self._phase}\n{limit}" if limit else self._phase
        parts: list[RenderableType] = [Text(head), stage_table(snapshot), Text(training_line(snapshot))]
        if snapshot.training:
            parts.insert(2, ProgressBar(total=1.0, completed=snapshot.training["progress"], width=50))
        return Group(*parts)


def stage_table(snapshot: Snapshot) -> Table:
    """What each stage has done, and what waits for it."""
    table = Table(box=None, pad_edge=False)
    table.add_column("stage")
    for heading in ("windows", "tokens", "tokens/s", "queue", "busy", "failures", "actors"):
        table.add_column(heading, justify="right")
    queues = queue_lengths(snapshot)
    for name, stage in snapshot.stages.items():
        tokens, speed = (f"{stage.tokens:,}", f"{stage.tokens_per_second:,.0f}") if stage.tokens else ("", "")
        queue = f"{queues[name]:,}" if name in queues else ""
        table.add_row(
            name, f"{stage.rows:,}", tokens, speed, queue, f"{stage.busy_share:.0%}", str(stage.failures),
            str(stage.num_recent),
        )  # fmt: skip
    return table


def one_line(snapshot: Snapshot) -> str:
    """All of a snapshot for a log file."""
    limit = bottleneck(snapshot)
    stages = [f"{name} {stage.rows:,} ({stage.busy_share:.0%})" for name, stage in snapshot.stages.items()]
    failures = sum(stage.failures for stage in snapshot.stages.values())
    parts = [
        training_line(snapshot),
        f"windows (busy): {', '.join(stages)}" if stages else "",
        f"limited by {limit.operator}" if limit else "",
        f"{failures} failures" if failures else "",
    ]
    return " | ".join(filter(None, parts))


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
