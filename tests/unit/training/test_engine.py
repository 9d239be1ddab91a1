"""Real engines in two real processes; stage 3 comes first, since it needs DeepSpeed before there is an engine."""

import math
from typing import Any

import pytest
import torch

from pta_ray.training.engine import deepspeed_config, start_engine
from pta_ray.training.state import read_state
from tests.unit.training.processes import in_processes
from tests.unit.training.tiny_model import (
    VARIANTS,
    LanguageModel,
    batch,
    is_bf16,
    name_of,
    settings,
    tiny_llama,
    train_step,
)

STAGE_3_FIRST = sorted(range(len(VARIANTS)), key=lambda index: -VARIANTS[index]["zero_stage"])


class Poisonous(LanguageModel):
    """Its loss can be made infinite, or not a number, on one worker."""

    factor = 1.0

    def forward(self, ids_BL: torch.Tensor) -> torch.Tensor:
        return super().forward(ids_BL) * self.factor


def are_equal(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(tensor, second[name]) for name, tensor in first.items())


def steps_around_bad_ones() -> dict[int, list[Any]]:
    """By variant: gradient norm of a good step; then of each bad step whether it was applied, its norm and whether the
    state is what it was; whether another good step was applied, and its norm."""
    rank = torch.distributed.get_rank()
    results = {}
    for index in STAGE_3_FIRST:
        student = Poisonous(tiny_llama())
        engine = start_engine(student, settings(**VARIANTS[index]), 2, use_cuda=False)
        train_step(engine, 1)
        norms, before = [float(engine.get_global_grad_norm())], dict(read_state(engine))
        bad = []
        for factor in (math.nan, math.inf):
            student.factor = factor if rank == 1 else 1.0
            train_step(engine, 2)
            same = are_equal(before, dict(read_state(engine)))
            bad.append((engine.was_step_applied(), float(engine.get_global_grad_norm()), same))
        student.factor = 1.0
        train_step(engine, 3)
        changed = not are_equal(before, dict(read_state(engine)))
        results[index] = [*norms, bad, engine.was_step_applied() and changed, float(engine.get_global_grad_norm())]
    return results


@pytest.fixture(scope="module")
def two_workers() -> list[dict[int, list[Any]]]:
    return in_processes(2, steps_around_bad_ones)


@pytest.mark.parametrize("index", range(len(VARIANTS)), ids=name_of)
def test_a_step_is_left_out_if_its_gradient_is_not_finite(two_workers: list[dict[int, list[Any]]], index: int) -> None:
    for worker in two_workers:
        _, bad, applied_afterwards, norm_afterwards = worker[index]
        assert bad == [(False, math.inf, True)] * 2
        assert applied_afterwards and math.isfinite(norm_afterwards)


@pytest.mark.parametrize("index", range(len(VARIANTS)), ids=name_of)
def test_the_gradient_norm_is_that_of_the_whole_batch(two_workers: list[dict[int, list[Any]]], index: int) -> None:
    model = LanguageModel(tiny_llama())
    model(batch(1)).backward()
    squares = [
        float((parameter.grad.double() ** 2).sum()) for parameter in model.parameters() if parameter.grad is not None
    ]
    relative = 0.02 if is_bf16(VARIANTS[index]) else 1e-4
    assert two_workers[0][index][0] == pytest.approx(math.sqrt(sum(squares)), rel=relative)


@pytest.mark.parametrize(
    ("precision", "use_cuda", "is_bf16"),
    [("auto", True, True), ("auto", False, False), ("bf16", False, True), ("fp32", True, False)],
)
def test_gpus_compute_in_bfloat16_unless_said_otherwise(precision: str, use_cuda: bool, is_bf16: bool) -> None:
    config = deepspeed_config(settings(precision=precision), 3, 5, use_cuda)
    assert config["bf16"]["enabled"] is is_bf16
    assert config["train_batch_size"] == 15 and config["gradient_accumulation_steps"] == 3
