"""An engine that computes nothing: it takes its time and makes its distributions up.

Shapes: L tokens of a sequence, M = L - 1 positions that predict a token, K entries per position.
"""

import hashlib
import os
import random
import time
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from pta_ray.config import ServedModel
from pta_ray.distributions import Scores

_NAMED = 0.95  # of a distribution's mass; the rest is that of tokens which it never names


class SimulatedEngine:
    """See `config.Simulated`. What it says about a sequence depends on the sequence alone."""

    def __init__(self, settings: ServedModel, max_tokens: int, vocabulary_size: int) -> None:
        time.sleep(settings.simulated.startup_seconds)
        self._settings = settings.simulated
        self._max_batched_tokens = settings.max_batched_tokens
        self._vocabulary_size = vocabulary_size
        self.max_tokens = max_tokens

    def score(self, sequences: Sequence[npt.NDArray[np.int32]], top_k: int) -> list[Scores]:
        """See `Engine.score`.

        Raises:
            MemoryError: it may take more tokens at once than it pretends to have memory for.
            ValueError: one of the sequences is among those that it cannot score.
        """
        begin, settings = time.perf_counter(), self._settings
        if random.random() < settings.failure_rate:
            os._exit(1)
        if settings.memory_tokens is not None and self._max_batched_tokens > settings.memory_tokens:
            raise MemoryError(f"simulated: out of memory with {self._max_batched_tokens} tokens at once")
        num_K = min(top_k, settings.top_k or top_k, self._vocabulary_size - 1)
        scores = [self._score(sequence, num_K) for sequence in sequences]
        seconds = sum(map(len, sequences)) / settings.tokens_per_second
        time.sleep(max(begin + seconds - time.perf_counter(), 0))
        return scores

    def _score(self, ids_L: npt.NDArray[np.int32], num_K: int) -> Scores:
        seed = hashlib.blake2b(ids_L.tobytes(), digest_size=8).digest()
        generator = np.random.Generator(np.random.SFC64(int.from_bytes(seed)))
        if generator.random() < self._settings.bad_window_rate:
            raise ValueError("simulated: this window cannot be scored")
        return made_up(ids_L, num_K, self._vocabulary_size, generator)


def made_up(
    ids_L: npt.NDArray[np.int32], num_K: int, vocabulary_size: int, generator: np.random.Generator
) -> Scores:  # fmt: skip
    """Geometric distributions over the ranks of the tokens, P(rank = r) = 0.95 (1 - d) d^r, each with another d; the
    actual token's rank is drawn from the same distribution, so that it is listed as often as it ought to be.

    Args:
        num_K: below `vocabulary_size`.
    """
    u_3M = generator.random((3, len(ids_L) - 1), np.float32)
    log_d_M = np.log(0.3 + 0.6 * u_3M[0])
    log_first_M = np.log(np.float32(_NAMED)) + np.log(-np.expm1(log_d_M))
    rank_M = np.floor(np.log(1 - u_3M[1]) / log_d_M)
    # Steps of one width lead from the actual token to the candidates. Even K of them do not go round the vocabulary, so
    # that no token is met twice, nor the actual one where its rank is K or more.
    step_M = 1 + (u_3M[2] * (vocabulary_size // (num_K + 1) - 1)).astype(np.int32)
    ranks_K = np.arange(num_K, dtype=np.int32)
    steps_MK = ranks_K - np.minimum(rank_M, num_K).astype(np.int32)[:, None]
    return Scores(
        ids_L,
        log_first_M + rank_M * log_d_M,
        (ids_L[1:, None] + step_M[:, None] * steps_MK) % np.int32(vocabulary_size),
        log_first_M[:, None] + ranks_K.astype(np.float32) * log_d_M[:, None],
    )
