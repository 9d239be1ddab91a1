"""Reduces a tokenizer to bytes, read from its own description of itself."""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from tokenizers import Tokenizer
from transformers.convert_slow_tokenizer import bytes_to_unicode

from pta_ray.tokenizers.byte_table import ByteTable, Role

VISIBLE_SPACE = "\u2581"
"""SentencePiece's."""

_BYTE_OF_GLYPH = {glyph: byte for byte, glyph in bytes_to_unicode().items()}
_BYTE_TOKEN = re.compile(r"<0x([0-9A-F]{2})>")
_FAITHFUL_NORMALIZERS = {"Sequence", "Prepend", "Replace", "ByteLevel"}


class UnsupportedTokenizerError(Exception):
    """A tokenizer whose tokens cannot be reduced to bytes."""


def build_byte_table(tokenizer: Tokenizer, eos_id: int | None) -> ByteTable:
    """Reduces a tokenizer to bytes, in its own normal form where it normalises.

    Args:
        tokenizer: byte-level BPE (GPT-2's byte alphabet, also Tekken and tiktoken vocabularies), SentencePiece-like
            BPE or unigram (visible space, byte fallback), or WordPiece, whose words begin with the space it drops.
        eos_id: the token that ends a document.

    Raises:
        UnsupportedTokenizerError: the tokens of this kind of tokenizer do not stand for bytes.
    """
    state = json.loads(tokenizer.to_str())
    decode = _decoder_of(state)
    vocabulary: Mapping[str, int] = tokenizer.get_vocab(with_added_tokens=True)
    added = {i: token.content for i, token in tokenizer.get_added_tokens_decoder().items()}
    special_ids: set[int | None] = {i for i, token in tokenizer.get_added_tokens_decoder().items() if token.special}
    special_ids |= {vocabulary.get(state["model"].get("unk_token")), state["model"].get("unk_id"), eos_id}
    size = max(vocabulary.values()) + 1
    tokens = [b""] * size
    roles_V = np.full(size, Role.UNUSED, np.uint8)
    for glyphs, i in vocabulary.items():
        if i in special_ids:
            roles_V[i] = Role.SPECIAL
        else:
            roles_V[i] = Role.ORDINARY
            tokens[i] = added[i].encode() if i in added else decode(glyphs)
    if eos_id is not None:
        roles_V[eos_id] = Role.EOS
    offsets_V1 = np.concatenate([[0], np.cumsum([len(token) for token in tokens])]).astype(np.int64)
    return ByteTable(np.frombuffer(b"".join(tokens), np.uint8), offsets_V1, roles_V)


def changes_text(tokenizer: Tokenizer) -> bool:
    """Whether a tokenizer, by its own description, normalises or drops some of the text that it is given."""
    state = json.loads(tokenizer.to_str())
    steps = [*_components(state.get("normalizer")), *_components(state.get("pre_tokenizer"))]
    return (
        state["model"]["type"] == "WordPiece"
        or any(
            step.get("behavior") == "Removed"
            or (step["type"] == "Replace" and (step["pattern"], step["content"]) != ({"String": " "}, VISIBLE_SPACE))
            for step in steps
        )
        or not {step["type"] for step in _components(state.get("normalizer"))} <= _FAITHFUL_NORMALIZERS
    )


def _decoder_of(state: dict[str, Any]) -> Callable[[str], bytes]:
    """How this kind of tokenizer writes bytes."""
    model = state["model"]
    surroundings = [state.get(part) for part in ("normalizer", "pre_tokenizer", "decoder")]
    kinds = {step["type"] for step in _components(surroundings)}
    if not model.get("end_of_word_suffix"):
        if "ByteLevel" in kinds:
            return _from_byte_glyphs
        if VISIBLE_SPACE in json.dumps(surroundings, ensure_ascii=False):
            return _from_sentencepiece
    if model["type"] == "WordPiece":
        return _from_wordpiece(model["continuing_subword_prefix"])
    raise UnsupportedTokenizerError(
        f"its tokens do not stand for bytes ({model['type']}, with {', '.join(sorted(kinds)) or 'nothing'}); "
        "byte-level BPE, SentencePiece and WordPiece are supported"
    )


def _components(component: Any) -> list[dict[str, Any]]:
    """A tokenizer component and all that are nested in it."""
    if isinstance(component, dict):
        own = [component] if isinstance(component.get("type"), str) else []
        return own + _components(list(component.values()))
    if isinstance(component, list):
        return [step for part in component for step in _components(part)]
    return []


def _from_byte_glyphs(glyphs: str) -> bytes:
    if all(glyph in _BYTE_OF_GLYPH for glyph in glyphs):
        return bytes(_BYTE_OF_GLYPH[glyph] for glyph in glyphs)
    return glyphs.encode()


def _from_sentencepiece(piece: str) -> bytes:
    byte = _BYTE_TOKEN.fullmatch(piece)
    return bytes([int(byte[1], 16)]) if byte else piece.replace(VISIBLE_SPACE, " ").encode()


def _from_wordpiece(prefix: str) -> Callable[[str], bytes]:
    def decode(piece: str) -> bytes:
        return piece.removeprefix(prefix).encode() if piece.startswith(prefix) else f" {piece}".encode()

    return decode
