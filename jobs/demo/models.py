"""The demo's three small models: what each is, and how it is trained from nothing in a minute or two on a CPU."""

import itertools
import json
import math
import random
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import torch
from torch.nn.functional import cross_entropy
from transformers import (
    AutoModelForCausalLM,
    GPTNeoXConfig,
    LlamaConfig,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen3Config,
)
from transformers.utils.logging import disable_progress_bar

from jobs.demo.corpus import read_texts
from jobs.demo.files import MEASURED, atomic_folder
from jobs.demo.measure import bits_per_byte
from jobs.demo.muon import Muon
from jobs.demo.vocabularies import LINE_WORDS, Vocabulary, train_tokenizer

CONTEXT = 512
"""Tokens the models are trained on at once, the start token among them."""

TOKENIZER_TEXT_CHARACTERS = 1_000_000
CHARACTERS_PER_TOKEN = 5
"""More than any of the tokenizers gets into a token on average."""

REPORT_SECONDS = 10


@dataclass(frozen=True)
class Recipe:
    """How one model is made from nothing. `data` are the corpus files it reads, `<set>/<domain>`."""

    architecture: Literal["llama", "gpt_neox", "qwen3"]
    vocabulary: Vocabulary
    data: tuple[str, ...]
    steps: int
    batch: int = 2
    matrix_rate: float = 5e-3
    embedding_rate: float = 2e-2
    hidden: int = 192
    layers: int = 3
    heads: int = 3


RECIPES = {
    "python": Recipe("llama", Vocabulary("byte-level", 4096), ("train/python",), steps=250),
    "translations": Recipe("gpt_neox", Vocabulary("metaspace", 4096), ("train/translations",), steps=210),
    "target": Recipe(
        "qwen3",
        Vocabulary("byte-level", 4000, LINE_WORDS),
        ("target/english", "target/python", "target/translations"),
        steps=200,
    ),
}


def model_config(recipe: Recipe, tokenizer: PreTrainedTokenizerFast) -> PreTrainedConfig:
    """The configuration of an untrained model for a tokenizer."""
    common = {
        "vocab_size": len(tokenizer),
        "hidden_size": recipe.hidden,
        "num_hidden_layers": recipe.layers,
        "num_attention_heads": recipe.heads,
        "max_position_embeddings": 1024,
        "tie_word_embeddings": True,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "dtype": "float32",
    }
    if recipe.architecture == "gpt_neox":
        return GPTNeoXConfig(intermediate_size=4 * recipe.hidden, **common)
    gated = {"intermediate_size": 8 * recipe.hidden // 3, "num_key_value_heads": recipe.heads, "head_dim": 64}
    return LlamaConfig(**common, **gated) if recipe.architecture == "llama" else Qwen3Config(**common, **gated)


def token_stream(tokenizer: PreTrainedTokenizerFast, texts: list[str]) -> torch.Tensor:
    """All texts in one row of token ids, the end token after each and, where it is another one, the start token before.

    Returns int64 [number of tokens].
    """
    start = [] if tokenizer.bos_token_id == tokenizer.eos_token_id else [tokenizer.bos_token_id]
    encoded = tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]
    return torch.tensor([token for ids in encoded for token in (*start, *ids, tokenizer.eos_token_id)])


