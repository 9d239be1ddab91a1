"""Ray Train around the workers: as many as there is room for, and started again when some are lost."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import ray
from ray import train
from ray.data import Dataset
from ray.exceptions import RayActorError
from ray.train import TrainingFailedError
from ray.train.torch import TorchTrainer
from ray.util import placement_group_table, remove_placement_group
from ray.util.placement_group import PlacementGroup

from pta_ray.ledger import Ledger
from pta_ray.placement import TRAINING_RESOURCE, Placement
from pta_ray.training.checkpoints import CheckpointStore
from pta_ray.training.setup import FirstWorkerReads, TrainingTask, begun_stream

FusedStream = Callable[[Ledger], Dataset]
"""The rows to learn from, without those that a ledger holds."""

_ATTEMPTS = 3
_RESIZE_SECONDS = 20.0  # between two looks for hosts that have joined


def train_through_failures(
    task: TrainingTask, placement: Placement, stream: FusedStream, counts: Mapping[str, float]
) -> None:
    """Trains to the end of the stream, from the newest checkpoint on whenever workers were lost or joined.

    Args:
        counts: what telemetry starts with, unless there is a checkpoint.

    Raises:
        TrainingFailedError, RayActorError: it failed several times in a row without coming to another checkpoint.
        JobError, StreamError: it failed for a reason that trying again would not mend.
    """
    store = CheckpointStore(task.checkpoints)
    failures, newest = 0, store.steps()[-1:]
    while not task.telemetry.snapshot().outcome:
        try:
            _trainer(task, placement, stream, counts).fit()
        except (TrainingFailedError, RayActorError):  # the latter when Ray Train's controller has died
            reached = store.steps()[-1:]
            failures, newest = (1 if reached != newest else failures + 1), reached
            _remove_groups()
            if failures == _ATTEMPTS and not task.telemetry.snapshot().failure:
                raise
        if problem := task.telemetry.snapshot().failure:
            raise problem


def _remove_groups() -> None:
    """Frees what the workers of a controller that was killed still reserve.

    Ray ends their placement group with the job only. Ray Train has a cleaner for it, which asks the dashboard whether
    the controller lives: there is none on a machine of its own, and of several clusters it does not know which.
    """
    own = ray.get_runtime_context().get_job_id()
    for group_id, group in placement_group_table().items():
        if group_id.endswith(own) and group["state"] != "REMOVED":  # the id of a group ends with that of its job
            remove_placement_group(PlacementGroup(ray.PlacementGroupID.from_hex(group_id)))


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
        stream = begun_stream(task.job.training.batch_windows)
        # Imported by the workers only, since Ray Train's own actors unpickle this function too; and it takes long.
        from pta_ray.training import worker

        worker.train_worker(task, stream)

    return TorchTrainer(
        train_worker,
        scaling_config=scaling(placement),
        datasets={"fused": fused},
        dataset_config=FirstWorkerReads(),
        run_config=train.RunConfig(name="training", storage_path=str(Path(task.staging) / ".ray")),
    )


def scaling(placement: Placement) -> train.ScalingConfig:
    """How many workers, with what.

    Where hosts have the resource `train`, only these are taken, one worker for each unit of it, and hosts that join
    later too. Elsewhere the number is capped by what the other stages leave: Ray Train takes as many as the cluster has
    CPUs for, whoever else needs those.
    """
    place = placement.training
    resources = {"CPU": place.cpus} | ({"GPU": place.gpus} if place.gpus else {})
    fewest, most = place.count, max(place.count, place.most)
    there = ray.cluster_resources()
    if TRAINING_RESOURCE in there:
        resources[TRAINING_RESOURCE] = 1
    elif most > fewest:
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
    room = (there.get("CPU", 0.0) - placement.cpus) // place.cpus
    if place.gpus:
        room = min(room, (there.get("GPU", 0.0) - placement.gpus) // place.gpus)
    return int(room) + place.count
