"""From a DeepSpeed engine's parameters to an ordinary Hugging Face checkpoint."""

from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer


def export(model: Any, checkpoint: str, staging: Path, writes: bool) -> None:
    """Writes model, tokenizer and generation config to a directory; all workers call it, one of them writes.

    Parameters that ZeRO-3 has sharded are gathered one at a time, so that no device holds the whole model.

    Args:
        checkpoint: the target's starting checkpoint; its tokenizer is copied.
    """
    import deepspeed

    state: dict[str, torch.Tensor] = {}
    for name, parameter in model.named_parameters():
        with deepspeed.zero.GatheredParameters([parameter], enabled=hasattr(parameter, "ds_id")):
            if writes:
                state[name] = parameter.detach().to("cpu", copy=True)
    if writes:
        state.update(dict(model.named_buffers()))
        model.save_pretrained(staging, state_dict=_persistent(model, state), safe_serialization=True)
        AutoTokenizer.from_pretrained(checkpoint).save_pretrained(staging)


def _persistent(model: Any, state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Only what a checkpoint of this model holds: no tied duplicates, no buffers that are computed anew."""
    kept = set(model.state_dict().keys())
    return {name: tensor for name, tensor in state.items() if name in kept}
