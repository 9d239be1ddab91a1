"""What an engine does."""

from collections.abc import Sequence
from functools import partial
from typing import Protocol

import numpy as np
import numpy.typing as npt

from pta_ray.checkpoint import max_positions
from pta_ray.config import ServedModel
from pta_ray.distributions import Scores
from pta_ray.errors import root_cause


class Engine(Protocol):
    """A loaded model that says what it believes about given sequences."""

    max_tokens: int
    """The longest sequence it can score."""

    def score(self, sequences: Sequence[npt.NDArray[np.int32]], top_k: int) -> list[Scores]:
        """Scores sequences. With `top_k` 0 only the actual next tokens are scored. A simulated model may list fewer
        candidates than it is asked for."""
        ...


def load_engine(
    settings: ServedModel, checkpoint: str, max_tokens: int, top_k: int, vocabulary_size: int
) -> Engine:  # fmt: skip
    """Loads a checkpoint with the engine that the job names.

    Args:
        max_tokens: bounds the sequences; the model's own limit may be lower.
        top_k: the most that will be asked for.
        vocabulary_size: of the tokenizer, for models that are not there.
    """
    if settings.engine == "simulated":
        from pta_ray.sources.simulated_engine import SimulatedEngine

        return SimulatedEngine(settings, max_tokens, vocabulary_size)
    max_tokens = min(max_tokens, max_positions(checkpoint, settings.trust_remote_code) - 1)
    if settings.engine == "transformers":
        from pta_ray.sources.transformers_engine import TransformersEngine

        return TransformersEngine(checkpoint, max_tokens, settings.max_batched_tokens, settings.trust_remote_code)
    load = partial(_load_vllm, settings, checkpoint, max_tokens, top_k)
    if settings.num_gpus_spread > 1:
        from pta_ray.sources.spread_engine import SpreadEngine

        return SpreadEngine(load, [{"GPU": 1.0}] * settings.num_gpus_spread)
    return load()


def _load_vllm(settings: ServedModel, checkpoint: str, max_tokens: int, top_k: int) -> Engine:
    from pta_ray.sources.vllm_engine import VllmEngine

    return VllmEngine(settings, checkpoint, max_tokens, top_k)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an engine failed for want of memory. torch has an error of its own for GPUs, and none for CPUs."""
    root = root_cause(error)
    known = isinstance(root, MemoryError) or type(root).__name__ == "OutOfMemoryError"
    return known or any(words in str(root) for words in ("out of memory", "can't allocate memory"))
