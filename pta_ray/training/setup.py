"""What Ray Train hands to its workers. Light to import: the actors that only coordinate load it too."""

import threading
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from ray import train
from ray.data import Dataset

from pta_ray.cached_epochs import LaterEpochs
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
    later: LaterEpochs | None = None
    """What is learned from when the stream has ended."""


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


def begun_stream(batch_windows: int) -> Iterator[pa.Table]:
    """On rank 0, the rows of each step. The first are asked for at once, in the background: engines start while this
    worker makes itself ready. Nothing elsewhere."""
    shard = train.get_dataset_shard("fused")
    if shard is None:
        return iter(())
    tables = iter(shard.iter_batches(batch_size=batch_windows, batch_format="pyarrow"))
    first: Future[pa.Table | None] = Future()

    def ask() -> None:
        try:
            first.set_result(next(tables, None))
        except BaseException as error:
            first.set_exception(error)

    # A daemon, unlike a thread of a pool: a worker that cannot start ends without it.
    threading.Thread(target=ask, daemon=True).start()
    return _after(first, tables)


def _after(first: "Future[pa.Table | None]", rest: Iterator[pa.Table]) -> Iterator[pa.Table]:
    table = first.result()
    if table is not None:
        yield table
        yield from rest
