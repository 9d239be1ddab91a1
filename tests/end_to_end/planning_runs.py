"""What models of several sizes take to score and to train, each measured in a fresh process, on one thread.

Times are of the processor, not of the clock: others may have it in between.
"""

import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

import numpy as np
import psutil

from pta_ray.config import Training
from pta_ray.planning.hardware import Rates, measure_cpu
from tests.conftest import in_new_process

TOKENS, MICRO_BATCH, PASSES = 256, 2, 2
BATCHED_TOKENS, SCORED_WINDOWS = 1024, 8
TOP_K = 10
REPEATS = 2
ENVIRONMENT = {
    "DS_ACCELERATOR": "cpu",
    "LOCAL_RANK": "0",
    "OMP_NUM_THREADS": "1",
    "MALLOC_ARENA_MAX": "1",  # as in a run
}

Step = Callable[[], None]


@dataclass(frozen=True)
class Size:
    """A Llama with random weights."""

    vocabulary: int
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    intermediate: int

    @property
    def config(self) -> dict[str, Any]:
        """As config.json has it."""
        return {
            "model_type": "llama", "vocab_size": self.vocabulary, "hidden_size": self.hidden,
            "num_hidden_layers": self.layers, "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads, "intermediate_size": self.intermediate,
            "max_position_embeddings": 2 * TOKENS, "tie_word_embeddings": True,
        }  # fmt: skip


SIZES = [
    Size(6000, 160, 3, 5, 5, 448),
    Size(32000, 96, 2, 3, 3, 256),
    Size(12000, 320, 5, 5, 1, 896),
    Size(4096, 448, 6, 7, 7, 1216),
    Size(24000, 512, 8, 8, 4, 1408),
    Size(8192, 832, 11, 13, 13, 2240),
]
"""From 2 to 99 million parameters. None is among those that the constants were fitted to."""


@dataclass(frozen=True)
class Measured:
    """What a process took."""

    peak_bytes: int
    """Beside what was resident when the libraries had been imported."""
    tokens_per_second: float
    rates: Rates
    """Of the processor at that time."""


def measure(size: Size, stage: str) -> Measured:
    """Of `score` or `train`."""
    with patch.dict(os.environ, ENVIRONMENT), tempfile.TemporaryDirectory() as folder:
        return in_new_process(_measure, size, stage, folder)


def _measure(size: Size, stage: str, folder: str) -> Measured:
    import torch

    torch.set_num_threads(1)
    torch.manual_seed(0)
    step, num_tokens, before = (_scoring if stage == "score" else _training)(size, folder)
    step()  # in which the optimizer makes its state
    Path("/proc/self/clear_refs").write_text("5")  # sets VmHWM to what is resident now
    seconds, rates, peak = [], [], 0
    for _ in range(REPEATS):
        begin = time.process_time()
        step()
        seconds.append(time.process_time() - begin)
        peak = peak or _peak_bytes() - before  # before the rates take memory of their own
        rates.append(measure_cpu(time.process_time))
    flops, bandwidth = (median(getattr(rate, name) for rate in rates) for name in ("flops", "bandwidth"))
    return Measured(peak, num_tokens / median(seconds), Rates(flops, bandwidth))


def _peak_bytes() -> int:
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return 1024 * int(status["VmHWM"].split()[0])


def _scoring(size: Size, folder: str) -> tuple[Step, int, int]:
    from transformers import LlamaConfig, LlamaForCausalLM

    from pta_ray.sources.transformers_engine import TransformersEngine

    LlamaForCausalLM(LlamaConfig(**size.config)).save_pretrained(folder)
    rng = np.random.default_rng(0)
    sequences = [rng.integers(0, size.vocabulary, TOKENS).astype(np.int32) for _ in range(SCORED_WINDOWS)]
    before = psutil.Process().memory_info().rss
    engine = TransformersEngine(folder, 2 * TOKENS, BATCHED_TOKENS, False)
    return lambda: engine.score(sequences, TOP_K) and None, SCORED_WINDOWS * TOKENS, before


def _training(size: Size, folder: str) -> tuple[Step, int, int]:
    import deepspeed  # noqa: F401
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from pta_ray.distributions import FusedRow, SparseDistribution
    from pta_ray.training.batches import collate
    from pta_ray.training.engine import start_engine
    from pta_ray.training.student import Student

    rng, shape = np.random.default_rng(0), (TOKENS - 1, 1 + TOP_K)
    rows = []
    for _ in range(MICRO_BATCH):
        ids_L = rng.integers(0, size.vocabulary, TOKENS).astype(np.int32)
        stride = size.vocabulary // (1 + TOP_K)  # between the entries of a position: they are distinct
        ids_MK = ((ids_L[1:, None] + stride * np.arange(1 + TOP_K)) % size.vocabulary).astype(np.int32)
        probs_MK = np.full(shape, 0.9 / (1 + TOP_K), np.float32)
        distribution = SparseDistribution(ids_MK, probs_MK, np.ones(TOKENS - 1, np.float32))
        rows.append(FusedRow(ids_L, distribution, np.zeros(TOKENS - 1, np.bool_)))
    torch.distributed.init_process_group("gloo", init_method=Path(folder, "store").as_uri(), rank=0, world_size=1)
    before = psutil.Process().memory_info().rss
    model = LlamaForCausalLM(LlamaConfig(**size.config))
    model.train()
    engine = start_engine(Student(model, Training(), None), Training(), PASSES, use_cuda=False)

    def step() -> None:
        for _ in range(PASSES):
            batch = collate(rows)
            total, _, _ = engine(batch.ids_BL, 0.8, *batch.targets)
            engine.backward(total / (MICRO_BATCH * TOKENS))
            engine.step()

    return step, PASSES * MICRO_BATCH * TOKENS, before
