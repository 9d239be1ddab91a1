"""Low-rank adapters: added to the target before training, merged into plain weights afterwards.

A linear layer's weight becomes  W + (alpha / rank) B A,  with A [rank, in] random and B [out, rank] zero at the start;
only A and B are trained (Hu et al. 2021, arXiv 2106.09685, section 4.1).
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import torch
from transformers.pytorch_utils import Conv1D

from pta_ray.config import Lora
from pta_ray.errors import JobError

if TYPE_CHECKING:
    from peft import LoraModel

_LINEAR = (torch.nn.Linear, Conv1D)


def add_adapters(model: Any, lora: Lora) -> None:
    """Freezes a model and gives its linear layers adapters, in place. Head and embeddings get none.

    Raises:
        JobError: a name is none of a linear layer, or the head's.
    """
    _adapted(model, lora)
    # The embeddings are frozen, and layers that are computed again for the gradient get none if their input has none.
    model.enable_input_require_grads()


def merge(model: Any, lora: Lora, tensors: Iterable[tuple[str, torch.Tensor]]) -> Any:
    """Adds trained adapters to a model's weights.

    Args:
        model: the starting checkpoint, without adapters; float32, so that the sum is not rounded.
        tensors: the adapters by the name that they have after `add_adapters`.

    Returns:
        The model, with the names and shapes of an ordinary checkpoint.

    Raises:
        ValueError: an adapter is missing or unknown.
    """
    adapted = _adapted(model, lora)
    adapters = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    copy_weights(adapters, tensors)
    return adapted.merge_and_unload()


def copy_weights(parameters: dict[str, torch.nn.Parameter], tensors: Iterable[tuple[str, torch.Tensor]]) -> None:
    """Copies tensors into parameters, in the parameters' precision.

    Raises:
        ValueError: a parameter gets no tensor, or a tensor has no parameter.
    """
    missing = set(parameters)
    for name, tensor in tensors:
        if name not in missing:
            raise ValueError(f"the model has no parameter {name}, or it comes twice")
        missing.remove(name)
        parameters[name].data.copy_(tensor)
    if missing:
        raise ValueError(f"there are no weights for {', '.join(sorted(missing))}")


def _adapted(model: Any, lora: Lora) -> "LoraModel":
    from peft import LoraConfig, LoraModel

    _check_names(model, lora)
    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,  # peft computes with any number
        lora_dropout=lora.dropout,
        target_modules=lora.modules,
    )
    return LoraModel(model, config, "default")


def _check_names(model: Any, lora: Lora) -> None:
    if lora.modules == "all-linear":  # peft leaves out the head then
        return
    head = model.get_output_embeddings()
    linear = [name for name, module in model.named_modules() if isinstance(module, _LINEAR) and module is not head]
    for wanted in lora.modules:
        if not any(f".{name}".endswith(f".{wanted}") for name in linear):
            known = ", ".join(sorted({name.rsplit(".", 1)[-1] for name in linear}))
            raise JobError("training.lora.modules", f"the model has no linear layer {wanted!r} to adapt, but {known}")
