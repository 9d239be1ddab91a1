"""Bits per byte of the demo's models on its held-out text, measured with transformers."""

import math
from collections.abc import Iterable
from pathlib import Path

import torch
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM, AutoTokenizer

from jobs.demo.corpus import read_texts


def bits_per_byte(
    model_folder: Path, held_out: Path, domains: Iterable[str], context: int, share: float
) -> dict[str, float]:
    """Cross-entropy in bits over the bytes of the text, for each domain, of a share of its held-out texts.

    A text is read in pieces of `context` tokens, the first of which is the start token; predicting the end of a text is
    not counted.
    """
    tokenizer = AutoTokenizer.from_pretrained(model_folder)
    model = AutoModelForCausalLM.from_pretrained(model_folder).eval()
    measured = {}
    for domain in domains:
        texts = read_texts(held_out / f"{domain}.jsonl")
        texts = texts[: max(1, round(share * len(texts)))]
        ids = [
            piece
            for text_ids in tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]
            for piece in torch.tensor(text_ids).split(context - 1)
        ]
        nats = sum(piece_nats(model, piece) for piece in ids)
        measured[domain] = nats / math.log(2) / sum(len(text.encode()) for text in texts)
    return measured


@torch.inference_mode()
def piece_nats(model: torch.nn.Module, ids: torch.Tensor) -> float:
    """The negative natural log-probability of token ids [length] behind the model's start token."""
    read = torch.cat([torch.tensor([model.config.bos_token_id]), ids[:-1]])
    return cross_entropy(model(read[None], use_cache=False).logits[0], ids, reduction="sum").item()
