"""How long each stage takes for a token: the operations and bytes of its work against what the device does at best.

A stage's work is a few parts that follow each other. Each is limited by arithmetic or by memory, whichever takes longer
(Williams et al. 2009, doi 10.1145/1498765.1498785), at a stated share of what the device reaches in ideal loops.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from pta_ray.config import ServedModel, Training
from pta_ray.planning.architecture import Architecture
from pta_ray.planning.hardware import Rates


@dataclass(frozen=True)
class Work:
    """One part of a stage's work, for one token."""

    name: str
    flops: float
    """In matrix products."""
    num_bytes: float
    """Read and written."""


@dataclass(frozen=True)
class Efficiency:
    """What share of a device's best is reached."""

    compute: float
    memory: float


def seconds_per_token(parts: Sequence[Work], rates: Rates, efficiency: Efficiency) -> float:
    """Of parts that follow each other on one device."""
    flops, bandwidth = rates.flops * efficiency.compute, rates.bandwidth * efficiency.memory
    return sum(max(part.flops / flops, part.num_bytes / bandwidth) for part in parts)


def scoring_work(model: ServedModel, a: Architecture, window_tokens: int, size: int) -> list[Work]:
    """Of a pass that is as full as it may be.

    Args:
        window_tokens: of a sequence.
        size: bytes of a number.
    """
    return [
        *_forward(a, window_tokens, model.max_batched_tokens, size),
        Work("log-probabilities", 0, 4 * _LOG_PROB_PASSES * a.vocabulary),
    ]


def training_work(settings: Training, a: Architecture, window_tokens: int, size: int, trained: int) -> list[Work]:
    """Of a pass forward and back, with its part of the optimizer's step.

    Args:
        trained: parameters with a gradient.
    """
    tokens = settings.micro_batch_windows * window_tokens
    # A product backward takes two; the weights' own is not asked for where adapters are trained instead.
    passes = (2 if settings.lora else 3) + settings.gradient_checkpointing
    body, attention, between, head = _forward(a, window_tokens, tokens, size)
    workers = settings.workers[0]
    step_tokens = settings.batch_windows * window_tokens / workers
    return [
        _times(body, passes),
        _times(attention, passes + settings.lora is not None),
        _times(between, _BACKWARD_TRAFFIC + settings.gradient_checkpointing),
        _times(head, 2 if settings.lora else 3),
        Work("loss", 0, 4 * _LOSS_PASSES * a.vocabulary),
        Work("gradients", 0, _GRADIENT_BYTES * trained / tokens),
        Work("optimizer", 0, _OPTIMIZER_BYTES * trained / (workers if settings.zero_stage else 1) / step_tokens),
    ]
