"""The pairing as it is drawn: groups of tokens, line by line.

Shapes: S tokens of the source, T of the target, start tokens included.
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from pta_ray.alignment.align import Pairing
from pta_ray.inspection.model import Group, Line
from pta_ray.pages.labels import LabelBook, is_right_to_left

Ends = npt.NDArray[np.int64] | None
"""Byte offsets of boundaries, as of `ByteTokenizer.boundaries`."""
Span = tuple[int, int]


def lines_of(book: LabelBook, text: bytes, pairing: Pairing, ends_S: Ends, ends_T: Ends) -> list[Line]:
    """The groups between shared boundaries, cut behind line ends; each line has its own direction."""
    if ends_S is None and ends_T is None:
        groups = [Group(source=source, target=target, text=None) for source, target in _spans(pairing)]
        return [_line(text, groups)] if groups else []
    lines: list[Line] = []
    groups, first, at = [], 0, 0
    for source, target in _spans(pairing):
        reached = [ends[span[1] - 1] for ends, span in ((ends_S, source), (ends_T, target)) if ends is not None]
        end = min(max(at, *reached), len(text))
        groups.append(Group(source=source, target=target, text=_text_label(book, text, at, end)))
        if b"\n" in text[at:end]:
            lines.append(_line(text[first:end], groups))
            groups, first = [], end
        at = end
    return [*lines, _line(text[first:at], groups)] if groups else lines


def _text_label(book: LabelBook, text: bytes, begin: int, end: int) -> int:
    """A piece of the text in whole characters: one that groups share is shown in the first of them."""
    first, last = _next_character(text, begin), _next_character(text, end)
    return book.of_bytes(text[first:last], follows_part=first > begin)


def _next_character(text: bytes, at: int) -> int:
    """The first offset from here on that is between two characters."""
    while at < len(text) and text[at] & 0xC0 == 0x80:
        at += 1
    return at


def _line(text: bytes, groups: list[Group]) -> Line:
    return Line(right_to_left=is_right_to_left(text.decode(errors="ignore")), groups=groups)


def _spans(pairing: Pairing) -> Iterator[tuple[Span, Span]]:
    """Tokens of the source and of the target that make up each group, start tokens left out. What follows the last
    shared boundary is a group too."""
    s = t = 1
    shared_T = np.flatnonzero(pairing.is_shared_T)
    closes = [*zip((pairing.last_T[shared_T] + 1).tolist(), (shared_T + 1).tolist(), strict=True)]
    for next_s, next_t in [*closes, (len(pairing.ends_S), len(pairing.ends_T))]:
        if next_s > s or next_t > t:
            yield (s, max(next_s, s)), (t, max(next_t, t))
            s, t = max(next_s, s), max(next_t, t)
