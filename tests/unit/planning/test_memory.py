from typing import Any

import pytest

from pta_ray.config import ServedModel, Training
from pta_ray.planning.architecture import Architecture, architecture_of
from pta_ray.planning.memory import alignment_memory, scoring_memory, training_memory

V, H, LAYERS, INNER, LENGTH = 64_000, 1024, 10, 4096, 512


def llama() -> Architecture:
    return architecture_of({
        "model_type": "llama", "vocab_size": V, "hidden_size": H, "num_hidden_layers": LAYERS,
        "num_attention_heads": 16, "num_key_value_heads": 4, "intermediate_size": INNER,
    })  # fmt: skip


P = llama().parameters


def model(**settings: Any) -> ServedModel:
    return ServedModel.model_validate({"model": "it", **settings})


def training(**settings: Any) -> dict[str, float]:
    return dict(training_memory(Training(**settings), llama(), LENGTH, on_gpu=True).device)


def test_a_scoring_gpu_holds_weights_keys_and_values_and_three_copies_of_the_logits() -> None:
    memory = scoring_memory(model(max_batched_tokens=1000), llama(), LENGTH, on_gpu=True)
    assert memory.device["weights"] == 2 * P
    assert memory.device["log-probabilities"] == 3 * 4 * 1000 * V
    assert memory.device["KV cache"] == LENGTH * 2 * LAYERS * 4 * 64 * 2
    assert memory.device_bytes == sum(memory.device.values())


def test_without_gpus_all_of_it_is_the_hosts_in_float32() -> None:
    memory = scoring_memory(model(engine="transformers"), llama(), LENGTH, on_gpu=False)
    assert not memory.device
    assert memory.host["weights"] == 4 * P
    assert "KV cache" not in memory.host


def test_a_model_that_is_spread_takes_its_part_of_each_gpu() -> None:
    whole = scoring_memory(model(), llama(), LENGTH, on_gpu=True).device
    spread = scoring_memory(model(tensor_parallel=2, pipeline_parallel=2), llama(), LENGTH, on_gpu=True).device
    assert spread["weights"] == whole["weights"] / 4
    assert spread["KV cache"] == whole["KV cache"] / 4
    assert spread["log-probabilities"] == whole["log-probabilities"]


def test_a_simulated_model_takes_nothing_but_its_process() -> None:
    memory = scoring_memory(model(engine="simulated"), llama(), LENGTH, on_gpu=True)
    assert (list(memory.device), list(memory.host)) == ([], ["process"])


def test_a_stage_of_zero_shards_what_it_says() -> None:
    by_stage = [training(zero_stage=stage, workers=8) for stage in (1, 2, 3)]
    assert [found["optimizer"] for found in by_stage] == [12 * P / 8] * 3
    assert [found["weights"] for found in by_stage] == [2 * P, 2 * P, 2 * P / 8]
    made, bucket = 2 * P, 2 * 2 * min(P, 500_000_000)  # in bfloat16: of all, or two buckets of them
    assert by_stage[0]["gradients"] == made + 4 * P + 4 * P / 8, "float32 sums, and what a worker's optimizer reads"
    assert by_stage[1]["gradients"] == bucket + (4 + 4) * P / 8, "as in stage 1, of a worker's share"
    assert by_stage[2]["gradients"] == bucket + 4 * P / 8, "the optimizer reads the sums"
    assert by_stage[2]["gathered weights"] == 2 * P  # fewer than DeepSpeed would gather at most


def test_gradients_in_buckets_stay_the_size_of_those_however_large_the_model() -> None:
    large = architecture_of({
        "model_type": "llama", "vocab_size": V, "hidden_size": 4096, "num_hidden_layers": 32,
        "num_attention_heads": 32, "intermediate_size": 11008,
    })  # fmt: skip
    device = training_memory(Training(zero_stage=3, workers=8), large, LENGTH, on_gpu=True).device
    assert device["gradients"] == 2 * 2 * 500_000_000 + 4 * large.parameters / 8


def test_without_zero_bfloat16_is_trained_as_with_stage_one_and_float32_keeps_no_copy() -> None:
    assert training(zero_stage=0) == training(zero_stage=1)
    assert training(zero_stage=0, precision="fp32")["optimizer"] == 8 * P


def test_what_is_offloaded_leaves_the_gpu() -> None:
    memory = training_memory(
        Training(zero_stage=3, workers=4, offload_optimizer=True, offload_parameters=True), llama(), LENGTH, on_gpu=True
    )
    assert not {"optimizer", "weights"} & memory.device.keys()
    assert memory.host["optimizer"] == (12 + 4) * P / 4
    assert memory.host["weights"] == 2 * P / 4


def test_adapters_have_gradients_and_state_and_nothing_else_has() -> None:
    found = training(lora={"rank": 8}, zero_stage=1)
    adapters = llama().adapters(8, "all-linear")
    assert found["optimizer"] == 12 * adapters
    assert found["weights"] == 2 * (P + adapters)
    assert found["head"] == 6 * 256 * V


@pytest.mark.parametrize("windows", [1, 4])
def test_checkpointing_keeps_the_inputs_of_layers_and_one_layer(windows: int) -> None:
    tokens = windows * LENGTH
    of_layer = 6 * H + 64 * (2 * 16 + 2 * 4) + 4 * INNER
    whole = training(micro_batch_windows=windows)["activations"]
    assert whole == 2 * tokens * LAYERS * of_layer
    kept = training(micro_batch_windows=windows, gradient_checkpointing=True)["activations"]
    assert kept == 2 * tokens * (LAYERS * H + of_layer)


def test_an_aligner_knows_all_vocabularies() -> None:
    one, two = alignment_memory([llama()]), alignment_memory([llama(), llama()])
    assert two.host["vocabularies"] == 2 * one.host["vocabularies"] > 0
