"""Loads the tokenizer of a checkpoint and reduces it to bytes, or refuses it."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast
from transformers.convert_slow_tokenizer import SentencePieceExtractor

from pta_ray.tokenizers.byte_table import ByteTable, Role
from pta_ray.tokenizers.byte_tokenizer import ByteTokenizer
from pta_ray.tokenizers.reduction import VISIBLE_SPACE, UnsupportedTokenizerError, build_byte_table, changes_text

__all__ = ["UnsupportedTokenizerError", "load_tokenizer"]

_PROBES = (
    "Hello, World!",
    "x  =\t1\r\n\n    y ",
    "1234567890  \u00a0\u3000 \x00\x7f",
    "Größe e\u0301 ﬁ ² Å",
    "日本語 हिन्दी العربية 👍🏽",
)
"""What lowercasing, white space clean-up, Unicode normalisation and unknown characters would touch."""
_UTF8_BYTES = [byte for byte in range(0xF5) if byte not in (0xC0, 0xC1)]
"""Those that valid UTF-8 is made of."""


def load_tokenizer(path: str, trust_remote_code: bool) -> ByteTokenizer:
    """Loads the tokenizer of a checkpoint, from tokenizer.json, a lone tokenizer.model or a lone tekken.json.

    One that changes text (lowercasing, normalisation, dropped white space, unknown tokens) is loaded as not exact.

    Raises:
        UnsupportedTokenizerError: its tokens do not stand for bytes, it has no fast implementation, or it knows no
            start of a text.
    """
    loaded = _load(Path(path), trust_remote_code)
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
    _take_special_pieces_for_text(backend, table)
    first = backend.encode("a", add_special_tokens=False).ids[:1]
    adds_space = any(table.token(i).startswith(b" ") for i in first)
    faithful = not changes_text(backend) and _has_every_byte(table)
    tokenizer = ByteTokenizer(backend, table, start_id, exact=faithful, adds_space=adds_space)
    return tokenizer if not faithful or _spells_probes(tokenizer) else replace(tokenizer, exact=False)


def _has_every_byte(table: ByteTable) -> bool:
    """Byte-level vocabularies may lack rare ones, SmolLM2's six control characters: they are dropped from a text."""
    singles = np.flatnonzero((table.roles_V == Role.ORDINARY) & (table.lengths_V == 1))
    return bool(np.isin(_UTF8_BYTES, table.data_N[table.offsets_V1[singles]]).all())


def _spells_probes(tokenizer: ByteTokenizer) -> bool:
    return all(
        tokenizer.boundaries(tokenizer.sequence(ids, False, len(ids) + 1), probe.encode()) is not None
        for probe, ids in zip(_PROBES, tokenizer.encode(_PROBES), strict=True)
    )


def _take_special_pieces_for_text(backend: Tokenizer, table: ByteTable) -> None:
    """Keeps a unigram model from reading `<s>` or `<0x0A>` in a text as the piece of that name, as SentencePiece does:
    the text is split behind the first character of such a name."""
    model = json.loads(backend.to_str())["model"]
    if model["type"] != "Unigram":
        return
    pieces = [piece for piece, _ in model["vocab"]]
    names = [piece for piece, role in zip(pieces, table.roles_V, strict=False) if role != Role.ORDINARY]
    rests: dict[str, list[str]] = {}
    for name in names:
        if len(name) > 1:
            rests.setdefault(name[0], []).append(re.escape(name[1:]))
    if model["byte_fallback"]:
        rests.setdefault("<", []).append("0x[0-9A-F]{2}>")
    pattern = "|".join(f"{re.escape(first)}(?={'|'.join(rest)})" for first, rest in rests.items())
    if pattern:
        split = pre_tokenizers.Split(Regex(pattern), "merged_with_previous")
        before = [backend.pre_tokenizer] if backend.pre_tokenizer is not None else []
        backend.pre_tokenizer = pre_tokenizers.Sequence([*before, split])


def _load(folder: Path, trust_remote_code: bool) -> PreTrainedTokenizerBase:
    if not (folder / "tokenizer.json").exists() and (folder / "tekken.json").exists():
        from transformers.integrations.mistral.tokenizer import convert_tekken_tokenizer

        # AutoTokenizer would leave out BOS and EOS, or take a Python implementation. No chat template: that is slow.
        return convert_tekken_tokenizer(str(folder / "tekken.json"), chat_template="")
    # transformers prefers a Python implementation for a Mistral model that has a tekken.json too.
    loaded = AutoTokenizer.from_pretrained(str(folder), trust_remote_code=trust_remote_code, mistral_format=False)
    model_file = folder / "tokenizer.model"
    generic = type(loaded) is PreTrainedTokenizerFast
    if generic and model_file.exists() and not (folder / "tokenizer.json").exists():
        _restore_rules(loaded.backend_tokenizer, model_file)
    return loaded


def _restore_rules(backend: Tokenizer, model_file: Path) -> None:
    """Merges and normalises as the SentencePiece model says.

    transformers' generic conversion forgets the white space rules, and merges in the order of ids instead of scores.
    """
    try:
        proto: Any = SentencePieceExtractor(str(model_file)).proto
    except Exception as error:
        if type(error).__name__ != "DecodeError":  # protobuf's; the file is tiktoken's, of the same name
            raise
        return
    if isinstance(backend.model, models.BPE):
        backend.model = _merging_by_score(proto)
    rules = proto.normalizer_spec
    steps: list[normalizers.Normalizer] = []
    if rules.precompiled_charsmap:
        steps.append(normalizers.Precompiled(rules.precompiled_charsmap))
    if rules.remove_extra_whitespaces:
        steps += [normalizers.Strip(), normalizers.Replace(Regex(" {2,}"), " ")]
    if rules.add_dummy_prefix:
        steps.append(normalizers.Prepend(VISIBLE_SPACE))
    backend.normalizer = normalizers.Sequence([*steps, normalizers.Replace(" ", VISIBLE_SPACE)])


def _merging_by_score(proto: Any) -> models.BPE:
    """SentencePiece's BPE: of all neighbours whose joint is a piece, those of the highest score merge first."""
    ids = {piece.piece: i for i, piece in enumerate(proto.pieces)}
    ordinary = {piece.piece for piece in proto.pieces if piece.type == piece.NORMAL}
    ranked = sorted(
        (-piece.score, i, ids[piece.piece[:cut]], ids[piece.piece[cut:]], piece.piece[:cut], piece.piece[cut:])
        for i, piece in enumerate(proto.pieces)
        for cut in range(1, len(piece.piece))
        if {piece.piece, piece.piece[:cut], piece.piece[cut:]} <= ordinary
    )
    spec = proto.trainer_spec
    merges = [(left, right) for *_, left, right in ranked]
    return models.BPE(ids, merges, unk_token=spec.unk_piece, fuse_unk=True, byte_fallback=spec.byte_fallback)
