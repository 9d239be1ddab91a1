"""What Prometheus sees of a run, through Ray's own exporter on the host of the driver.

pta_ray_stage_{rows,tokens,failures}              counters by run and stage
pta_ray_stage_{queue,busy_share,processes}        gauges by run and stage
pta_ray_training_{loss,step,progress,...}         gauges by run
pta_ray_set_aside                                 a gauge by run: windows and documents that it went on without

Ray puts `ray_` before each name and `_total` behind those of counters.
"""

from collections import Counter

from ray.util import metrics

from pta_ray.board import Snapshot, StageCounts
from pta_ray.operators import queue_lengths

_COUNTERS = {
    "rows": "Windows that a stage has done",
    "tokens": "Tokens of these windows",
    "failures": "Batches that an error or the end of a process has cut short",
}
_GAUGES = {
    "queue": "Windows that the stage before has done and this one has not",
    "busy_share": "Share of the time that the processes of a stage were at work",
    "processes": "Processes that work at a stage",
}


class Metrics:
    """Brings Prometheus up to date. All calls must come from one process of a Ray session, since counters add up."""

    def __init__(self, run: str) -> None:
        """`run` tells the figures from those of other runs on the cluster."""
        self._run = {"run": run}
        keys = ("run", "stage")
        self._counters = {
            name: metrics.Counter(f"pta_ray_stage_{name}", text, keys) for name, text in _COUNTERS.items()
        }
        self._gauges = {name: metrics.Gauge(f"pta_ray_stage_{name}", text, keys) for name, text in _GAUGES.items()}
        self._set_aside = metrics.Gauge("pta_ray_set_aside", "Windows and documents the run went on without", ("run",))
        self._training: dict[str, metrics.Gauge] = {}
        self._published: Counter[tuple[str, str]] = Counter()

    def publish(self, snapshot: Snapshot) -> None:
        """Enters what is known now."""
        queues = queue_lengths(snapshot)
        for name, stage in snapshot.stages.items():
            self._publish_stage(name, stage, queues.get(name))
        for name, value in snapshot.training.items():
            if name not in self._training:
                self._training[name] = metrics.Gauge(f"pta_ray_training_{name}", "Of the latest step", ("run",))
            self._training[name].set(value, self._run)
        self._set_aside.set(len(snapshot.set_aside), self._run)

    def _publish_stage(self, name: str, stage: StageCounts, queue: int | None) -> None:
        tags = {**self._run, "stage": name}
        for figure, total in {"rows": stage.rows, "tokens": stage.tokens, "failures": stage.failures}.items():
            if more := total - self._published[figure, name]:
                self._counters[figure].inc(more, tags)
                self._published[figure, name] = total
        gauges = {"queue": queue, "busy_share": stage.busy_share, "processes": stage.num_recent}
        for figure, value in gauges.items():
            self._gauges[figure].set(value, tags)  # nothing is set where there is no queue
