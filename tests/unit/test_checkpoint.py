import json
from pathlib import Path

import pytest
from transformers import GPT2Config, LlamaConfig, PreTrainedTokenizerFast

from pta_ray.checkpoint import check_vocabulary, has_configuration
from pta_ray.config import ServedModel
from pta_ray.errors import JobError
from pta_ray.tokenizers.byte_tokenizer import ByteTokenizer
from pta_ray.tokenizers.loading import load_tokenizer


def checkpoint(folder: Path, vocab_size: int) -> str:
    LlamaConfig(vocab_size=vocab_size).save_pretrained(folder)
    return str(folder)


@pytest.mark.parametrize("padding", [0, 1, 64])
def test_a_model_as_wide_as_its_tokenizer_or_wider_passes(
    byte_level: ByteTokenizer, padding: int, tmp_path: Path
) -> None:
    size = byte_level.table.size
    check_vocabulary("target.model", checkpoint(tmp_path, size + padding), size, False)


def test_a_narrower_model_is_refused_with_both_numbers(byte_level: ByteTokenizer, tmp_path: Path) -> None:
    size = byte_level.table.size
    with pytest.raises(JobError) as caught:
        check_vocabulary("sources.1.model", checkpoint(tmp_path, size - 1), size, False)
    message = str(caught.value)
    assert "sources.1.model" in message and f"up to {size - 1}," in message and f"up to {size - 2};" in message
    assert "resize" in message and "tokenizer that belongs" in message


@pytest.mark.parametrize("special", [True, False])
def test_tokens_added_later_count(byte_level: ByteTokenizer, special: bool, tmp_path: Path) -> None:
    model = checkpoint(tmp_path, byte_level.table.size)
    extended = PreTrainedTokenizerFast(tokenizer_object=byte_level.backend, eos_token="<|end|>")
    extended.add_tokens(["<|image|>", "<|audio|>"], special_tokens=special)
    extended.save_pretrained(tmp_path)
    size = load_tokenizer(str(tmp_path), trust_remote_code=False).table.size
    with pytest.raises(JobError, match=f"up to {byte_level.table.size + 1},"):
        check_vocabulary("target.model", model, size, False)


def test_the_size_is_that_of_the_model_that_reads_text(tmp_path: Path) -> None:
    text = GPT2Config(vocab_size=500).to_dict()
    config = {"model_type": "llava", "text_config": text, "vision_config": {"model_type": "clip_vision_model"}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    check_vocabulary("target.model", str(tmp_path), 500, False)
    with pytest.raises(JobError):
        check_vocabulary("target.model", str(tmp_path), 501, False)


def test_only_a_simulated_model_may_lack_a_configuration(tmp_path: Path) -> None:
    real, simulated = (ServedModel(model="any", engine=engine) for engine in ("vllm", "simulated"))  # type: ignore[arg-type]
    assert has_configuration(real, str(tmp_path)) and not has_configuration(simulated, str(tmp_path))
    checkpoint(tmp_path, 100)
    assert has_configuration(simulated, str(tmp_path))
