"""What Ray Train hands to its workers. Light to import: the actors that only coordinate load it too."""

from dataclasses import dataclass
from typing import Any

from ray import train
from ray.data import Dataset

from pta_ray.config import Job
from pta_ray.telemetry import Telemetry
from pta_ray.text.reading import ReadPlan
from pta_ray.tokenizers.byte_tokenizer import ByteTokenizer


@dataclass(frozen=True)
class TrainingTask:
    """Everything a worker needs besides the stream."""

    job: Job
    tokenizer: ByteTokenizer
    """Of the target."""
    held_out: ReadPlan
    """What validations measure bits per byte on."""
    staging: str
    """Where the fused checkpoint is written."""
    checkpoints: str
    """Where the checkpoints lie that a run goes on from: a directory or a URI."""
    made_from: dict[str, str]
    """`target` and `text`: fingerprints that a checkpoint must agree with."""
    telemetry: Telemetry


class FirstWorkerReads(train.DataConfig):  # type: ignore[misc]
    """The whole stream goes to rank 0, which deals it out step by step.

    Ray Train's own split drops rows to make the shards equal, and which worker gets a block depends on how many there
    are: a step would learn from other windows on another number of workers.
    """

    def configure(
        self, datasets: dict[str, Dataset], world_size: int, worker_handles: Any, worker_node_ids: Any, **_: Any
    ) -> list[dict[str, Any]]:
        """See `ray.train.DataConfig.configure`."""
        [(name, dataset)] = datasets.items()
        [whole] = dataset.streaming_split(1, equal=False, locality_hints=worker_node_ids[:1])
        return [{name: whole if rank == 0 else None} for rank in range(world_size)]
