"""From trained weights to an ordinary Hugging Face checkpoint."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from transformers import AutoModelForCausalLM, AutoTokenizer

from pta_ray.config import Lora
from pta_ray.training.lora import copy_weights, merge
from pta_ray.training.state import read_weights


def export(engine: Any, checkpoint: str, lora: Lora | None, trust_remote_code: bool, staging: Path) -> None:
    """Writes what an engine has learned; all workers call it, the first one writes.

    Weights are gathered one at a time, so that no device ever holds the whole model; the first worker's host does.
    Arguments as in `write_model`.
    """
    weights = read_weights(engine)
    if dist.get_rank() == 0:
        write_model(weights, checkpoint, lora, trust_remote_code, staging)
    else:
        for _ in weights:  # takes part in gathering
            pass


def write_model(
    weights: Iterable[tuple[str, torch.Tensor]],
    checkpoint: str,
    lora: Lora | None,
    trust_remote_code: bool,
    staging: Path,
) -> None:
    """Writes model, tokenizer and generation config to a directory, in the precision of the starting checkpoint.

    Args:
        weights: what was trained, by its name in the `Student`.
        checkpoint: the target's starting checkpoint, which everything else comes from.

    Raises:
        ValueError: a weight is missing or unknown.
    """
    target_weights = ((name.removeprefix("model."), tensor) for name, tensor in weights)
    model = AutoModelForCausalLM.from_pretrained(
        checkpoint, dtype="auto", trust_remote_code=trust_remote_code, use_safetensors=True
    )
    if lora:
        dtype = model.dtype
        model = merge(model.float(), lora, target_weights).to(dtype)
    else:
        copy_weights(dict(model.named_parameters()), target_weights)
    model.save_pretrained(staging)
    AutoTokenizer.from_pretrained(checkpoint, trust_remote_code=trust_remote_code).save_pretrained(staging)
