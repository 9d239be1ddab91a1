"""Loads the tokenizer of a checkpoint and reduces it to bytes, or refuses it."""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from tokenizers import Tokenizer
from transformers import AutoTokenizer
from transformers.convert_slow_tokenizer import bytes_to_unicode

from pta_ray.tokenizers.byte_table import ByteTable, Role
from pta_ray.tokenizers.byte_tokenizer import ByteTokenizer

_BYTE_OF_GLYPH = {glyph: byte for byte, glyph in bytes_to_unicode().items()}
_BYTE_TOKEN = re.compile(r"<0x([0-9A-F]{2})>")
_SPACE = "\u2581"  # SentencePiece's visible space
_PROBES = ("Hello, World!", "x  =\t1\n\n    y")  # what lowercasing and whitespace clean-up would touch


class UnsupportedTokenizerError(Exception):
    """A tokenizer whose tokens cannot be reduced to bytes."""


def load_tokenizer(path: str, trust_remote_code: bool) -> ByteTokenizer:
    """Loads the tokenizer of a checkpoint.

    Raises:
        UnsupportedTokenizerError: it cannot be reduced to bytes, changes plain text, or knows no start of a text.
    """
    loaded = AutoTokenizer.from_pretrained(path, trust_remote_code=trust_remote_code)
    backend = getattr(loaded, "backend_tokenizer", None)
    if not isinstance(backend, Tokenizer):
        raise UnsupportedTokenizerError(f"{type(loaded).__name__} has no fast (tokenizers) implementation")
    backend.no_padding()
    backend.no_truncation()
    backend.encode_special_tokens = True
    start_id = loaded.bos_token_id if loaded.bos_token_id is not None else loaded.eos_token_id
    if start_id is None:
        raise UnsupportedTokenizerError("it defines neither a BOS nor an EOS token to begin a text with")
    table = build_byte_table(backend, loaded.eos_token_id)
    tokenizer = ByteTokenizer(backend, table, start_id)
    for probe, ids in zip(_PROBES, tokenizer.encode(_PROBES), strict=True):
        if tokenizer.boundaries(tokenizer.sequence(ids, False, len(ids) + 1), probe.encode()) is None:
            raise UnsupportedTokenizerError(f"it changes text: {probe!r} became {table.joined(ids)!r}")
    return tokenizer


def build_byte_table(tokenizer: Tokenizer, eos_id: int | None) -> ByteTable:
    """Reduces a tokenizer to bytes.

    Args:
        tokenizer: byte-level BPE (GPT-2's byte alphabet) or SentencePiece-like (visible space, byte fallback).
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


def _decoder_of(state: dict[str, Any]) -> Callable[[str], bytes]:
    """How this kind of tokenizer writes bytes, read from its own description of its decoder."""
    kinds = _component_kinds(state.get("decoder")) | _component_kinds(state.get("pre_tokenizer"))
    if "ByteLevel" in kinds:
        return _from_byte_glyphs
    if kinds & {"Metaspace", "ByteFallback"}:
        return _from_sentencepiece
    model = state["model"]["type"]
    raise UnsupportedTokenizerError(
        f"its tokens do not stand for bytes ({model}, decoder {', '.join(sorted(kinds)) or 'none'}); "
        "byte-level BPE and SentencePiece with byte fallback are supported"
    )


def _component_kinds(component: Any) -> set[str]:
    """The types of a tokenizer component and of everything nested in it."""
    if isinstance(component, dict):
        kinds = {component["type"]} if isinstance(component.get("type"), str) else set()
        return kinds.union(*map(_component_kinds, component.values()))
    if isinstance(component, list):
        return set().union(*map(_component_kinds, component))
    return set()


def _from_byte_glyphs(glyphs: str) -> bytes:
    if all(glyph in _BYTE_OF_GLYPH for glyph in glyphs):
        return bytes(_BYTE_OF_GLYPH[glyph] for glyph in glyphs)
    return glyphs.encode()


def _from_sentencepiece(piece: str) -> bytes:
    byte = _BYTE_TOKEN.fullmatch(piece)
    return bytes([int(byte[1], 16)]) if byte else piece.replace(_SPACE, " ").encode()
