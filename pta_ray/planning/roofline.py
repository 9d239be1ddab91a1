"""How long each stage takes for a token: the operations and bytes of its work against what the device does at best.

A stage's work is a few parts that follow each other. Each is limited by arithmetic or by memory, whichever takes longer
(Williams et al. 2009, doi 10.1145/1498765.1498785), at a stated share of what the device reaches in ideal loops.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pta_ray.config import ServedModel, Training
from pta_ray.planning.architecture import Architecture
from pta_ray.planning.hardware import Rates

ALIGNED_POSITIONS = {"pta": 120_000.0, "pta-paper": 32_000.0, "mined": 32_000.0, "exact": 120_000.0}
"""That an alignment actor does in a second, of one source, on one CPU: half of what alignment alone was measured to do
(238,000 with `pta`, 65,000 with `pta-paper`), since the stage also unpacks, folds and packs. The others are guesses."""
READ_TOKENS = 200_000.0
"""That are cut into windows in a second, on one CPU."""

_LOG_PROB_PASSES = 40  # in bytes of the vocabulary's logits: normalising, the most probable, and fresh memory for these
_LOSS_PASSES = 16
_BACKWARD_TRAFFIC = 3  # forward and back, of what lies between the products
_GRADIENT_BYTES = 16  # of a parameter, in each pass: they are made, added up and cleared
_OPTIMIZER_BYTES = 40  # of a parameter, in each step: the norm, and AdamW reads and writes its state and the weights


@dataclass(frozen=True)
class Work:
    """One part of a stage's work, for one token."""

    name: str
    flops: float
    """In matrix products."""
    num_bytes: float
    """Read and written."""
    layers: float = 0.0
    """That are called."""


@dataclass(frozen=True)
class Efficiency:
    """What share of a device's best is reached."""

    compute: float
    memory: float
    layer_seconds: float = 0.0
    """That calling a layer takes beside its work."""


_CPU = {"score": Efficiency(1.0, 1.0, 0.002), "train": Efficiency(0.85, 0.5, 0.006)}
_GPU = {"score": Efficiency(0.5, 0.7), "train": Efficiency(0.4, 0.7)}


def efficiency(stage: Literal["score", "train"], on_gpu: bool) -> Efficiency:
    """Of CPUs as fitted, of GPUs as is common.

    Fitted, together with the counts of passes above, by hand to Llamas of 3 to 114 million parameters with vocabularies
    of 4,096 to 32,000 on one thread of a Xeon with AVX-512, in float32: the transformers engine, and DeepSpeed ZeRO-2
    on one worker. The predicted speeds were 0.87 to 1.13 of the measured ones there. The time of calls was put in
    when a model of two million parameters, which was not among them, came out too fast.
    """
    return (_GPU if on_gpu else _CPU)[stage]


def seconds_per_token(parts: Sequence[Work], rates: Rates, efficiency: Efficiency) -> float:
    """Of parts that follow each other on one device."""
    flops, bandwidth = rates.flops * efficiency.compute, rates.bandwidth * efficiency.memory
    calls = efficiency.layer_seconds * sum(part.layers for part in parts)
    return calls + sum(max(part.flops / flops, part.num_bytes / bandwidth) for part in parts)


def scoring_work(model: ServedModel, a: Architecture, window_tokens: int, size: int) -> list[Work]:
    """Of a pass that is as full as it may be.

    Args:
        window_tokens: of a sequence.
        size: bytes of a number.
    """
    return [
        *_forward(a, window_tokens, model.max_batched_tokens, size),
        Work("calls", 0, 0, a.layers / model.max_batched_tokens),
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
        _times(attention, 3 + settings.gradient_checkpointing),
        _times(between, _BACKWARD_TRAFFIC + settings.gradient_checkpointing),
        _times(head, 2 if settings.lora else 3),
        Work("calls", 0, 0, a.layers / tokens),
        Work("loss", 0, 4 * _LOSS_PASSES * a.vocabulary),
        Work("gradients", 0, _GRADIENT_BYTES * trained / tokens),
        Work("optimizer", 0, _OPTIMIZER_BYTES * trained / (workers if settings.zero_stage else 1) / step_tokens),
    ]


def _forward(a: Architecture, window_tokens: int, tokens: int, size: int) -> tuple[Work, Work, Work, Work]:
    """Matrices of the layers, attention, all that is done between these, and the head.

    Args:
        tokens: of a pass, which reads every weight once.
    """
    inputs_and_outputs = sum(linear.inputs + linear.outputs for linear in a.linears)
    return (
        Work("layers", 2 * a.body_weights, size * (a.body_weights / tokens + a.layers * inputs_and_outputs)),
        # Scores and what they weigh, over the half of the window that lies before a token.
        Work("attention", 2 * a.layers * a.heads * a.head_size * window_tokens, 0),
        Work("between", 0, size * a.layers * _traffic_of_layer(a)),
        Work("head", 2 * a.embedding, size * a.embedding / tokens),
    )


def _traffic_of_layer(a: Architecture) -> float:
    """Numbers that pass between memory and processor for a token, each operation of its own: normalisations, rotations
    of queries and keys, sums with the residual stream, activation function and gate."""
    rotated = (a.heads + a.kv_heads) * a.head_size if a.gated else 0
    return 8 * a.num_norms * a.hidden + 8 * rotated + 6 * a.hidden + (5 if a.gated else 2) * a.intermediate


def _times(work: Work, factor: float) -> Work:
    return Work(work.name, factor * work.flops, factor * work.num_bytes)
