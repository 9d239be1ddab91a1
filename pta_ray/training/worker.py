"""What each Ray Train worker does: start an engine, go on from the newest checkpoint, learn, export."""

import os
from collections.abc import Iterable
from contextlib import closing
from datetime import timedelta
from itertools import chain
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
import torch.distributed as dist

from pta_ray.cached_epochs import rebatched
from pta_ray.checkpoint import local_checkpoint
from pta_ray.errors import JobError, StreamError
from pta_ray.ledger import Ledger
from pta_ray.training.checkpoints import Checkpoint, CheckpointStore
from pta_ray.training.engine import start_engine
from pta_ray.training.export import export
from pta_ray.training.feed import num_passes
from pta_ray.training.lora import add_adapters
from pta_ray.training.setup import TrainingTask
from pta_ray.training.student import Student, load_target
from pta_ray.training.trainer import Trainer

_PATIENCE = timedelta(days=1)
"""Workers wait for rank 0 while engines start and slow sources score. One that dies is noticed at once all the same."""


def train_worker(task: TrainingTask, stream: Iterable[pa.Table]) -> None:
    """The training function of one worker. What trying again would not mend is reported instead of raised.

    Args:
        stream: on rank 0, the rows of one step each; of no account elsewhere.
    """
    try:
        _train(task, stream)
    except (JobError, StreamError) as error:
        task.telemetry.stop(error)


def _train(task: TrainingTask, stream: Iterable[pa.Table]) -> None:
    use_cuda = torch.cuda.is_available()
    if not use_cuda:
        os.environ["DS_ACCELERATOR"] = "cpu"  # read when deepspeed is imported
    group = dist.new_group(backend="gloo", timeout=_PATIENCE)
    torch.manual_seed(task.job.data.seed)  # adapters start alike on all workers
    checkpoint = local_checkpoint(task.job.target.model)
    settings = task.job.training
    passes = num_passes(settings.batch_windows, settings.micro_batch_windows, dist.get_world_size())
    engine = start_engine(_student(task, checkpoint), settings, passes, use_cuda)
    trainer = Trainer(engine, task, group)
    trainer.look_at_start()
    if newest := _newest(task, group):
        trainer.restore(newest)
    with closing(trainer):
        trainer.start_tracking()
        trainer.fit(_all_tables(task, stream, trainer.progress.ledger) if dist.get_rank() == 0 else ())
    export(engine, checkpoint, settings.lora, task.job.target.trust_remote_code, Path(task.staging))
    trainer.report()


def _student(task: TrainingTask, checkpoint: str) -> Student:
    """The target as a module that computes the objective."""
    settings, target = task.job.training, task.job.target
    model = load_target(checkpoint, torch.float32, target.trust_remote_code)
    if settings.lora:
        add_adapters(model, settings.lora)
    if settings.gradient_checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    model.train()
    in_byte_order = task.tokenizer.table.sorted_ids_O if task.job.alignment.targets == "intervals" else None
    return Student(model, settings, in_byte_order)


def _newest(task: TrainingTask, group: Any) -> Checkpoint | None:
    """The checkpoint that all workers go on from, which is the one that the first worker sees."""
    store = CheckpointStore(task.checkpoints)
    step: list[int | None] = [max(store.steps(), default=None)]
    dist.broadcast_object_list(step, src=0, group=group)
    return None if step[0] is None else store.open(step[0])


def _all_tables(task: TrainingTask, stream: Iterable[pa.Table], learned: Ledger) -> Iterable[pa.Table]:
    """The rows of each step: first those of the stream, then those of the epochs that read a cache."""
    if not task.later:
        return stream
    return rebatched(chain(stream, task.later.read(learned)), task.job.training.batch_windows)
