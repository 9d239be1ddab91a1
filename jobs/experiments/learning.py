"""How the target learns in the experiment: the package's loss, batches and schedule in a plain loop of one process.

`tests/benchmarks/overhead.py` shows that a loop of the same parts has the same losses as `pta-ray fuse`; here it saves
the minute in which Ray and DeepSpeed start, some hundred times.
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from jobs.experiments.windows import WINDOW_TOKENS
from pta_ray.config import Training
from pta_ray.distributions import FusedRow, Scores
from pta_ray.sources.transformers_engine import TransformersEngine
from pta_ray.training.batches import collate
from pta_ray.training.flattening import flatten
from pta_ray.training.schedule import learning_rate
from pta_ray.training.student import Student, load_target

MICRO_BATCH = 8


def learn(
    checkpoint: Path,
    rows: Sequence[FusedRow],
    order: Sequence[int],
    settings: Training,
    sorted_ids_O: npt.NDArray[np.int64] | None,
    light_abstention: bool = False,
) -> tuple[Any, list[float], int]:
    """Fine-tunes the target on some windows.

    Args:
        rows: the fused windows.
        order: which of them are learned from, one after the other; some may come several times.
        sorted_ids_O: see `Student`.
        light_abstention: where a source abstains the text does not stand in for it; such positions count for less.

    Returns: the model, the objective of every step, and the number of tokens learned from.
    """
    model = load_target(str(checkpoint), torch.float32, trust_remote_code=False).train()
    student = Student(model, settings, sorted_ids_O)
    optimizer = torch.optim.AdamW(
        student.parameters(), betas=settings.betas, weight_decay=settings.weight_decay, fused=True
    )
    losses, num_tokens = [], 0
    for first in range(0, len(order), settings.batch_windows):
        chosen = sorted(order[first : first + settings.batch_windows], key=lambda i: len(rows[i].ids_L))
        progress = first / len(order)
        num_positions = sum(len(rows[i].ids_L) - 1 for i in chosen)
        weight, temperature, loss = settings.clm_weight.at(progress), settings.source_temperature.at(progress), 0.0
        for begin in range(0, len(chosen), MICRO_BATCH):
            batch = collate([flatten(rows[i], temperature) for i in chosen[begin : begin + MICRO_BATCH]])
            total, *_ = student(batch.ids_BL, weight, *batch.targets)
            if light_abstention:
                abstained_N = batch.targets.weight_N * (1 - batch.targets.confidence_N)
                text_alone, *_ = student(batch.ids_BL, 1.0, *batch.targets._replace(weight_N=abstained_N))
                total = total - (1 - weight) * text_alone
            (total / num_positions).backward()
            loss += float(total.detach()) / num_positions
        torch.nn.utils.clip_grad_norm_(student.parameters(), settings.gradient_clipping)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(progress, settings.learning_rate, settings.warmup)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss)
        num_tokens += num_positions
    return model, losses, num_tokens


def score(model: Any, sequences: Sequence[npt.NDArray[np.int32]], top_k: int) -> list[Scores]:
    """What the target says along sequences of its tokens, after it has learned."""
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        engine = TransformersEngine(folder, WINDOW_TOKENS, MICRO_BATCH * WINDOW_TOKENS, trust_remote_code=False)
    return engine.score(sequences, top_k)
