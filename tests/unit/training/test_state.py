"""Real engines in real processes: what is read from one continues in another of any stage and number of workers."""

import math
from typing import Any, NamedTuple

import pytest
import torch
import torch.distributed as dist
from hypothesis import given
from hypothesis import strategies as st

from pta_ray.config import Lora
from pta_ray.training.engine import start_engine
from pta_ray.training.lora import add_adapters
from pta_ray.training.state import KINDS, read_state, share_out, write_state
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

State = dict[str, torch.Tensor]

NUM_STEPS = 3
STAGES = range(4)


def start(seed: int = 0, **changes: Any) -> Any:
    return start_engine(LanguageModel(tiny_llama(seed)), settings(**changes), 2, use_cuda=False)


def whole_state(engine: Any) -> State:
    """The shares of all workers, which must not overlap."""
    shares: list[State] = [{}] * dist.get_world_size()
    dist.all_gather_object(shares, dict(read_state(engine)))
    merged = {name: tensor for share in shares for name, tensor in share.items()}
    assert len(merged) == sum(len(share) for share in shares)
    return merged


def train(engine: Any, first: int, last: int) -> list[float]:
    return [train_step(engine, step) for step in range(first, last + 1)]


def begin() -> tuple[State, list[float]]:
    """A run without interruption; its state after three steps, and its losses after them."""
    engine = start(zero_stage=2)
    train(engine, 1, NUM_STEPS)
    return whole_state(engine), train(engine, NUM_STEPS + 1, NUM_STEPS + 3)


def resume(state: State, num_steps: int, variant: dict[str, Any], more: int) -> tuple[State, list[float]]:
    """Goes on in an engine that begins with other weights."""
    engine = start(seed=1, **variant)
    write_state(engine, state.items(), num_steps)
    losses = train(engine, num_steps + 1, num_steps + more)
    return whole_state(engine), losses


def start_adapters(zero_stage: int, seed: int) -> Any:
    model = tiny_llama()
    torch.manual_seed(seed)
    add_adapters(model, Lora(rank=3))
    return start_engine(LanguageModel(model), settings(zero_stage=zero_stage), 2, use_cuda=False)


def resume_adapters(zero_stage: int) -> tuple[State, list[float], list[float]]:
    """The state of a run with adapters, its losses afterwards, and those of a run that goes on from that state."""
    first, second = start_adapters(zero_stage, seed=0), start_adapters(zero_stage, seed=1)
    train(first, 1, NUM_STEPS)
    state = whole_state(first)
    write_state(second, state.items(), NUM_STEPS)
    uninterrupted, resumed = (train(engine, NUM_STEPS + 1, NUM_STEPS + 2) for engine in (first, second))
    return state, uninterrupted, resumed


class Continued(NamedTuple):
    """What two workers came to."""

    state: State
    uninterrupted: list[float]
    resumed: list[list[float]]
    """By stage."""
    adapters: list[tuple[State, list[float], list[float]]]


def continue_all() -> Continued:
    state, losses = begin()
    resumed = [resume(state, NUM_STEPS, {"zero_stage": zero_stage}, 2)[1] for zero_stage in STAGES]
    return Continued(state, losses, resumed, [resume_adapters(zero_stage) for zero_stage in STAGES])


@pytest.fixture(scope="module")
def two_workers() -> Continued:
    return in_processes(2, continue_all)[0]


@pytest.mark.parametrize("stage", STAGES)
def test_any_stage_continues_a_run(two_workers: Continued, stage: int) -> None:
    tolerance = 1e-6 if stage == 2 else 1e-5
    assert two_workers.resumed[stage] == pytest.approx(two_workers.uninterrupted[:2], abs=tolerance)


def test_other_numbers_of_workers_continue_it(two_workers: Continued) -> None:
    state, fourth = in_processes(1, resume, two_workers.state, NUM_STEPS, {"zero_stage": 3}, 1)[0]
    state, fifth = in_processes(3, resume, state, NUM_STEPS + 1, {"zero_stage": 0}, 1)[0]
    _, sixth = in_processes(2, resume, state, NUM_STEPS + 2, {"zero_stage": 2}, 1)[0]
    assert [*fourth, *fifth, *sixth] == pytest.approx(two_workers.uninterrupted, abs=1e-5)


@pytest.mark.parametrize("stage", STAGES)
def test_of_adapters_nothing_else_is_kept(two_workers: Continued, stage: int) -> None:
    state, uninterrupted, resumed = two_workers.adapters[stage]
    assert len(state) == len(KINDS) * 2 * 7 * 2 and all("lora_" in name for name in state)
    assert resumed == pytest.approx(uninterrupted, abs=1e-6)


