"""What an engine does."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from pta_ray.config import ServedModel
from pta_ray.distributions import Scores


class Engine(Protocol):
    """A loaded model that says what it believes about given sequences."""

    max_tokens: int
    """The longest sequence it can score."""

    def score(self, sequences: Sequence[npt.NDArray[np.int32]], top_k: int) -> list[Scores]:
        """Scores sequences of at least two tokens. With `top_k` 0 only the actual next tokens are scored."""
        ...


def load_engine(settings: ServedModel, checkpoint: str, max_tokens: int, top_k: int) -> Engine:
    """Loads a checkpoint with the engine that the job names. `max_tokens` bounds the sequences."""
    if settings.engine == "vllm":
        from pta_ray.sources.vllm_engine import VllmEngine

        return VllmEngine(checkpoint, max_tokens, top_k, settings.max_batched_tokens, settings.trust_remote_code)
    from pta_ray.sources.transformers_engine import TransformersEngine

    return TransformersEngine(checkpoint, max_tokens, settings.max_batched_tokens, settings.trust_remote_code)
