"""A tiny Llama, and training steps with it on batches that are the same whatever the number of workers."""

from typing import Any

import torch
import torch.distributed as dist
from transformers import LlamaConfig, LlamaForCausalLM

from pta_ray.config import Training

BATCH, LENGTH, NUM_TOKENS = 12, 16, 300
"""The batch divides by the passes of one, two and three workers."""

VARIANTS: list[dict[str, Any]] = [
    {"zero_stage": 0},
    {"zero_stage": 1},
    {"zero_stage": 2},
    {"zero_stage": 3},
    {"zero_stage": 2, "offload_optimizer": True},
    {"zero_stage": 3, "offload_optimizer": True, "offload_parameters": True},
    {"zero_stage": 0, "precision": "bf16"},
    {"zero_stage": 2, "precision": "bf16"},
    {"zero_stage": 3, "precision": "bf16"},
]
"""Settings of engines that run on a CPU."""


def name_of(index: int) -> str:
    """A variant's name for pytest."""
    return "-".join(f"{key}={value}" for key, value in VARIANTS[index].items())


def is_bf16(variant: dict[str, Any]) -> bool:
    """Whether a variant computes in bfloat16, so that only about two digits agree."""
    return variant.get("precision") == "bf16"


class LanguageModel(torch.nn.Module):
    """Holds the target as the `Student` does; the loss is the ordinary one."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, ids_BL: torch.Tensor) -> torch.Tensor:
        return self.model(ids_BL, labels=ids_BL).loss  # type: ignore[no-any-return]


def tiny_llama(seed: int = 0, tied: bool = True) -> LlamaForCausalLM:
    """Two layers in float32. Three workers do not divide its sizes; its vocabulary is padded, since stage 3 shares out
    large parameters only."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=3200,
        hidden_size=32,
        intermediate_size=50,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        tie_word_embeddings=tied,
        max_position_embeddings=64,
    )
    return LlamaForCausalLM(config)


def settings(**changes: Any) -> Training:
    """Large steps, so that what is lost of a state shows."""
    return Training.model_validate({"learning_rate": 0.01, "batch_windows": BATCH, "precision": "fp32", **changes})


def batch(step: int) -> torch.Tensor:
    """The windows of a step over all workers."""
    generator = torch.Generator().manual_seed(step)
    return torch.randint(0, NUM_TOKENS, (BATCH, LENGTH), generator=generator)


def train_step(engine: Any, step: int) -> float:
    """One optimizer step; returns the loss over all workers before it."""
    num_passes = engine.gradient_accumulation_steps()
    parts = batch(step).chunk(num_passes * dist.get_world_size())[dist.get_rank() :: dist.get_world_size()]
    total = torch.zeros(())
    for ids_BL in parts:
        loss = engine(ids_BL)
        engine.backward(loss)
        engine.step()
        total += loss.detach().float() / num_passes
    dist.all_reduce(total)
    return float(total / dist.get_world_size())
