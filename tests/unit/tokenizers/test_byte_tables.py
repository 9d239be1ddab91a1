import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sentencepiece import SentencePieceProcessor
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from pta_ray.tokenizers.byte_table import Role
from pta_ray.tokenizers.byte_tokenizer import ByteTokenizer
from pta_ray.tokenizers.loading import UnsupportedTokenizerError, load_tokenizer
from tests.conftest import train_unigram

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


@pytest.mark.parametrize("kind", ["byte_level", "small_byte_level", "sentencepiece", "unigram"])
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(min_size=1, max_size=60))
def test_tokens_spell_the_text_at_every_boundary(
    all_tokenizers: dict[str, ByteTokenizer], kind: str, text: str
) -> None:
    exact = kind not in ("sentencepiece", "unigram") or not has_visible_space(text)
    check_spelling(all_tokenizers[kind], text, exact)


@pytest.mark.parametrize("kind", ["byte_level", "small_byte_level", "sentencepiece", "unigram"])
@pytest.mark.parametrize("text", HARD_TEXTS)
def test_hard_texts(all_tokenizers: dict[str, ByteTokenizer], kind: str, text: str) -> None:
    exact = kind not in ("sentencepiece", "unigram") or not has_visible_space(text)
    check_spelling(all_tokenizers[kind], text, exact)


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


@pytest.mark.parametrize("kind", ["lowercase", "word_piece"])
def test_a_tokenizer_that_changes_text_is_not_exact(all_tokenizers: dict[str, ByteTokenizer], kind: str) -> None:
    tokenizer = all_tokenizers[kind]
    assert not tokenizer.exact
    [ids] = tokenizer.encode(["The Text"])
    assert tokenizer.table.joined(ids).lstrip() == b"the text"
    assert tokenizer.boundaries(tokenizer.sequence(ids, True, 99), b"The Text") is None


@pytest.mark.parametrize("kind", ["byte_level", "small_byte_level", "sentencepiece", "unigram"])
def test_a_tokenizer_that_keeps_text_is_exact(all_tokenizers: dict[str, ByteTokenizer], kind: str) -> None:
    assert all_tokenizers[kind].exact


def test_rare_normalisation_is_not_taken_for_exact(tmp_path: Path, byte_level: ByteTokenizer) -> None:
    backend = Tokenizer.from_str(byte_level.backend.to_str())
    backend.normalizer = normalizers.Replace("colour", "color")
    PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|end|>").save_pretrained(tmp_path)
    assert not load_tokenizer(str(tmp_path), trust_remote_code=False).exact


def test_a_sentencepiece_model_alone_keeps_its_white_space_rules(tmp_path: Path) -> None:
    tokenizer = load_tokenizer(str(train_unigram(tmp_path, "nmt_nfkc")), trust_remote_code=False)
    own = SentencePieceProcessor(model_file=str(tmp_path / "tokenizer.model"))
    assert not tokenizer.exact
    for text in ("the  words of a \u00a0 text ", "ﬁrst x² ½"):
        assert tokenizer.encode([text])[0].tolist() == own.encode(text)


def test_names_of_special_and_byte_pieces_are_text_to_unigram(unigram: ByteTokenizer, tmp_path: Path) -> None:
    own = SentencePieceProcessor(model_file=str(train_unigram(tmp_path, "identity") / "tokenizer.model"))
    for text in ("<s></s>", "a <unk> <<s>", "<0x0A>", "x<0x0A", "the <text>"):
        [ids], [copied] = unigram.encode([text]), pickle.loads(pickle.dumps(unigram)).encode([text])
        assert ids.tolist() == copied.tolist() == own.encode(text)


def test_a_byte_level_vocabulary_that_lacks_a_byte_is_not_exact(tmp_path: Path, byte_level: ByteTokenizer) -> None:
    state = json.loads(byte_level.backend.to_str())
    glyph = byte_level.backend.id_to_token(int(byte_level.encode(["\x16"])[0][0]))
    vocabulary = state["model"]["vocab"]
    vocabulary["other"] = vocabulary.pop(glyph)
    backend = Tokenizer.from_str(json.dumps(state))
    PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|end|>").save_pretrained(tmp_path)
    tokenizer = load_tokenizer(str(tmp_path), trust_remote_code=False)
    assert not tokenizer.exact
    for text, spelt in (("a b", True), ("a\x16b", False)):
        [ids] = tokenizer.encode([text])
        assert (tokenizer.boundaries(tokenizer.sequence(ids, True, 99), text.encode()) is not None) == spelt


def test_spaces_cut_off_before_a_word_have_no_boundaries(sentencepiece: ByteTokenizer) -> None:
    """A tokenizer that may add a space: whether the first is its own or the text's cannot be told."""
    space = sentencepiece.backend.token_to_id("\u2581")
    cut = np.array([sentencepiece.start_id, space], np.int32)
    assert sentencepiece.adds_space and sentencepiece.boundaries(cut, b"   a") is None
    whole = np.array([sentencepiece.start_id, space, sentencepiece.table.eos_id], np.int32)
    assert sentencepiece.boundaries(whole, b" ").tolist() == [0, 1, 2]  # type: ignore[union-attr]


def test_eos_amid_a_text_has_no_boundaries(byte_level: ByteTokenizer) -> None:
    [ids] = byte_level.encode(["some"])
    assert byte_level.boundaries(byte_level.sequence(ids, True, 99), b"some words") is None


def test_a_tokenizer_without_a_start_is_refused(tmp_path: Path, byte_level: ByteTokenizer) -> None:
    PreTrainedTokenizerFast(tokenizer_object=byte_level.backend).save_pretrained(tmp_path)
    with pytest.raises(UnsupportedTokenizerError, match="neither a BOS nor an EOS"):
        load_tokenizer(str(tmp_path), trust_remote_code=False)


@pytest.mark.parametrize(
    "model",
    [
        models.WordLevel({"[UNK]": 0, "a": 1}, unk_token="[UNK]"),
        models.BPE({"a</w>": 0, "[UNK]": 1}, [], end_of_word_suffix="</w>"),
    ],
)
def test_a_tokenizer_without_bytes_is_refused(tmp_path: Path, model: models.Model) -> None:
    backend = Tokenizer(model)
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="[UNK]").save_pretrained(tmp_path)
    with pytest.raises(UnsupportedTokenizerError, match="do not stand for bytes"):
        load_tokenizer(str(tmp_path), trust_remote_code=False)
