import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from pta_ray.tokenizers.byte_table import Role
from pta_ray.tokenizers.byte_tokenizer import ByteTokenizer
from pta_ray.tokenizers.loading import UnsupportedTokenizerError, load_tokenizer

HARD_TEXTS = [
    "\0\0",
    "  two  spaces ",
    "👍🏽👨‍👩‍👧",
    "e\u0301 é",
    "\r\n\t",
    "<|end|> <s></s>",
    "ﷺ हिन्दी العربية",
    "\u2581 ▁▁",
    "a" * 5000,
]


@pytest.mark.parametrize("kind", ["byte_level", "small_byte_level", "sentencepiece"])
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(min_size=1, max_size=60))
def test_tokens_spell_the_text_at_every_boundary(tokenizers: dict[str, ByteTokenizer], kind: str, text: str) -> None:
    check_spelling(tokenizers[kind], text, exact=kind != "sentencepiece" or not has_visible_space(text))


@pytest.mark.parametrize("kind", ["byte_level", "small_byte_level", "sentencepiece"])
@pytest.mark.parametrize("text", HARD_TEXTS)
def test_hard_texts(tokenizers: dict[str, ByteTokenizer], kind: str, text: str) -> None:
    check_spelling(tokenizers[kind], text, exact=kind != "sentencepiece" or not has_visible_space(text))


def has_visible_space(text: str) -> bool:
    """SentencePiece cannot tell its visible space from a real one."""
    return "\u2581" in text


def check_spelling(tokenizer: ByteTokenizer, text: str, exact: bool) -> None:
    data = text.encode()
    [ids] = tokenizer.encode([text])
    sequence = tokenizer.sequence(ids, True, len(ids) + 2)
    ends = tokenizer.boundaries(sequence, data)
    if not exact:
        assert ends is None
        return
    assert ends is not None
    assert ends[-1] == len(data) + 1
    padded = b" " + data
    for begin, end, token in zip(ends[:-2], ends[1:-1], ids, strict=True):
        assert padded[begin + 1 : end + 1] == tokenizer.table.token(int(token))


def test_special_tokens_stand_for_no_bytes(byte_level: ByteTokenizer, sentencepiece: ByteTokenizer) -> None:
    assert byte_level.start_id == byte_level.table.eos_id == 0
    assert sentencepiece.table.roles_V[:3].tolist() == [Role.SPECIAL, Role.SPECIAL, Role.EOS]
    assert sentencepiece.table.token(sentencepiece.table.eos_id) == b""


def test_byte_fallback_tokens_are_single_bytes(sentencepiece: ByteTokenizer) -> None:
    first = sentencepiece.backend.token_to_id("<0x00>")
    assert [sentencepiece.table.token(first + byte) for byte in range(256)] == [bytes([byte]) for byte in range(256)]


def test_a_truncated_sequence_ends_inside_the_text(byte_level: ByteTokenizer) -> None:
    text = "def add(first, second): pass"
    [ids] = byte_level.encode([text])
    ends = byte_level.boundaries(byte_level.sequence(ids, True, 4), text.encode())
    assert ends is not None and len(ends) == 4 and ends[-1] < len(text)


def test_a_sequence_of_other_bytes_has_no_boundaries(byte_level: ByteTokenizer) -> None:
    [ids] = byte_level.encode(["something else"])
    assert byte_level.boundaries(byte_level.sequence(ids, False, 99), b"the text") is None


def test_sorted_ids_are_in_the_order_of_their_bytes(tokenizers: dict[str, ByteTokenizer]) -> None:
    for tokenizer in tokenizers.values():
        tokens = [tokenizer.table.token(i) for i in tokenizer.table.sorted_ids_O]
        assert tokens == sorted(tokens)
        assert len(tokens) == int(np.sum((tokenizer.table.roles_V == Role.ORDINARY) & (tokenizer.table.lengths_V > 0)))


def test_a_tokenizer_that_changes_text_is_refused(tmp_path, byte_level: ByteTokenizer) -> None:  # noqa: ANN001
    backend = Tokenizer.from_str(byte_level.backend.to_str())
    backend.normalizer = normalizers.Lowercase()
    PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|end|>").save_pretrained(tmp_path)
    with pytest.raises(UnsupportedTokenizerError, match="changes text"):
        load_tokenizer(str(tmp_path), trust_remote_code=False)


def test_a_tokenizer_without_bytes_is_refused(tmp_path) -> None:  # noqa: ANN001
    backend = Tokenizer(models.WordPiece({"[UNK]": 0, "a": 1, "##b": 2}, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="[UNK]").save_pretrained(tmp_path)
    with pytest.raises(UnsupportedTokenizerError, match="do not stand for bytes"):
        load_tokenizer(str(tmp_path), trust_remote_code=False)
