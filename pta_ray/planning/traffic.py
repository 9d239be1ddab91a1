"""What travels between the processes of a job."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

from pta_ray.config import Job, Training
from pta_ray.planning.architecture import Architecture
from pta_ray.planning.memory import trained_parameters

_TEXT_BYTES = 4.0


@dataclass(frozen=True)
class Traffic:
    """Bytes for each token of the target."""

    object_store: float
    """Written to the object store, by all stages together; over the network as far as the next one is elsewhere."""
    to_training: float
    """Of that, what the training reads."""
    between_workers: float
    """That each training worker sends to another."""


def stream_traffic(job: Job, lengths: Sequence[float]) -> tuple[float, float]:
    """What all stages write to the object store, and what the training reads of it, for a token of the target: the
    columns of `columns.py`, which each scoring stage copies and adds its own to.

    Args:
        lengths: tokens of each model for a token of the target.
    """
    top_k = job.alignment.top_k
    scores = [length * (4 + 4 + (4 + 2) * top_k) for length in lengths]
    scored = sum(_TEXT_BYTES + sum(scores[: i + 1]) for i in range(len(scores)))
    entry = 4 + 2 if job.alignment.targets == "tokens" else 4 + 4 + 2
    fused = 4 + entry * (1 + top_k) + 2
    return _TEXT_BYTES + scored + fused, fused


def training_traffic(settings: Training, architecture: Architecture, window_tokens: int, on_gpu: bool) -> float:
    """Bytes that each worker sends for a token that it learns from itself: gradients and, with sharded state, weights
    (Rajbhandari et al. 2020, arXiv 1910.02054, section 7)."""
    workers = settings.workers[0]
    size = 2 if settings.precision == "bf16" or (settings.precision == "auto" and on_gpu) else 4
    trained, others = float(size * trained_parameters(settings, architecture)), (workers - 1) / workers
    passes = ceil(settings.batch_windows / (workers * settings.micro_batch_windows))
    if settings.zero_stage == 3:  # weights are gathered forward and back, gradients scattered
        of_step = passes * (2 * size * architecture.parameters + trained)
    elif settings.zero_stage == 2:  # gradients are reduced to their owners in each pass
        of_step = passes * trained + trained
    else:
        of_step = 2.0 * trained
    return others * of_step / (settings.batch_windows * window_tokens / workers)
