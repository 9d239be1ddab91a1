"""The demo's three tokenizers: two byte-level ones with different ideas of a word, and one in SentencePiece's manner.

None normalises its input, and each can spell any text: decoding what was encoded gives the text back (the one
exception, as in SentencePiece itself: `metaspace` reads a literal "▁" as a space).
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

LINE_WORDS = r" ?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+\n*|\s*\n|\s+(?!\S)|\s+"
"""Words, groups of up to three digits, punctuation with the line end after it."""

SPACE = "▁"
END_OF_TEXT = "<|endoftext|>"


@dataclass(frozen=True)
class Vocabulary:
    """How one tokenizer is made; `size` counts its special tokens too."""

    kind: Literal["byte-level", "metaspace"]
    size: int
    words: str | None = None


def train_tokenizer(vocabulary: Vocabulary, texts: Iterable[str]) -> PreTrainedTokenizerFast:
    """Trains a tokenizer which, when asked for special tokens, puts the start token before a text."""
    if vocabulary.kind == "byte-level":
        tokenizer, start, end = train_byte_level(vocabulary, texts), END_OF_TEXT, END_OF_TEXT
    else:
        tokenizer, start, end = train_metaspace(vocabulary, texts), "<s>", "</s>"
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{start} $A", pair=f"{start} $A {start} $B", special_tokens=[(start, tokenizer.token_to_id(start))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=start,
        eos_token=end,
        pad_token=end,
        unk_token="<unk>" if vocabulary.kind == "metaspace" else None,
        clean_up_tokenization_spaces=False,
        model_max_length=1024,
    )


def train_byte_level(vocabulary: Vocabulary, texts: Iterable[str]) -> Tokenizer:
    """Byte pair encoding over GPT-2's byte alphabet."""
    tokenizer = Tokenizer(models.BPE())
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=vocabulary.words is None)
    split = [pre_tokenizers.Split(Regex(vocabulary.words), "isolated")] if vocabulary.words else []
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*split, byte_level])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary.size,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        max_token_length=24,
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def train_metaspace(vocabulary: Vocabulary, texts: Iterable[str]) -> Tokenizer:
    """Byte pair encoding over characters, spaces written as "▁", rare characters as bytes `<0x00>` to `<0xFF>`."""
    special = ["<unk>", "<s>", "</s>"]
    byte_tokens = [f"<0x{byte:02X}>" for byte in range(256)]
    split = pre_tokenizers.Sequence(
        [pre_tokenizers.Split("\n", "isolated"), pre_tokenizers.Metaspace(replacement=SPACE, prepend_scheme="never")]
    )
    trainee = Tokenizer(models.BPE())
    trainee.pre_tokenizer = split
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary.size - len(special) - len(byte_tokens),
        limit_alphabet=256,
        max_token_length=24,
        show_progress=False,
    )
    trainee.train_from_iterator(texts, trainer)
    # Trained as special tokens, the byte tokens would be recognised in a text that spells them out.
    learned = sorted(trainee.get_vocab(), key=trainee.token_to_id)
    pieces = {piece: index for index, piece in enumerate([*special, *byte_tokens, *learned])}
    merges = [tuple(pair) for pair in learned_merges(trainee)]
    tokenizer = Tokenizer(models.BPE(vocab=pieces, merges=merges, unk_token="<unk>", byte_fallback=True))
    tokenizer.pre_tokenizer = split
    tokenizer.decoder = decoders.Sequence([decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()])
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    return tokenizer


def learned_merges(tokenizer: Tokenizer) -> list[list[str]]:
    """The merge rules of a byte pair encoding, in order."""
    return json.loads(tokenizer.to_str())["model"]["merges"]
