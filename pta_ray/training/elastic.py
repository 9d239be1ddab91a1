"""Ray Train around the workers: as many as there is room for, and started again when some are lost."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import ray
from ray import train
from ray.data import Dataset
from ray.train import TrainingFailedError
from ray.train.torch import TorchTrainer

from pta_ray.ledger import Ledger
from pta_ray.placement import Placement
from pta_ray.training.checkpoints import CheckpointStore
from pta_ray.training.setup import FirstWorkerReads, TrainingTask

FusedStream = Callable[[Ledger], Dataset]
"""The rows to learn from, without those that a ledger holds."""

_ATTEMPTS = 3
_FENCE = "train"
_RESIZE_SECONDS = 20.0  # between two looks for hosts that have joined


def train_through_failures(
    task: TrainingTask, placement: Placement, stream: FusedStream, counts: Mapping[str, float]
) -> None:
    """Trains to the end of the stream, from the newest checkpoint on whenever workers were lost or joined.

    Args:
        counts: what telemetry starts with, unless there is a checkpoint.

    Raises:
        TrainingFailedError: it failed several times in a row without coming to another checkpoint.
        JobError, StreamError: it failed for a reason that trying again would not mend.
    """
    store = CheckpointStore(task.checkpoints)
    failures, newest = 0, store.steps()[-1:]
    while not task.telemetry.snapshot().outcome:
        try:
            _trainer(task, placement, stream, counts).fit()
        except TrainingFailedError:
            reached = store.steps()[-1:]
            failures, newest = (1 if reached != newest else failures + 1), reached
            if failures == _ATTEMPTS and not task.telemetry.snapshot().failure:
                raise
        if problem := task.telemetry.snapshot().failure:
            raise problem


def _trainer(
    task: TrainingTask, placement: Placement, stream: FusedStream, counts: Mapping[str, float]
) -> TorchTrainer:
    def fused() -> Dataset:
        """Called at every start of the workers."""
        newest = CheckpointStore(task.checkpoints).newest()
        known: dict[str, Any] = newest.manifest.state if newest else {"counts": counts, "set_aside": []}
        task.telemetry.start_over(known["counts"], known["set_aside"])
        return stream(newest.ledger() if newest else Ledger())

    def train_worker() -> None:
        # Imported by the workers only: Ray Train's own actors unpickle this function too.
        from pta_ray.training import worker

        worker.train_worker(task)

    return TorchTrainer(
        train_worker,
        scaling_config=scaling(placement),
        datasets={"fused": fused},
        dataset_config=FirstWorkerReads(),
        run_config=train.RunConfig(name="training", storage_path=str(Path(task.staging) / ".ray")),
    )


def scaling(placement: Placement) -> train.ScalingConfig:
    """How many workers, with what.

    Ray Train takes as many as the cluster has CPUs for, whoever else needs those. Where hosts have the resource
    `train`, only these are taken, one for each unit of it, and hosts that join later too; elsewhere the number is
    capped by what the other stages leave.
    """
    place = placement.training
    resources = {"CPU": place.cpus} | ({"GPU": place.gpus} if place.gpus else {})
    fewest, most = place.count, max(place.count, place.most)
    if most > fewest:
        there = ray.cluster_resources()
        if _FENCE in there:
            resources[_FENCE] = 1
        else:
            most = max(fewest, min(most, room_for_workers(placement, there)))
    return train.ScalingConfig(
        num_workers=(fewest, most) if most > fewest else most,
        elastic_resize_monitor_interval_s=_RESIZE_SECONDS,
        use_gpu=place.gpus > 0,
        resources_per_worker=resources,
    )


def room_for_workers(placement: Placement, there: Mapping[str, float]) -> int:
    """Workers that fit beside the other stages."""
    place = placement.training
    others = [a for a in placement.stages if a is not place]
    room = (there.get("CPU", 0.0) - sum(a.count * a.cpus for a in others)) // place.cpus
    if place.gpus:
        room = min(room, (there.get("GPU", 0.0) - sum(a.count * a.gpus for a in others)) // place.gpus)
    return int(room)
