"""Scoring with transformers: for what vLLM lacks, and as the oracle that vLLM is checked against."""

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import torch
from transformers import AutoModelForCausalLM

from pta_ray.distributions import Scores


class TransformersEngine:
    """A plain forward pass; sequences of similar length share a batch."""

    def __init__(self, checkpoint: str, max_tokens: int, max_batched_tokens: int, trust_remote_code: bool) -> None:
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._model = AutoModelForCausalLM.from_pretrained(
            checkpoint,
            dtype="auto" if self._device.type == "cuda" else torch.float32,
            trust_remote_code=trust_remote_code,
            use_safetensors=True,
        ).to(self._device)
        self._model.eval()
        self._max_batched_tokens = max_batched_tokens
        self.max_tokens = max_tokens

    @torch.inference_mode()
    def score(self, sequences: Sequence[npt.NDArray[np.int32]], top_k: int) -> list[Scores]:
        """See `Engine.score`."""
        scores: dict[int, Scores] = {}
        for rows in self._batches([len(sequence) for sequence in sequences]):
            padded = torch.nn.utils.rnn.pad_sequence(
                [torch.from_numpy(sequences[row]).long() for row in rows], batch_first=True
            ).to(self._device)
            # Padding follows the text, where a causal model cannot see it: no attention mask is needed.
            logits_BLV = self._model(padded, use_cache=False).logits.float()
            log_probs_BLV = torch.log_softmax(logits_BLV, dim=-1)
            for row, log_probs_LV in zip(rows, log_probs_BLV, strict=True):
                scores[row] = _scores(sequences[row], log_probs_LV[: len(sequences[row]) - 1], top_k)
        return [scores[row] for row in range(len(sequences))]

    def _batches(self, lengths: list[int]) -> Iterator[list[int]]:
        """Rows in order of length, in groups whose padded size stays within the bound."""
        group: list[int] = []
        for row in sorted(range(len(lengths)), key=lengths.__getitem__):
            if group and (len(group) + 1) * lengths[row] > self._max_batched_tokens:
                yield group
                group = []
            group.append(row)
        if group:
            yield group


def _scores(sequence: npt.NDArray[np.int32], log_probs_MV: torch.Tensor, top_k: int) -> Scores:
    next_ids_M1 = torch.from_numpy(sequence[1:]).long().to(log_probs_MV.device)[:, None]
    top_log_probs_MK, top_ids_MK = log_probs_MV.topk(top_k, dim=-1)
    return Scores(
        sequence,
        log_probs_MV.gather(1, next_ids_M1)[:, 0].cpu().numpy(),
        top_ids_MK.int().cpu().numpy(),
        top_log_probs_MK.cpu().numpy(),
    )
