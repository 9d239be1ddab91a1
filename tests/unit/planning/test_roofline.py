import pytest

from pta_ray.config import ServedModel, Training
from pta_ray.planning.architecture import Architecture, architecture_of
from pta_ray.planning.hardware import Rates
from pta_ray.planning.roofline import Efficiency, Work, scoring_work, seconds_per_token, training_work

LENGTH = 512


def gpt_neox() -> Architecture:
    return architecture_of({
        "model_type": "gpt_neox", "vocab_size": 1000, "hidden_size": 128, "num_hidden_layers": 4,
        "num_attention_heads": 4, "intermediate_size": 512,
    })  # fmt: skip


def named(parts: list[Work]) -> dict[str, Work]:
    return {part.name: part for part in parts}


def training(**settings: object) -> dict[str, Work]:
    architecture = gpt_neox()
    return named(training_work(Training.model_validate(settings), architecture, LENGTH, 2, architecture.parameters))


def test_a_part_is_limited_by_arithmetic_or_by_memory() -> None:
    rates, parts = Rates(flops=1000, bandwidth=100), [Work("a", 500, 10), Work("b", 10, 50)]
    assert seconds_per_token(parts, rates, Efficiency(1, 1)) == pytest.approx(0.5 + 0.5)
    assert seconds_per_token(parts, rates, Efficiency(0.5, 0.25)) == pytest.approx(1.0 + 2.0)


def test_layers_take_time_of_their_own() -> None:
    parts = [Work("a", 500, 10), Work("calls", 0, 0, layers=0.1)]
    assert seconds_per_token(parts, Rates(1000, 100), Efficiency(1, 1, layer_seconds=2)) == pytest.approx(0.5 + 0.2)


def test_a_token_takes_two_operations_for_each_weight_and_those_of_attention() -> None:
    found = named(scoring_work(ServedModel(model="it"), gpt_neox(), LENGTH, 2))
    assert found["layers"].flops == 2 * 4 * 12 * 128**2
    assert found["head"].flops == 2 * 1000 * 128
    assert found["attention"].flops == 4 * (2 * 2 * 128) * LENGTH / 2  # half of the window lies before a token


def test_a_larger_pass_reads_the_weights_less_often() -> None:
    one, ten = (
        named(scoring_work(ServedModel(model="it", max_batched_tokens=tokens), gpt_neox(), LENGTH, 2))["head"].num_bytes
        for tokens in (100, 1000)
    )
    assert one == pytest.approx(10 * ten)


def test_learning_takes_three_times_the_products_of_reading_and_checkpointing_a_fourth() -> None:
    reading = named(scoring_work(ServedModel(model="it"), gpt_neox(), LENGTH, 2))
    assert training()["layers"].flops == 3 * reading["layers"].flops
    assert training(gradient_checkpointing=True)["layers"].flops == 4 * reading["layers"].flops
    assert training(gradient_checkpointing=True)["head"].flops == 3 * reading["head"].flops
    assert training(lora={})["layers"].flops == 2 * reading["layers"].flops


def test_the_optimizer_is_shared_by_the_tokens_of_a_step_and_the_workers() -> None:
    assert training(batch_windows=64)["optimizer"].num_bytes == 2 * training(batch_windows=128)["optimizer"].num_bytes
    # Two workers shard the state, and each learns from half of the step.
    assert training(workers=2)["optimizer"].num_bytes == training()["optimizer"].num_bytes
