"""What Ray Train hands to its workers. Light to import: the actors that only coordinate load it too."""

from dataclasses import dataclass
from typing import Any

from ray import train
from ray.data import Dataset

from pta_ray.config import Training
from pta_ray.telemetry import Telemetry


@dataclass(frozen=True)
class TrainingTask:
    """Everything a worker needs besides its shard of the stream."""

    settings: Training
    num_entries: int
    """Entries per position of the fused distributions."""
    model: str
    """Where the target's starting checkpoint lies."""
    trust_remote_code: bool
    staging: str
    """Where the fused checkpoint is written."""
    telemetry: Telemetry


class UnevenShards(train.DataConfig):  # type: ignore[misc]
    """Ray Train's own split makes the shards equal by dropping rows."""

    def configure(
        self, datasets: dict[str, Dataset], world_size: int, worker_handles: Any, worker_node_ids: Any, **_: Any
    ) -> list[dict[str, Any]]:
        """See `ray.train.DataConfig.configure`."""
        shards: list[dict[str, Any]] = [{} for _ in range(world_size)]
        for name, dataset in datasets.items():
            splits = dataset.streaming_split(world_size, equal=False, locality_hints=worker_node_ids)
            for shard, split in zip(shards, splits, strict=True):
                shard[name] = split
        return shards
