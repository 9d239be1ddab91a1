"""What each Ray Train worker does: pull fused windows, step DeepSpeed, export at the end."""

import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from ray import train

from pta_ray.checkpoint import local_checkpoint
from pta_ray.config import Training
from pta_ray.training.batches import Batch, batches, empty_batch
from pta_ray.training.export import export
from pta_ray.training.schedule import learning_rate
from pta_ray.training.setup import TrainingTask
from pta_ray.training.student import Student, load_target


def train_worker(task: TrainingTask) -> None:
    """The training function of one worker."""
    use_cuda = torch.cuda.is_available()
    if not use_cuda:
        os.environ["DS_ACCELERATOR"] = "cpu"  # read when deepspeed is imported
    import deepspeed

    torch.manual_seed(0)
    checkpoint = local_checkpoint(task.model)
    model = load_target(checkpoint, torch.bfloat16 if use_cuda else torch.float32, task.trust_remote_code)
    model.train()
    student = Student(model, task.settings.clm_weight, task.settings.positions_per_chunk)
    engine, *_ = deepspeed.initialize(model=student, config=deepspeed_config(task.settings, use_cuda))
    _fit(engine, task)
    export(engine.module.model, checkpoint, Path(task.staging), dist.get_rank() == 0)


def deepspeed_config(settings: Training, use_cuda: bool) -> dict[str, Any]:
    """The job's settings in DeepSpeed's words."""
    return {
        "train_batch_size": settings.batch_windows,
        "train_micro_batch_size_per_gpu": settings.micro_batch_windows,
        "gradient_clipping": settings.gradient_clipping,
        "zero_optimization": {"stage": settings.zero_stage},
        "bf16": {"enabled": use_cuda},
        "optimizer": {
            "type": "AdamW",
            "params": {
                "lr": settings.learning_rate,
                "betas": settings.betas,
                "weight_decay": settings.weight_decay,
                "torch_adam": not use_cuda,  # the fused one compiles for minutes at its first use on a CPU
            },
        },
        "zero_allow_untested_optimizer": True,
        "steps_per_print": 1 << 30,
    }


def _fit(engine: Any, task: TrainingTask) -> None:
    """Steps until no worker has data left. All workers take every step together, with or without data of their own."""
    settings, progress = task.settings, 0.0
    num_passes = engine.gradient_accumulation_steps()
    stream = _shard(settings)
    for step in itertools.count(1):
        micro_batches = list(itertools.islice(stream, num_passes))
        with task.telemetry.timed("train") as work:
            own_3 = _totals(micro_batches)
            num_rows, num_positions, share = _reduced(own_3).tolist()
            if not num_rows:
                return
            work.done(rows=int(own_3[0]), tokens=int(own_3[1]))
            progress += share
            _set_learning_rate(engine, learning_rate(progress, settings.learning_rate, settings.warmup))
            # DeepSpeed averages over workers and passes: the scale makes the sums a mean over the step's positions.
            scale = dist.get_world_size() * num_passes / num_positions
            micro_batches += [empty_batch(task.num_entries)] * (num_passes - len(micro_batches))
            loss, clm, fused = _accumulate(engine, micro_batches, scale, num_positions)
        if dist.get_rank() == 0:
            task.telemetry.step({"step": step, "progress": progress, "loss": loss, "clm": clm, "fused": fused})


def _accumulate(engine: Any, micro_batches: list[Batch], scale: float, num_positions: float) -> list[float]:
    """One optimizer step; returns objective, CLM and fused loss per position, over all workers."""
    sums_3 = torch.zeros(3, dtype=torch.float64)
    for batch in micro_batches:
        tensors = [tensor.to(engine.device) for tensor in (batch.ids_BL, *batch.targets)]
        losses = engine(*tensors)
        engine.backward(losses[0] * scale)
        engine.step()
        sums_3 += torch.stack([loss.detach() for loss in losses]).double().cpu()
    return (_reduced(sums_3) / num_positions).tolist()


def _totals(micro_batches: list[Batch]) -> torch.Tensor:
    """Windows, positions and share of the text in one worker's part of a step."""
    rows = sum(len(batch.ids_BL) for batch in micro_batches)
    positions = sum(batch.num_positions for batch in micro_batches)
    share = sum(batch.share for batch in micro_batches)
    return torch.tensor([rows, positions, share], dtype=torch.float64)


def _reduced(sums: torch.Tensor) -> torch.Tensor:
    """Sums over all workers."""
    device = "cuda" if dist.get_backend() == "nccl" else "cpu"
    on_device = sums.to(device, copy=True)
    dist.all_reduce(on_device)
    return on_device.cpu()


def _set_learning_rate(engine: Any, value: float) -> None:
    for group in engine.optimizer.param_groups:
        group["lr"] = value


def _shard(settings: Training) -> Iterator[Batch]:
    """This worker's micro-batches."""
    shard = train.get_dataset_shard("fused")
    return batches(shard.iter_batches(batch_size=settings.micro_batch_windows, batch_format="pyarrow"))
