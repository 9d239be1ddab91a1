"""Adapters on a tiny Llama, against the equation."""

import copy
from typing import Any

import pytest
import torch

from pta_ray.config import Lora
from pta_ray.errors import JobError
from pta_ray.training.lora import add_adapters, merge
from tests.unit.training.tiny_model import batch, tiny_llama

LORA = Lora(rank=3, alpha=5)


def trained(model: Any) -> dict[str, torch.nn.Parameter]:
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def with_random_adapters(model: Any, lora: Lora) -> dict[str, torch.Tensor]:
    """Adds adapters that do something, and returns them."""
    add_adapters(model, lora)
    for parameter in trained(model).values():
        torch.nn.init.normal_(parameter, std=0.2)
    return {name: parameter.detach().clone() for name, parameter in trained(model).items()}


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(batch(0)).logits  # type: ignore[no-any-return]


@pytest.mark.parametrize("tied", [True, False])
def test_only_adapters_are_trained_and_they_change_nothing_at_first(tied: bool) -> None:
    model = tiny_llama(tied=tied)
    before = logits(model)
    add_adapters(model, LORA)
    assert torch.equal(logits(model), before)
    assert len(trained(model)) == 2 * 7 * 2  # two factors, seven linear layers, two layers of the model
    assert not any("lm_head" in name or "embed_tokens" in name for name in trained(model))


def test_adapters_go_where_they_are_asked_for() -> None:
    model = tiny_llama()
    add_adapters(model, Lora(modules=["q_proj", "mlp.down_proj"]))
    assert len(trained(model)) == 2 * 2 * 2
    assert all("q_proj" in name or "down_proj" in name for name in trained(model))


@pytest.mark.parametrize("name", ["query", "proj", "mlp", "lm_head", "embed_tokens"])
def test_a_name_that_no_layer_to_adapt_has_is_refused(name: str) -> None:
    with pytest.raises(JobError) as refusal:
        add_adapters(tiny_llama(tied=False), Lora(modules=["q_proj", name]))
    assert refusal.value.field == "training.lora.modules"
    assert repr(name) in refusal.value.problem and "down_proj" in refusal.value.problem


@pytest.mark.parametrize("tied", [True, False])
def test_the_merged_model_says_what_the_adapted_one_says(tied: bool) -> None:
    model, plain = tiny_llama(tied=tied), tiny_llama(tied=tied)
    shapes = {name: tensor.shape for name, tensor in plain.state_dict().items()}
    adapters = with_random_adapters(model, LORA)
    merged = merge(plain, LORA, adapters.items())
    assert {name: tensor.shape for name, tensor in merged.state_dict().items()} == shapes
    assert (logits(merged) - logits(tiny_llama(tied=tied))).abs().max() > 0.1
    torch.testing.assert_close(logits(merged), logits(model), atol=1e-5, rtol=0)


def test_a_merged_weight_is_the_equation() -> None:
    plain, lora = tiny_llama(), Lora(rank=2, alpha=3, modules=["down_proj"])
    before = copy.deepcopy(plain.model.layers[1].mlp.down_proj.weight.detach())
    adapters = with_random_adapters(tiny_llama(), lora)
    of_layer = {name: tensor for name, tensor in adapters.items() if "layers.1." in name}
    [down] = [tensor for name, tensor in of_layer.items() if "lora_A" in name]
    [up] = [tensor for name, tensor in of_layer.items() if "lora_B" in name]
    merged = merge(plain, lora, adapters.items())
    torch.testing.assert_close(merged.model.layers[1].mlp.down_proj.weight, before + 3 / 2 * up @ down)


def test_adapters_of_another_model_are_refused() -> None:
    adapters = with_random_adapters(tiny_llama(), LORA)
    name = next(iter(adapters))
    with pytest.raises(ValueError, match=name):
        merge(tiny_llama(), LORA, [item for item in adapters.items() if item[0] != name])
    with pytest.raises(ValueError, match="other"):
        merge(tiny_llama(), LORA, {**adapters, "other": torch.ones(1)}.items())


@pytest.mark.parametrize("use_reentrant", [True, False])
def test_adapters_learn_where_activations_are_computed_again(use_reentrant: bool) -> None:
    gradients = []
    for checkpointing in (False, True):
        torch.manual_seed(0)
        model = tiny_llama()
        with_random_adapters(model, LORA)
        if checkpointing:
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": use_reentrant})
        model.train()(batch(0), labels=batch(0)).loss.backward()
        gradients.append({name: parameter.grad for name, parameter in trained(model).items()})
    for name, gradient in gradients[0].items():
        assert gradient is not None and gradient.abs().max() > 0
        torch.testing.assert_close(gradients[1][name], gradient)
