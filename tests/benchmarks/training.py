"""What learning from fused distributions costs over plain language modelling, and what it saves over dense rows.

A Llama with random weights in a DeepSpeed engine of one process, one window of 2,048 tokens, a vocabulary of 32,000,
top-10, float32. Plain language modelling is the same head with w = 1. Every formulation's memory is measured in a
process of its own; both step times are of one run, the two in turn.
"""

import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import psutil
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from pta_ray.checkpoint import cache_directory
from pta_ray.config import Training
from pta_ray.distributions import FusedRow, SparseDistribution
from pta_ray.text.windows import cut
from pta_ray.tokenizers.loading import load_tokenizer
from pta_ray.training.batches import Batch, collate, deal
from pta_ray.training.engine import start_engine
from pta_ray.training.student import Student
from tests.conftest import in_new_process
from tests.oracles.dense_student import DenseStudent, dense_teacher

LENGTH, VOCABULARY, TOP_K, CLM_WEIGHT = 2048, 32_000, 10, 0.8
REPEATS = 9
WINDOW_TOKENS = 256  # of the demo
ENVIRONMENT = {
    "DS_ACCELERATOR": "cpu",
    "LOCAL_RANK": "0",
    "OMP_NUM_THREADS": "1",
    # Memory that is no longer used goes back at once, or what steps leave behind would hide what they take.
    "MALLOC_MMAP_THRESHOLD_": "65536",
}


def measure() -> dict[str, float]:
    """Ratios of step times and of peak memory, and the padding of the demo's windows with the default settings."""
    with patch.dict(os.environ, ENVIRONMENT):
        peaks = {name: in_new_process(peak_bytes, name) for name in ("fused", "clm", "dense")}
        return {
            "step_time_over_clm": in_new_process(step_time_over_clm),
            "peak_memory_over_clm": peaks["fused"] / peaks["clm"],
            "peak_memory_over_dense": peaks["fused"] / peaks["dense"],
            "padding_share": padding_share(),
        }


def step_time_over_clm() -> float:
    """Of medians."""
    engine, batch = engine_of(Student), make_batch(0)
    seconds: dict[float, list[float]] = {CLM_WEIGHT: [], 1.0: []}
    for _ in range(1 + REPEATS):
        for clm_weight, measured in seconds.items():
            begin = time.perf_counter()
            step(engine, batch, clm_weight)
            measured.append(time.perf_counter() - begin)
    return float(np.median(seconds[CLM_WEIGHT][1:]) / np.median(seconds[1.0][1:]))


def peak_bytes(name: str) -> int:
    """The most that a step takes beside what is there before it, once the optimizer has its state."""
    engine = engine_of(DenseStudent if name == "dense" else Student)
    for _ in range(2):
        before = psutil.Process().memory_info().rss
        Path("/proc/self/clear_refs").write_text("5")  # sets VmHWM to what is resident now
        if name == "dense":
            dense_step(engine)
        else:
            step(engine, make_batch(0), CLM_WEIGHT if name == "fused" else 1.0)
        status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
        peak = 1024 * int(status["VmHWM"].split()[0]) - before
    return peak


def step(engine: Any, batch: Batch, clm_weight: float) -> None:
    total, _, _ = engine(batch.ids_BL, clm_weight, *batch.targets)
    engine.backward(total / LENGTH)
    engine.step()


def dense_step(engine: Any) -> None:
    """From the distributions of the target and of two sources."""
    batches = [make_batch(seed) for seed in range(3)]
    teachers_1MV = [dense_teacher(batch.targets, VOCABULARY) for batch in batches]
    total = engine(batches[0].ids_BL, CLM_WEIGHT, *teachers_1MV)
    engine.backward(total / LENGTH)
    engine.step()


def engine_of(student: type[Student] | type[DenseStudent]) -> Any:
    """A small model in an engine of one process."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    store = Path(tempfile.mkdtemp()) / "store"
    torch.distributed.init_process_group("gloo", init_method=store.as_uri(), rank=0, world_size=1)
    config = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=256, intermediate_size=688, num_hidden_layers=4, num_attention_heads=4,
        num_key_value_heads=4, max_position_embeddings=LENGTH,
    )  # fmt: skip
    model, settings = LlamaForCausalLM(config), Training()
    module = Student(model, settings, None) if student is Student else DenseStudent(model)
    return start_engine(module, settings, 1, use_cuda=False)


def make_batch(seed: int) -> Batch:
    """A window of random tokens, the same for every seed, and distributions that name random ones."""
    ids_L = np.random.default_rng(0).integers(0, VOCABULARY, LENGTH).astype(np.int32)
    rng = np.random.default_rng(seed)
    stride = VOCABULARY // (1 + TOP_K)  # between the entries of a position: they are distinct
    ids_MK = (ids_L[1:, None] + stride * np.arange(1 + TOP_K) + rng.integers(0, stride, 1 + TOP_K)) % VOCABULARY
    ids_MK[:, 0] = ids_L[1:]
    probs_MK = rng.dirichlet(np.ones(2 + TOP_K), LENGTH - 1)[:, :-1].astype(np.float32)
    distribution = SparseDistribution(ids_MK.astype(np.int32), probs_MK, np.ones(LENGTH - 1, np.float32))
    return collate([FusedRow(ids_L, distribution, np.zeros(LENGTH - 1, np.bool_))])


def padding_share() -> float:
    """The share of positions that are padding, over the steps of one worker on the demo's text in random order."""
    settings, lengths = Training(), np.random.default_rng(0).permutation(demo_lengths()).tolist()
    padded = 0
    for begin in range(0, len(lengths), settings.batch_windows):
        of_step = lengths[begin : begin + settings.batch_windows]
        for micro_batch in deal(of_step, 1, settings.micro_batch_windows)[0]:
            padded += len(micro_batch) * (max(of_step[i] for i in micro_batch) - 1)
    return 1 - sum(length - 1 for length in lengths) / padded


def demo_lengths() -> list[int]:
    """Of the windows of the demo's text, in tokens of its target."""
    folder = cache_directory() / "demo"
    tokenizer = load_tokenizer(str(folder / "models" / "target"), trust_remote_code=False)
    lengths = []
    for path in sorted((folder / "data" / "fuse").glob("*.jsonl")):
        for line in path.read_text(encoding="utf-8").splitlines():
            for window in cut(json.loads(line)["text"], tokenizer, WINDOW_TOKENS):
                [ids] = tokenizer.encode([window.text.decode()])
                lengths.append(len(tokenizer.sequence(ids, window.ends_document, WINDOW_TOKENS)))
    return lengths
