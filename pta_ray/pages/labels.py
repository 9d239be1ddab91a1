"""Bytes as something that can be seen: parts of characters, white space and control characters as symbols."""

import unicodedata

import numpy as np
import numpy.typing as npt

from pta_ray.tokenizers.byte_table import ByteTable, Role

Label = list[str]
"""Plain text and symbols in turn, plain text first; `["", "␊"]` is a line end, `["␊"]` the character ␊ itself."""

_REST = "⋯"
"""The rest of a character that has been shown before."""
_JOINERS = "\u200c\u200d"
"""Zero-width joiner and non-joiner shape their neighbours, and are symbols only where they lack one."""


def label_of(data: bytes) -> Label:
    """The label of a token, or of a piece of text."""
    # Bytes that are no whole character decode to lone surrogates.
    text = data.decode("utf-8", "surrogateescape")
    label = [""]
    for i, char in enumerate(text):
        symbol = "" if char in _JOINERS and 0 < i < len(text) - 1 else _symbol(char, i == 0)
        is_symbol = bool(symbol)
        if is_symbol != (len(label) % 2 == 0):
            label.append("")
        label[-1] += symbol or char
    return label


def symbol(name: str) -> Label:
    """What stands for no bytes, such as the end of the document."""
    return ["", f"⟨{name}⟩"]


def plain(label: Label) -> str:
    """A label in one string, where symbols need not be told from text."""
    return "".join(label)


def is_right_to_left(text: str) -> bool:
    """Whether a line's first strong character is Hebrew, Arabic or the like (rules P2 and P3 of UAX 9)."""
    strong = (unicodedata.bidirectional(char) for char in text)
    return next((kind != "L" for kind in strong if kind in {"L", "R", "AL"}), False)


def _symbol(char: str, is_first: bool) -> str:
    """How a character is shown that cannot be seen by itself; nothing for all others."""
    code, kind = ord(char), unicodedata.category(char)
    if char == " ":
        return "·"
    if code < 0x20:
        return chr(0x2400 + code)
    if code == 0x7F:
        return "␡"
    if 0xDC80 <= code <= 0xDCFF:
        return f"⟨{code - 0xDC00:02X}⟩"
    if kind in {"Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp", "Zs"}:
        return f"⟨U+{code:04X}⟩"
    if is_first and kind.startswith("M"):
        is_variation = 0xFE00 <= code <= 0xFE0F or 0xE0100 <= code <= 0xE01EF
        return f"⟨U+{code:04X}⟩" if is_variation else f"◌{char}"
    return ""


class LabelBook:
    """Labels by number, each once."""

    def __init__(self) -> None:
        self.labels: list[Label] = []
        self._places: dict[tuple[str, ...], int] = {}

    def of_bytes(self, data: bytes, follows_part: bool = False) -> int:
        """The number of `label_of` these bytes, which the rest of a character may precede."""
        label = label_of(data)
        return self._place(_behind_part(label) if follows_part else label)

    def of_symbol(self, name: str) -> int:
        """The number of the `symbol` of this name."""
        return self._place(symbol(name))

    def of_token(self, table: ByteTable, token_id: int) -> int:
        """The number of a token's label."""
        if table.roles_V[token_id] == Role.EOS:
            return self.of_symbol("end")
        data = table.token(token_id)
        return self.of_bytes(data) if data else self.of_symbol(f"token {token_id}")

    def of_sequence(self, table: ByteTable, ids_L: npt.NDArray[np.int32]) -> list[int]:
        """The numbers of the labels of what a model reads, start token first."""
        return [self.of_symbol("start"), *(self.of_token(table, i) for i in ids_L[1:])]

    def _place(self, label: Label) -> int:
        key = tuple(label)
        if key not in self._places:
            self._places[key] = len(self.labels)
            self.labels.append(label)
        return self._places[key]


def _behind_part(label: Label) -> Label:
    if label[0]:
        return ["", _REST, *label]
    return ["", "".join([_REST, *label[1:2]]), *label[2:]]
