"""What an inspection holds: plain numbers and labels, as the page gets them.

A label is named by its place in `Inspection.labels`, so that each is stored once. Probabilities have four significant
digits. Shapes: L tokens of a sequence, start token included, M = L - 1 boundaries of the target that predict a token.
"""

from typing import Literal

from pta_ray.pages.labels import Label
from pta_ray.pages.page import Record

Where = Literal["shared", "inside", "silent"]
"""A boundary of the target: also one of the source, or inside one of its tokens, or the source says nothing there."""


class Masses(Record):
    """Probabilities of tokens; what they leave of 1 is tail."""

    labels: list[int]
    probs: list[float]
    tail: float


class Boundary(Record):
    """What a source says at a boundary of the target, and what becomes of it."""

    where: Where
    source_token: int
    """The source's token that follows the boundary, or that it lies in; -1 if there is none."""
    residue: int
    """Label of what has been read of that token."""
    confidence: float
    """What the source gave to what has been read of that token; 0 where it is silent."""
    source: Masses
    """The source's candidates, conditional on the residue, the actual next token first."""
    to_move: list[float]
    """What transport takes from each of them."""
    pinned: float | None
    """The actual next token's exact probability, if the method takes it out before transport."""
    target: Masses
    """The target's candidates with its own belief in them, the actual next token first."""
    senders: list[int]
    """Which source candidates have something to move: the rows of cost and plan, whose columns are all of the target's
    candidates."""
    cost: list[dict[int, float]]
    """By column; 1 where there is none."""
    plan: list[dict[int, float]]
    """By column; 0 where there is none. Hardly any two candidates have to do with each other."""
    aligned: dict[str, Masses]
    """By method, the actual next token first."""
    source_bits: float | None
    """Of the actual next token of the target, by the chain rule over the source's own tokens."""
    bits: dict[str, float | None]
    """Of the same under each method's aligned distribution; None where it does not name the token."""


class Group(Record):
    """Tokens between two boundaries that both models share, by first and last + 1."""

    source: tuple[int, int]
    target: tuple[int, int]
    text: int | None
    """Label; None where neither tokenization spells the text."""


class Line(Record):
    """Groups up to a line end."""

    right_to_left: bool
    groups: list[Group]


class SourceView(Record):
    """One source along a window."""

    tokens: list[int]
    """Labels."""
    by_bytes: bool
    """Whether the pairing follows the bytes of the text, or the minimum edit cost."""
    lines: list[Line]
    boundaries: list[Boundary]
    """M of them."""


class Contest(Record):
    """A source against the best candidate before it, over the boundaries where both speak."""

    holder: str
    num_boundaries: int
    num_bytes: int
    holder_bits: float
    bits: float
    wins: bool


class Claim(Record):
    """What a model has to show for a window."""

    name: str
    bits_per_byte: float
    """Over its own tokens, without the end of the document."""
    num_bytes: int
    """Of the text, that it read."""
    num_spoken: int
    """Boundaries of the target at which it speaks."""
    contest: Contest | None
    """None for the target, which holds the window at first."""
    reason: str
    """What came of it, and why."""


class WindowView(Record):
    """One window of the text."""

    start: int
    """Its first byte in the text."""
    num_bytes: int
    tokens: list[int]
    """Labels of the target's L tokens."""
    ends: list[int] | None
    """Byte offsets where they end; None where they spell other bytes than the text's."""
    bits: list[float]
    """Of the M actual next tokens, under the target itself."""
    claims: list[Claim]
    """The target's, then the sources', in the order of the fold."""
    winner: str
    sources: list[SourceView]


class Inspection(Record):
    """How a job reads a text."""

    target: str
    sources: list[str]
    left_out: list[str]
    """Sources of the job that were not asked."""
    simulated: list[str]
    """Models that made up what they say."""
    method: str
    """The job's; `aligned` begins with it."""
    settings: str
    labels: list[Label]
    windows: list[WindowView]
