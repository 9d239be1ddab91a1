"""The terminal shows what the page shows."""

from io import StringIO

from rich.console import Console

from pta_ray.config import Alignment
from pta_ray.inspection.plain import print_inspection
from tests.unit.inspection.cases import by_hand, inspect_world


def printed(**changes: object) -> str:
    console = Console(file=StringIO(), width=160, color_system=None)
    print_inspection(inspect_world(by_hand(), Alignment()).model_copy(update=changes), console)
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_the_winner_the_pairing_and_every_boundary() -> None:
    text = printed()
    lines = [line.split() for line in text.splitlines()]
    assert "window 1 of 1, from byte 0: source wins" in text and "0.368 bits per byte against 0.661" in text
    assert ["ab", "1-2", "a", "|", "b", "ab"] in lines
    assert all(f"source: boundary {m} of 3" in text for m in (1, 2, 3))
    assert "next token a; shared" in text and "next token b; inside ab, read a" in text
    assert "next token pinned to 0.9000; bits: target 1.00, source 0.15, pta 0.15, mined 0.15, exact 1.74" in text


def test_the_matrices_of_a_boundary() -> None:
    """All of "b", 0.1, the source's third candidate, goes to "b"; it costs 1 to send it to "a"."""
    lines = [line.split() for line in printed().splitlines()]
    cost = lines.index(["cost,", "in", "hundredths,", "by", "source", "candidate"])
    assert lines[cost + 1 : cost + 5] == [["3"], ["a", "100"], ["b", "."], ["⟨end⟩", "100"]]
    plan = lines.index(["plan,", "in", "hundredths,", "by", "source", "candidate"])
    assert lines[plan + 1 : plan + 5] == [["3"], ["a", "."], ["b", "10"], ["⟨end⟩", "."]]


def test_what_is_made_up_or_left_out_is_said() -> None:
    text = printed(simulated=["source"], left_out=["another"])
    assert "made up: what source says" in text and "not in the contest: another" in text