def batches(stream: torch.Tensor, start_token: int, batch: int, generator: torch.Generator) -> Iterator[torch.Tensor]:
    """Endless batches [batch, CONTEXT] of pieces of the stream, each behind a start token.

    An epoch reads every piece once, in random order; the cuts lie elsewhere in the next one.
    """
    length = CONTEXT - 1
    while True:
        offset = int(torch.randint(min(length, len(stream) - batch * length), (), generator=generator))
        pieces = stream[offset : offset + (len(stream) - offset) // length * length].view(-1, length)
        for chosen in torch.randperm(len(pieces), generator=generator).split(batch):
            if len(chosen) == batch:
                yield torch.cat([torch.full((batch, 1), start_token), pieces[chosen]], dim=1)


def learning_rate_factor(step: int, steps: int) -> float:
    """Linear warm-up over the first tenth of the steps, then a cosine down to 2%."""
    warm_up = max(1, steps // 10)
    if step < warm_up:
        return (step + 1) / warm_up
    return 0.02 + 0.49 * (1 + math.cos(math.pi * (step - warm_up) / max(1, steps - warm_up)))


def make_optimizers(model: PreTrainedModel, recipe: Recipe) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside the layers, AdamW for embeddings, norms and biases.

    In the few hundred steps there is time for, that gets much further than AdamW alone.
    """
    embeddings = model.get_input_embeddings().weight
    inner, outer = [], []
    for parameter in model.parameters():
        (inner if parameter.ndim > 1 and parameter is not embeddings else outer).append(parameter)
    return [
        Muon(inner, recipe.matrix_rate),
        torch.optim.AdamW(outer, recipe.embedding_rate, betas=(0.9, 0.95), weight_decay=0.0, fused=True),
    ]


def train(name: str, model: PreTrainedModel, stream: torch.Tensor, recipe: Recipe, steps: int) -> None:
    """Trains a model in place on next-token prediction, and prints its loss every ten seconds."""
    optimizers = make_optimizers(model, recipe)
    factor = partial(learning_rate_factor, steps=steps)
    schedules = [torch.optim.lr_scheduler.LambdaLR(optimizer, factor) for optimizer in optimizers]
    source = batches(stream, model.config.bos_token_id, recipe.batch, torch.Generator().manual_seed(0))
    reported = time.monotonic()
    for step in range(1, steps + 1):
        ids = next(source)
        logits = model(ids[:, :-1], use_cache=False).logits
        loss = cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer, schedule in zip(optimizers, schedules, strict=True):
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
        if time.monotonic() - reported >= REPORT_SECONDS or step == steps:
            reported = time.monotonic()
            print(f"{name}: step {step} of {steps}, loss {loss.item():.2f} nats per token", flush=True)


def shrink_residual_branches(model: PreTrainedModel) -> None:
    """Scales the last matrix of every residual branch by 1 / sqrt(branches), as GPT-2 did."""
    branches = 2 * model.config.num_hidden_layers
    for name, parameter in model.named_parameters():
        if name.endswith(("o_proj.weight", "down_proj.weight", "dense.weight", "dense_4h_to_h.weight")):
            parameter.data.mul_(branches**-0.5)


def make_model(name: str, recipe: Recipe, domains: Iterable[str], data: Path, output: Path, scale: float = 1.0) -> None:
    """Trains the tokenizer and the model called `name`, and saves both and what they achieve as one folder.

    `scale` multiplies the training steps and, below 1, the share of the held-out text that is measured.
    """
    torch.set_num_threads(1)
    torch.manual_seed(0)
    disable_progress_bar()
    steps = max(2, round(recipe.steps * scale))
    texts = [text for file in recipe.data for text in read_texts(data / f"{file}.jsonl")]
    random.Random(0).shuffle(texts)
    tokenizer = train_tokenizer(recipe.vocabulary, first_texts(texts, TOKENIZER_TEXT_CHARACTERS))
    read = first_texts(texts, steps * recipe.batch * CONTEXT * CHARACTERS_PER_TOKEN)
    model = AutoModelForCausalLM.from_config(model_config(recipe, tokenizer), dtype=torch.float32)
    shrink_residual_branches(model)
    train(name, model, token_stream(tokenizer, read), recipe, steps)
    with atomic_folder(output / name) as folder:
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        measured = bits_per_byte(folder, data / "held_out", domains, CONTEXT, min(1.0, scale))
        (folder / MEASURED).write_text(json.dumps(measured, indent=2) + "\n")


def first_texts(texts: list[str], max_characters: int) -> list[str]:
    """The first texts, up to a total length."""
    lengths = itertools.accumulate(map(len, texts), initial=0)
    return [text for text, before in zip(texts, lengths, strict=False) if before < max_characters]
