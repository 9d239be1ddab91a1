"""Engines of two workers train a step on a checkpoint and export; what is exported is loaded with transformers."""

from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from safetensors import safe_open
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

from pta_ray.config import Lora
from pta_ray.tokenizers.byte_tokenizer import ByteTokenizer
from pta_ray.training.engine import start_engine
from pta_ray.training.export import export, write_model
from pta_ray.training.lora import add_adapters
from pta_ray.training.state import read_weights
from tests.unit.training.processes import in_processes
from tests.unit.training.tiny_model import LanguageModel, batch, settings, tiny_llama, train_step

LORA = Lora(rank=3)


class Case(NamedTuple):
    """A training, and the checkpoint that it starts from."""

    zero_stage: int
    precision: str = "fp32"
    dtype: torch.dtype = torch.float32
    tied: bool = True
    lora: Lora | None = None


CASES = [
    Case(0),
    Case(2, tied=False),
    Case(3),
    Case(3, precision="bf16"),
    Case(2, dtype=torch.bfloat16),
    Case(3, precision="bf16", dtype=torch.bfloat16, tied=False),
    Case(0, lora=LORA, tied=False),
    Case(2, precision="bf16", lora=LORA, dtype=torch.bfloat16),
    Case(3, lora=LORA),
]


def trained_and_exported(folder: Path) -> list[tuple[torch.Tensor, dict[str, torch.Tensor]]]:
    """Of each case: the logits of the trained engine, and its float32 weights."""
    results = []
    for index, case in enumerate(CASES):
        checkpoint = folder / f"start-{index}"
        model = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32)
        if case.lora:
            add_adapters(model, case.lora)
        training = settings(zero_stage=case.zero_stage, precision=case.precision, lora=case.lora)
        engine = start_engine(LanguageModel(model), training, 1, use_cuda=False)
        train_step(engine, 1)
        export(engine, str(checkpoint), case.lora, False, folder / f"end-{index}")
        with torch.no_grad():
            logits = engine.module.model(batch(0)).logits
        results.append((logits, {name: weights.clone() for name, weights in read_weights(engine)}))
    return results


@pytest.fixture(scope="module")
def exported(
    tmp_path_factory: pytest.TempPathFactory, small_byte_level: ByteTokenizer
) -> tuple[Path, list[tuple[torch.Tensor, dict[str, torch.Tensor]]]]:
    """The folder of the checkpoints, and what `trained_and_exported` returns."""
    folder = tmp_path_factory.mktemp("exports")
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=small_byte_level.backend, eos_token="</s>")
    for index, case in enumerate(CASES):
        tiny_llama(tied=case.tied).to(case.dtype).save_pretrained(folder / f"start-{index}")
        tokenizer.save_pretrained(folder / f"start-{index}")
    return folder, in_processes(2, trained_and_exported, folder)[0]


Exported = tuple[Path, list[tuple[torch.Tensor, dict[str, torch.Tensor]]]]


def load(folder: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(folder, dtype="auto").eval()


def tensors_of(folder: Path) -> dict[str, torch.Tensor]:
    with safe_open(folder / "model.safetensors", "pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


@pytest.mark.parametrize("index", range(len(CASES)), ids=lambda index: str(CASES[index]))
def test_the_exported_model_says_what_the_engine_says(exported: Exported, index: int) -> None:
    folder, results = exported
    with torch.no_grad():
        found, start = load(folder / f"end-{index}")(batch(0)).logits, load(folder / f"start-{index}")(batch(0)).logits
    exact = CASES[index].precision == "fp32" and CASES[index].dtype == torch.float32
    difference = (found.float() - results[index][0].float()).abs().max()
    assert difference <= (1e-5 if exact else 0.03) < (found - start).abs().max()


@pytest.mark.parametrize("index", range(len(CASES)), ids=lambda index: str(CASES[index]))
def test_the_file_is_like_the_one_it_started_from(exported: Exported, index: int) -> None:
    folder, _ = exported
    start, end = tensors_of(folder / f"start-{index}"), tensors_of(folder / f"end-{index}")
    assert {name: (t.shape, t.dtype) for name, t in end.items()} == {
        name: (t.shape, t.dtype) for name, t in start.items()
    }
    assert ("lm_head.weight" in end) is not CASES[index].tied
    tokenizers = [AutoTokenizer.from_pretrained(folder / f"{name}-{index}") for name in ("start", "end")]
    assert tokenizers[0].get_vocab() == tokenizers[1].get_vocab()


@pytest.mark.parametrize("index", [i for i, case in enumerate(CASES) if not case.lora], ids=lambda i: str(CASES[i]))
def test_weights_are_rounded_from_float32_once(exported: Exported, index: int) -> None:
    folder, results = exported
    end = tensors_of(folder / f"end-{index}")
    for name, weights in results[index][1].items():
        assert torch.equal(end[name.removeprefix("model.")], weights.to(CASES[index].dtype))


def test_weights_of_another_model_are_refused(exported: Exported, tmp_path: Path) -> None:
    folder, results = exported
    weights = {**results[0][1], "model.other": torch.ones(1)}
    with pytest.raises(ValueError, match="other"):
        write_model(weights.items(), str(folder / "start-0"), None, False, tmp_path / "end")
