"""Validation against what evaluation counts, on real models and in real process groups."""

import json
import math
from collections import Counter
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel

from pta_ray.config import Data
from pta_ray.text.reading import ReadPlan, plan_reads
from pta_ray.tokenizers.byte_tokenizer import ByteTokenizer
from pta_ray.training.validation import Best, Forward, HeldOut, read_held_out, validate
from tests.oracles.held_out import evaluated
from tests.unit.training.processes import in_processes

MAX_TOKENS = 48
BATCH = 3


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> ReadPlan:
    """Three domains of held-out text, one of characters that not all tokenizers know."""
    folder = tmp_path_factory.mktemp("text")
    long = "Größe und Länge of a tokenization: 1234567890.\n" * 9
    texts = {"long": [long, long[7:], ""], "short": [f"document {i}" for i in range(12)], "control": ["\x01\x02"]}
    for name, documents in texts.items():
        lines = [json.dumps({"text": text}) for text in documents]
        (folder / f"{name}.jsonl").write_text("\n".join([*lines, "no JSON"] if name == "long" else lines))
    paths = [str(folder / f"{name}.jsonl") for name in texts]
    return plan_reads(Data(train=paths[:1], held_out=paths, window_tokens=MAX_TOKENS))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A model of random weights, with dropout, and with a head that is wider than the vocabularies."""
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=1000, n_positions=64, n_embd=32, n_layer=2, n_head=2, resid_pdrop=0.5)
    path = str(tmp_path_factory.mktemp("model"))
    GPT2LMHeadModel(config).save_pretrained(path)
    return path


def clm_of(model: torch.nn.Module) -> Forward:
    def forward(ids_BL: torch.Tensor, weight_N: torch.Tensor) -> torch.Tensor:
        logits_NV = model(ids_BL).logits[:, :-1].flatten(0, 1)
        return cross_entropy(logits_NV, ids_BL[:, 1:].flatten(), reduction="none") * weight_N

    return forward


def validated(plan: ReadPlan, tokenizer: ByteTokenizer, checkpoint: str) -> tuple[dict[str, float], int]:
    """Runs in a worker; returns the figures and the number of forward passes."""
    model = AutoModelForCausalLM.from_pretrained(checkpoint).train()
    forward, shapes = clm_of(model), []

    def counted(ids_BL: torch.Tensor, weight_N: torch.Tensor) -> torch.Tensor:
        assert not model.training and not torch.is_grad_enabled()
        assert ids_BL.dtype == torch.int64 and weight_N.shape == (ids_BL[:, 1:].numel(),)
        shapes.append(ids_BL.shape)
        return forward(ids_BL, weight_N)

    held_out = read_held_out(plan, tokenizer, MAX_TOKENS, dist.get_rank(), dist.get_world_size())
    found = validate(model, counted, held_out, BATCH, torch.device("cpu"))
    assert model.training and torch.is_grad_enabled()
    return found, len(shapes)


@pytest.mark.parametrize("kind", ["byte_level", "sentencepiece", "word_piece"])
def test_it_finds_what_evaluation_counts(
    plan: ReadPlan, all_tokenizers: dict[str, ByteTokenizer], checkpoint: str, kind: str, tmp_path: Path
) -> None:
    expected = evaluated(plan, all_tokenizers[kind], checkpoint, MAX_TOKENS)
    dist.init_process_group("gloo", init_method=(tmp_path / "store").as_uri(), rank=0, world_size=1)
    found, _ = validated(plan, all_tokenizers[kind], checkpoint)
    dist.destroy_process_group()
    if kind == "word_piece":
        assert expected.pop("control") == 0, "of no bytes at all there is nothing to tell"
    assert found == pytest.approx(expected, rel=1e-6)


def test_all_workers_find_the_same_in_equally_many_passes(
    plan: ReadPlan, byte_level: ByteTokenizer, checkpoint: str, tmp_path: Path
) -> None:
    (tmp_path / "one.txt").write_text("one short document")
    one = plan_reads(Data(train=[str(tmp_path)], held_out=[str(tmp_path / "one.txt")]))
    by_worker = in_processes(2, validated_all, [plan, one], byte_level, checkpoint)
    for of_plan, *found in zip([plan, one], *by_worker, strict=True):
        expected = evaluated(of_plan, byte_level, checkpoint, MAX_TOKENS)
        num_windows = len(read_held_out(of_plan, byte_level, MAX_TOKENS, 0, 1).windows)
        for figures, num_passes in found:
            assert figures == pytest.approx(expected, rel=1e-6)
            assert num_passes == math.ceil(num_windows / (2 * BATCH)), "two workers"


def validated_all(
    plans: list[ReadPlan], tokenizer: ByteTokenizer, checkpoint: str
) -> list[tuple[dict[str, float], int]]:
    return [validated(plan, tokenizer, checkpoint) for plan in plans]


def windows_of(held_out: HeldOut) -> Counter[tuple[str, bytes]]:
    return Counter((held_out.domains[w.domain], w.ids_L.tobytes()) for w in held_out.windows)


@pytest.mark.parametrize("world_size", [1, 2, 3, 40])
def test_workers_share_the_windows_out(plan: ReadPlan, byte_level: ByteTokenizer, world_size: int) -> None:
    shares = [read_held_out(plan, byte_level, MAX_TOKENS, rank, world_size) for rank in range(world_size)]
    whole = read_held_out(plan, byte_level, MAX_TOKENS, 0, 1)
    assert sum((windows_of(share) for share in shares), Counter()) == windows_of(whole)
    assert {share.most_windows for share in shares} == {max(len(share.windows) for share in shares)}
    for share in shares:
        lengths = [len(window.ids_L) for window in share.windows]
        assert lengths == sorted(lengths, reverse=True)


def test_the_bytes_are_those_of_the_text(plan: ReadPlan, byte_level: ByteTokenizer) -> None:
    held_out = read_held_out(plan, byte_level, MAX_TOKENS, 0, 1)
    sizes = dict.fromkeys(held_out.domains, 0)
    for window in held_out.windows:
        sizes[held_out.domains[window.domain]] += window.num_bytes
    long = len(("Größe und Länge of a tokenization: 1234567890.\n" * 9).encode())
    assert sizes == {"control": 2, "long": 2 * long - len("Größe u".encode()), "short": 10 * 10 + 2 * 11}


@given(st.lists(st.floats(allow_nan=True), max_size=12), st.integers(1, 4))
def test_the_best_validation_is_the_first_of_the_lowest(values: list[float], patience: int) -> None:
    best, finite = Best(), [v for v in values if math.isfinite(v)]
    for step, value in enumerate(values, start=1):
        was = best.bits_per_byte
        improved = best.update(step, value)
        assert improved == (math.isfinite(value) and (was is None or value < was))
        best = Best(**json.loads(json.dumps(asdict(best), allow_nan=False)))  # as through a checkpoint
        assert best.should_stop(patience) == (step - best.step >= patience)
        assert not best.should_stop(None)
    assert best.bits_per_byte == (min(finite) if finite else None)
    assert best.step == (1 + values.index(min(finite)) if finite else 0)
