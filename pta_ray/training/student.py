"""The target model as a module that maps token ids and sparse targets to the objective."""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from transformers import AutoModelForCausalLM

from pta_ray.config import Training
from pta_ray.errors import JobError
from pta_ray.training.loss import ChunkedLoss


class Student(torch.nn.Module):
    """Runs the body once and the head in chunks; everything goes through modules, so that ZeRO-3 can gather them."""

    def __init__(self, model: Any, settings: Training, sorted_ids_O: npt.NDArray[np.int64] | None) -> None:
        """With the target's tokens in byte order (`ByteTable.sorted_ids_O`), it learns from set-valued targets."""
        super().__init__()
        self.model = model
        self.loss = ChunkedLoss(
            model.get_output_embeddings(),
            settings.divergence,
            settings.temperature,
            settings.tail,
            settings.positions_per_chunk,
            sorted_ids_O,
        )

    def forward(
        self, ids_BL: torch.Tensor, clm_weight: float, *targets: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """`ChunkedLoss` of a micro-batch; N = B x (L - 1), and `targets` are the tensors of `Batch.targets`."""
        hidden_BLH = self.model.base_model(ids_BL, use_cache=False).last_hidden_state
        losses: tuple[torch.Tensor, torch.Tensor, torch.Tensor] = self.loss(
            hidden_BLH[:, :-1].flatten(0, 1), ids_BL[:, 1:].flatten(), clm_weight, *targets
        )
        return losses


def load_target(checkpoint: str, dtype: torch.dtype, trust_remote_code: bool) -> Any:
    """Loads the model that is fine-tuned.

    Raises:
        JobError: its logits are more than a linear head on its last hidden states, so that the chunked loss would
            train on something else than what the model says.
    """
    model = AutoModelForCausalLM.from_pretrained(
        checkpoint, dtype=dtype, trust_remote_code=trust_remote_code, use_safetensors=True
    )
    probe_BL = torch.arange(1, 9)[None]
    with torch.no_grad():
        whole_BLV = model(probe_BL, use_cache=False).logits
        hidden_BLH = model.base_model(probe_BL, use_cache=False).last_hidden_state
        chunked_BLV = model.get_output_embeddings()(hidden_BLH)
    if whole_BLV.shape != chunked_BLV.shape or not torch.allclose(whole_BLV, chunked_BLV, rtol=1e-2, atol=1e-2):
        raise JobError("target.model", f"the head of {type(model).__name__} is more than a linear layer")
    return model
