"""What each kind of process keeps in memory, by what takes it, in bytes.

What engines and DeepSpeed allocate is counted from their code. Fitted to measured runs (see `roofline.efficiency`) is
only the scratch memory of CPU libraries; what a process takes before it loads anything is rounded. Of GPUs and vLLM
nothing was measured.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from pta_ray.config import ServedModel, Training
from pta_ray.planning.architecture import Architecture

GIB = 1 << 30
VLLM_MEMORY_SHARE = 0.9
"""Of a GPU that vLLM fills with weights and KV cache; the log-probabilities have the rest."""

_VLLM_CPU_KV_BYTES = GIB  # VLLM_CPU_KVCACHE_SPACE
_LOG_PROB_COPIES = 3  # logits, their logarithms, and those of the batch before
_PROCESS_BYTES = {"vllm": 1.0 * GIB, "transformers": 0.5 * GIB, "simulated": 0.25 * GIB, "train": 0.75 * GIB}
_SCRATCH_BYTES = {"score": 30e6, "train": 80e6}  # that CPU libraries take with their first pass
_ALIGNMENT_BYTES = 0.5 * GIB  # of the process with its kernels
_ALIGNMENT_BYTES_PER_TOKEN = 2048  # of a vocabulary: its bytes, tries and maps
_REDUCE_BUCKET = 500_000_000  # elements, DeepSpeed's default
_GATHERED = 1_000_000_000  # parameters that ZeRO-3 has whole at the same time, DeepSpeed's default


@dataclass(frozen=True)
class Memory:
    """Of one process, by what takes it."""

    device: Mapping[str, float]
    """Bytes on its GPU, or on each of those that it is spread over; empty without GPUs."""
    host: Mapping[str, float]

    @property
    def device_bytes(self) -> float:
        """All of it, on one GPU."""
        return sum(self.device.values())

    @property
    def host_bytes(self) -> float:
        """All of it."""
        return sum(self.host.values())


def scoring_memory(model: ServedModel, architecture: Architecture, window_tokens: int, on_gpu: bool) -> Memory:
    """Of one replica.

    Args:
        window_tokens: the longest sequence that it scores.
    """
    process = {"process": _PROCESS_BYTES[model.engine]}
    if model.engine == "simulated":
        return Memory({}, process)
    size = 2 if on_gpu else 4
    tokens, spread = model.max_batched_tokens, model.num_gpus_spread
    parts = {
        "weights": size * architecture.parameters / spread,
        "log-probabilities": tokens * architecture.vocabulary * 4 * _LOG_PROB_COPIES,
        "scratch": 0.0 if on_gpu else _SCRATCH_BYTES["score"],
        "activations": size * tokens * (4 * architecture.hidden + 3 * architecture.intermediate) / spread,
    }
    if model.engine == "vllm":
        of_window = window_tokens * kv_bytes_per_token(architecture, size) / spread
        parts["KV cache"] = of_window if on_gpu else _VLLM_CPU_KV_BYTES
    return Memory(parts, process) if on_gpu else Memory({}, {**parts, **process})


def kv_bytes_per_token(architecture: Architecture, size: int) -> float:
    """Keys and values of all layers, in numbers of so many bytes."""
    return 2.0 * architecture.layers * architecture.kv_heads * architecture.head_size * size


def alignment_memory(architectures: list[Architecture]) -> Memory:
    """Of one actor, which knows the vocabularies of all models."""
    tokens = sum(architecture.vocabulary for architecture in architectures)
    return Memory({}, {"vocabularies": tokens * _ALIGNMENT_BYTES_PER_TOKEN, "process": _ALIGNMENT_BYTES})


def training_memory(settings: Training, architecture: Architecture, window_tokens: int, on_gpu: bool) -> Memory:
    """Of one worker, when the job has as few of them as it may."""
    workers = settings.workers[0]
    bf16 = settings.precision == "bf16" or (settings.precision == "auto" and on_gpu)
    size = 2 if bf16 else 4
    stage = max(settings.zero_stage, 1) if bf16 else settings.zero_stage
    tokens = settings.micro_batch_windows * window_tokens
    trained = trained_parameters(settings, architecture)
    device: dict[str, float] = {
        "weights": size * (architecture.parameters + (trained if settings.lora else 0)),
        "gradients": _gradients(trained, stage, size, workers),
        "optimizer": 12.0 * trained / (workers if stage else 1) - (0 if stage else 4 * trained),
        "activations": size * tokens * activations_per_token(settings, architecture),
        "scratch": 0.0 if on_gpu else _SCRATCH_BYTES["train"],
        "head": _head(settings, architecture, size),
    }
    host: dict[str, float] = {"process": _PROCESS_BYTES["train"]}
    if stage == 3:
        gathered = min(architecture.parameters, _GATHERED)
        sharded = device["weights"] / workers
        (host if settings.offload_parameters else device)["weights"] = sharded
        if settings.offload_parameters:
            del device["weights"]
        device["gathered weights"] = size * gathered if workers > 1 or settings.offload_parameters else 0
    if settings.offload_optimizer:
        host["optimizer"] = device.pop("optimizer") + 4.0 * trained / workers  # and the gradients beside it
    return Memory(device, host) if on_gpu else Memory({}, _summed(device, host))


def trained_parameters(settings: Training, architecture: Architecture) -> int:
    """Those that have gradients and optimizer state."""
    lora = settings.lora
    return architecture.adapters(lora.rank, lora.modules) if lora else architecture.parameters


def activations_per_token(settings: Training, architecture: Architecture) -> float:
    """Numbers that a pass keeps for its gradient, for each of its tokens; with checkpointing the inputs of all layers
    and what one of them keeps."""
    of_layer = _activations_of_layer(architecture)
    if settings.gradient_checkpointing:
        return architecture.layers * architecture.hidden + of_layer
    return architecture.layers * of_layer


def _activations_of_layer(a: Architecture) -> float:
    """What each operation keeps of its input. A normalisation: its input, what it made of that, and its output, which
    the projections read; attention: queries, keys, values and its output; the feed-forward block: the input of its
    activation function, its output, and with a gate also the other factor and the product."""
    attention = a.head_size * (2 * a.heads + 2 * a.kv_heads)
    return 3 * a.num_norms * a.hidden + attention + (4 if a.gated else 2) * a.intermediate


def _gradients(trained: int, stage: int, size: int, workers: int) -> float:
    """Of DeepSpeed at its largest: those that the pass has just made, and the float32 sums over passes, twice where
    these are put one behind the other for the optimizer."""
    if stage == 0:
        return 4.0 * trained
    if stage == 1:
        return (size + 4.0) * trained + 4.0 * trained / workers
    fresh = 2.0 * size * min(trained, _REDUCE_BUCKET)
    return fresh + (8.0 if stage == 2 else 4.0) * trained / workers


def _head(settings: Training, a: Architecture, size: int) -> float:
    """The logits of a chunk, and the gradient of the head that is made with them, both in float32 and, where that is
    another, once more in the precision of the weights."""
    copies = 4 if size == 4 else 6
    of_weights = 0 if settings.lora else copies * a.vocabulary * a.hidden
    return copies * settings.positions_per_chunk * a.vocabulary + of_weights


def _summed(device: Mapping[str, float], host: Mapping[str, float]) -> dict[str, float]:
    """Without GPUs all of it is the host's."""
    return {
        part: device.get(part, 0.0) + host.get(part, 0.0) for part in [*device, *(p for p in host if p not in device)]
    }
