"""The steps of a stream: how much waits before each, and which of them sets the pace."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

from pta_ray.board import Operator, Process, Snapshot, StageCounts
from pta_ray.config import ServedModel
from pta_ray.placement import Placement

_REMEDIES = {
    "read": "more CPUs, for several reading tasks at the same time",
    "align": "more alignment.replicas",
    "train": "more training.workers, or GPUs for them",
}


@dataclass(frozen=True)
class Bottleneck:
    """The operator that sets the pace of a stream."""

    operator: str
    busy_share: float
    """Of the time that its processes were there, 0 to 1."""
    windows_per_second: float
    """That it can do, when it waits for nothing."""
    remedy: str
    """What would make it faster."""

    def __str__(self) -> str:
        return f"limited by {self.operator} (busy {self.busy_share:.0%}); what would help: {self.remedy}"


def scoring_stage(model: ServedModel) -> str:
    """What telemetry calls the work of a model."""
    return f"score {_label(model)}"


def _label(model: ServedModel) -> str:
    return f"{model.name} (simulated)" if model.engine == "simulated" else model.name


def operators(placement: Placement, models: Sequence[ServedModel]) -> list[Operator]:
    """The operators of a stream that telemetry hears of, in their order.

    Args:
        models: those of the job, the target first.
    """
    scoring = []
    for place in placement.scoring:
        members = [models[i] for i in place.models]
        name, stages = f"score {', '.join(map(_label, members))}", tuple(map(scoring_stage, members))
        scoring.append(Operator(name, stages, f"more replicas of {', '.join(model.name for model in members)}"))
    # Without scoring the windows come from a cache, and are ready to be learned from.
    before, after = ([placement.reading], [placement.alignment]) if scoring else ([], [])
    first, last = (
        [Operator(place.stage, (place.stage,), _REMEDIES[place.stage]) for place in places if place.stage in _REMEDIES]
        for places in (before, [*after, placement.training])
    )
    return [*first, *scoring, *last]


def queue_lengths(snapshot: Snapshot) -> dict[str, int]:
    """Windows that the stage before a stage has done and it has not, by stage; the first stage has no queue."""
    stages = [stage for operator in snapshot.operators for stage in operator.stages]
    return {
        stage: _waiting(snapshot.stages[before], snapshot.stages[stage], stage == "train")
        for before, stage in pairwise(stages)
        if before in snapshot.stages and stage in snapshot.stages
    }


def _waiting(before: StageCounts, stage: StageCounts, is_training: bool) -> int:
    # Held-out windows end at the alignment.
    arrived = before.passed - (before.held_out if is_training else 0)
    return max(arrived - stage.passed - stage.set_aside, 0)


def bottleneck(snapshot: Snapshot) -> Bottleneck | None:
    """The operator that can do the fewest windows a second, with as many processes as it had on average; None before
    any has worked.

    Waiting is left out, for other stages as for engines that start. So the figures hold for a short run too, in which
    the first stages have ended before the last one begins.
    """
    found = (_pace(operator, snapshot.stages) for operator in snapshot.operators)
    return min(filter(None, found), key=lambda one: one.windows_per_second, default=None)


def _pace(operator: Operator, stages: Mapping[str, StageCounts]) -> Bottleneck | None:
    worked = [stages[name] for name in operator.stages if name in stages and stages[name].rows]
    if not worked:
        return None
    there = _presence(worked)
    present = sum(last - first for first, last in there)
    side_by_side = present / _covered(there)
    seconds_per_window = sum(stage.busy_seconds / stage.rows for stage in worked)
    busy_share = min(sum(stage.busy_seconds for stage in worked) / present, 1.0)
    return Bottleneck(operator.name, busy_share, side_by_side / seconds_per_window, operator.remedy)


def _presence(stages: Iterable[StageCounts]) -> list[tuple[float, float]]:
    """When each process that worked at any of the stages was there."""
    found: dict[Process, tuple[float, float]] = {}
    for stage in stages:
        for process, (first, last) in stage.present.items():
            begin, end = found.get(process, (first, last))
            found[process] = min(begin, first), max(end, last)
    return list(found.values())


def _covered(intervals: Iterable[tuple[float, float]]) -> float:
    """The length of the union of intervals."""
    length, reached = 0.0, float("-inf")
    for begin, end in sorted(intervals):
        length += max(end - max(begin, reached), 0.0)
        reached = max(reached, end)
    return length


def stage_figures(snapshot: Snapshot) -> dict[str, dict[str, Any]]:
    """What each stage has done, for metrics.json."""
    return {
        name: {
            "rows": stage.rows,
            "tokens": stage.tokens,
            "tokens_per_second": stage.tokens_per_second,
            "busy_share": stage.busy_share,
            "failures": stage.failures,
            "processes": len(stage.present),
        }
        for name, stage in snapshot.stages.items()
    }


def bottleneck_figures(snapshot: Snapshot) -> dict[str, Any] | None:
    """What sets the pace, for metrics.json."""
    found = bottleneck(snapshot)
    return asdict(found) if found else None
