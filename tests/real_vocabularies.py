"""Vocabularies of real tokenizers, as mistral_common ships them: no download, no checkpoint."""

import base64
import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import sentencepiece

from pta_ray.tokenizers.byte_table import ByteTable, Role


def _data(name: str) -> Path:
    specification = importlib.util.find_spec("mistral_common")
    if specification is None or specification.origin is None:
        pytest.skip("mistral_common, which comes with vLLM, is not installed")
    return Path(specification.origin).parent / "data" / name


def _table(tokens: list[bytes], eos_id: int) -> ByteTable:
    offsets_V1 = np.concatenate([[0], np.cumsum([len(token) for token in tokens])]).astype(np.int64)
    roles_V = np.array([Role.ORDINARY if token else Role.SPECIAL for token in tokens], np.uint8)
    roles_V[eos_id] = Role.EOS
    return ByteTable(np.frombuffer(b"".join(tokens), np.uint8), offsets_V1, roles_V)


def sentencepiece_processor() -> sentencepiece.SentencePieceProcessor:
    """The first Mistral tokenizer: 32,000 entries, SentencePiece with byte fallback, much like Llama 2's."""
    return sentencepiece.SentencePieceProcessor(model_file=str(_data("tokenizer.model.v1")))


def sentencepiece_table() -> ByteTable:
    """Its bytes and roles."""
    processor = sentencepiece_processor()
    tokens = []
    for i in range(processor.vocab_size()):
        piece = processor.id_to_piece(i)
        if processor.is_control(i) or processor.is_unknown(i):
            tokens.append(b"")
        elif processor.is_byte(i):
            tokens.append(bytes([int(piece[3:5], 16)]))
        else:
            tokens.append(piece.replace("\u2581", " ").encode())
    return _table(tokens, processor.eos_id())


def tekken_table() -> ByteTable:
    """Tekken: 131,072 entries of byte-level BPE, the first thousand of them special."""
    state = json.loads(_data("tekken_240911.json").read_text())
    size, num_special = state["config"]["default_vocab_size"], state["config"]["default_num_special_tokens"]
    ranks = state["vocab"][: size - num_special]
    return _table([b""] * num_special + [base64.b64decode(entry["token_bytes"]) for entry in ranks], eos_id=2)
