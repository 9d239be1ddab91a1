"""Windows: documents cut into pieces that every model can read, on character boundaries."""

from collections.abc import Iterator
from dataclasses import dataclass

from pta_ray.tokenizers.byte_tokenizer import ByteTokenizer

_CHARACTERS_PER_TOKEN = 6  # taken at once; ordinary text has 3 to 5


@dataclass(frozen=True)
class Window:
    """A piece of one document."""

    start: int
    """Its first byte in the document."""
    text: bytes
    """UTF-8; the windows of a document joined are the document."""
    ends_document: bool


def cut(document: str, tokenizer: ByteTokenizer, max_tokens: int) -> Iterator[Window]:
    """Cuts a document into windows of at most `max_tokens` tokens, start token and EOS included.

    A cut is made behind the last line end of the window's last quarter, else behind the last space there, else between
    any two characters.
    """
    start, rest = 0, document
    while rest:
        text = rest[: max_tokens * _CHARACTERS_PER_TOKEN]
        while (excess := _excess_tokens(text, tokenizer, max_tokens - 2)) > 0:
            # Tokens are about equally long: take off what is too much, and a little more to be done soon.
            keep = int(len(text) * (1 - excess / (max_tokens - 2 + excess) - 0.01))
            text = text[: max(1, min(keep, len(text) - 1))]
        if len(text) < len(rest):
            text = _back_to_break(text)
        rest = rest[len(text) :]
        encoded = text.encode()
        yield Window(start, encoded, not rest)
        start += len(encoded)


def _excess_tokens(text: str, tokenizer: ByteTokenizer, max_tokens: int) -> int:
    return 0 if len(text) == 1 else len(tokenizer.encode([text])[0]) - max_tokens


def _back_to_break(text: str) -> str:
    earliest = len(text) - len(text) // 4
    for separator in ("\n", " "):
        at = text.rfind(separator, earliest)
        if at >= 0:
            return text[: at + 1]
    return text