def random_state(seed: int) -> State:
    generator = torch.Generator().manual_seed(seed)
    named = LanguageModel(tiny_llama()).named_parameters()
    scale = {"model": 0.1, "exp_avg": 1e-3, "exp_avg_sq": 1e-6}
    return {
        f"{kind}/{name}": scale[kind] * torch.rand(parameter.shape, generator=generator)
        for name, parameter in named
        for kind in KINDS
    }


def adam_step(state: State, num_steps: int, step: int) -> State:
    """Kingma and Ba 2015, algorithm 1, with decoupled weight decay and the gradient of the whole batch clipped."""
    training, model = settings(), LanguageModel(tiny_llama())
    model.load_state_dict({name.removeprefix("model/"): t for name, t in state.items() if name[:6] == "model/"}, False)
    model(batch(step)).backward()
    gradients = {name: parameter.grad.double() for name, parameter in model.named_parameters()}
    norm = math.sqrt(sum(float((gradient**2).sum()) for gradient in gradients.values()))
    rate, (beta1, beta2) = training.learning_rate, training.betas
    after = {}
    for name, gradient in gradients.items():
        clipped = gradient * min(1.0, training.gradient_clipping / norm)
        first = beta1 * state[f"exp_avg/{name}"] + (1 - beta1) * clipped
        second = beta2 * state[f"exp_avg_sq/{name}"] + (1 - beta2) * clipped**2
        unbiased = first / (1 - beta1**num_steps), second / (1 - beta2**num_steps)
        weights = state[f"model/{name}"] * (1 - rate * training.weight_decay)
        after[f"model/{name}"] = weights - rate * unbiased[0] / (unbiased[1].sqrt() + 1e-8)
        after[f"exp_avg/{name}"], after[f"exp_avg_sq/{name}"] = first, second
    return after


def written_and_read() -> list[tuple[State, State, State]]:
    """Of each variant: the state that is read back, what the model computes with, and the state after one more step."""
    results = []
    for variant in VARIANTS:
        engine = start(**variant)
        write_state(engine, random_state(7).items(), num_steps=2)
        before, computes_with = whole_state(engine), module_weights(engine)
        train_step(engine, 1)
        results.append((before, computes_with, whole_state(engine)))
    return results


def module_weights(engine: Any) -> State:
    import deepspeed

    weights = {}
    for name, parameter in engine.module.named_parameters():
        with deepspeed.zero.GatheredParameters([parameter], enabled=hasattr(parameter, "ds_id")):
            weights[name] = parameter.detach().clone()
    return weights


@pytest.fixture(scope="module")
def three_workers() -> list[tuple[State, State, State]]:
    return in_processes(3, written_and_read)[0]


def assert_close(found: State, expected: State, relative: float) -> None:
    """Equal within a share of each tensor's largest entry."""
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        difference = (found[name].double() - tensor.double()).abs().max() / tensor.abs().max()
        assert difference <= relative, name


@pytest.mark.parametrize("index", range(len(VARIANTS)), ids=name_of)
def test_what_is_written_is_read_and_used(three_workers: list[tuple[State, State, State]], index: int) -> None:
    before, computes_with, after = three_workers[index]
    written, bf16 = random_state(7), is_bf16(VARIANTS[index])
    assert_close(before, written, 0)
    rounded = {name: written[f"model/{name}"].to(torch.bfloat16 if bf16 else torch.float32) for name in computes_with}
    assert_close(computes_with, rounded, 0)
    assert_close(after, adam_step(written, num_steps=3, step=1), 0.1 if bf16 else 1e-4)


def refusals() -> list[str]:
    """What is said of a state that does not fit."""
    engine, state = start(zero_stage=2), random_state(7)
    name = "model/model.model.norm.weight"
    lacking = {other: tensor for other, tensor in state.items() if other != name}
    messages = []
    for broken in (lacking, {**state, "exp_avg/head": torch.ones(1)}, {**state, name: torch.ones(31)}):
        with pytest.raises(ValueError) as refusal:
            write_state(engine, broken.items(), 1)
        messages.append(str(refusal.value))
    return messages


def test_a_state_of_another_model_is_refused() -> None:
    lacking, unknown, misshapen = in_processes(1, refusals)[0]
    assert "model/model.model.norm.weight" in lacking and "exp_avg/head" in unknown
    assert "(31,), not (32,)" in misshapen


@given(st.dictionaries(st.text(), st.integers(1, 1 << 40), min_size=1), st.integers(1, 20))
def test_workers_get_about_equal_shares(sizes: dict[str, int], num_workers: int) -> None:
    owners = share_out(sizes, num_workers)
    shares = [0] * num_workers
    for name, owner in owners.items():
        shares[owner] += sizes[name]
    assert owners.keys() == sizes.keys()
    assert max(shares) - min(shares) <= max(sizes.values())
