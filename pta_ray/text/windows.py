"""Windows: documents cut into pieces that every model can read, on character boundaries."""

from collections.abc import Callable, Iterator, Sequence
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
    yield from _cut(
        document, max_tokens * _CHARACTERS_PER_TOKEN, lambda text: _excess_tokens(text, tokenizer, max_tokens)
    )


def cut_for_all(document: str, readers: Sequence[tuple[ByteTokenizer, int]], max_bytes: int) -> Iterator[Window]:
    """Cuts a document into windows of at most `max_bytes` that every one of several models reads to their end.

    Args:
        readers: the tokenizer of each model, and the most tokens that it reads, start token and EOS included.

    Only a single character that is too long for a model, or for `max_bytes`, is a window nevertheless.
    """

    def excess(text: str) -> float:
        of_bytes = 1 - max_bytes / len(text.encode())
        return max([of_bytes, *(_excess_tokens(text, tokenizer, most) for tokenizer, most in readers)])

    yield from _cut(document, max_bytes, excess)


def _cut(document: str, most_characters: int, excess: Callable[[str], float]) -> Iterator[Window]:
    """Cuts off the longest pieces without excess, as `cut` says; `excess` is the share of a piece that is too much."""
    start, rest = 0, document
    while rest:
        text = rest[:most_characters]
        while len(text) > 1 and (share := excess(text)) > 0:
            # Tokens are about equally long: take off what is too much, and a little more to be done soon.
            keep = int(len(text) * (1 - share - 0.01))
            text = text[: max(1, min(keep, len(text) - 1))]
        if len(text) < len(rest):
            text = _back_to_break(text)
        rest = rest[len(text) :]
        encoded = text.encode()
        yield Window(start, encoded, not rest)
        start += len(encoded)


def _excess_tokens(text: str, tokenizer: ByteTokenizer, max_tokens: int) -> float:
    """The share of a text's tokens that is too much beside start token and EOS; not above 0 if they fit."""
    num_tokens = len(tokenizer.encode([text])[0])
    return (num_tokens - (max_tokens - 2)) / max(num_tokens, 1)


def _back_to_break(text: str) -> str:
    earliest = len(text) - len(text) // 4
    for separator in ("\n", " "):
        at = text.rfind(separator, earliest)
        if at >= 0:
            return text[: at + 1]
    return text
