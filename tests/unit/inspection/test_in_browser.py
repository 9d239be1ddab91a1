"""The page in a real Chromium: its numbers, keys and clicks, and how long a long text takes."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from pta_ray.config import Alignment
from pta_ray.inspection.inspect import Reading, inspect
from pta_ray.inspection.model import Inspection
from pta_ray.inspection.page import write_page
from pta_ray.sources.simulated_engine import made_up
from pta_ray.text.windows import Window
from pta_ray.tokenizers.byte_tokenizer import ByteTokenizer
from tests.conftest import CORPUS
from tests.fixtures.load import load_fixture
from tests.unit.inspection.cases import by_hand, inspect_fixture, inspect_world
from tests.unit.pages.contrast import contrast

if TYPE_CHECKING:
    from playwright.sync_api import Page

ODD = "</script><b>\tx\r\n\x00 日本語 👨\u200d👩\u200d👧 e\u0301 a\u202eb\nשלם כל, abc\n  مرحبا بالعالم\n"


@pytest.fixture
def show(open_page: Callable[..., "Page"], tmp_path: Path) -> Callable[..., "Page"]:
    """Opens an inspection."""

    def shown(found: Inspection, **context: object) -> "Page":
        write_page(found, tmp_path / "page.html")
        return open_page(tmp_path / "page.html", **context)

    return shown


def made_up_inspection(text: str, target: ByteTokenizer, *sources: ByteTokenizer) -> Inspection:
    """Of models that say anything about a text."""
    readings = []
    for i, tokenizer in enumerate((target, *sources)):
        ids_L = tokenizer.sequence(tokenizer.encode([text])[0], True, 1 << 20)
        scores = made_up(ids_L, 10, tokenizer.table.size, np.random.default_rng(i))
        readings.append(Reading("target" if i == 0 else f"source {i}", tokenizer, [scores]))
    return inspect(Alignment(), readings[0], readings[1:], [Window(0, text.encode(), True)], [], ["source 1"])


def figure(page: "Page", name: str) -> str:
    return page.inner_text(f'[data-figure="{name}"]')


def selected(page: "Page") -> str:
    return page.inner_text('#text [aria-selected="true"]')


def rows(page: "Page", heading: str) -> list[list[str]]:
    """The body of a table, cell by cell."""
    found = page.query_selector_all(f'[aria-labelledby="{heading}"] tbody tr')
    return [[cell.inner_text() for cell in row.query_selector_all("th, td")] for row in found]


def test_the_numbers_of_a_case_worked_out_by_hand(show: Callable[..., "Page"]) -> None:
    page = show(inspect_world(by_hand(), Alignment()))
    assert selected(page) == "a" and page.inner_text("#boundary-heading") == "Boundary 1 of 3, byte 0"
    assert figure(page, "confidence") == "1.0000" and figure(page, "pinned") == "0.9000"
    bits = [figure(page, f"{name}-bits") for name in ("target", "source", "pta", "mined", "exact")]
    assert bits == ["1.00", "0.15", "0.15", "0.15", "1.74"]
    assert rows(page, "source-heading")[2:4] == [["b", "0.1000", "0.1000"], ["⟨end⟩", "0", "0"]]
    assert rows(page, "aligned-heading") == [
        ["a", "0.5000", "0.9000", "0.9000", "0.3000"], ["b", "0.5000", "0.1000", "0.1000", "0.1000"],
        ["tail", "0", "0", "0", "0.6000"],
    ]  # fmt: skip
    (plan,) = rows(page, "plan-heading")
    assert plan[:3] == ["b", "", ".10"] and plan[-1] == ".10"
    (cost,) = rows(page, "cost-heading")
    assert cost[:3] == ["b", "1", "0"]
    page.hover("table.plan td >> nth=2")
    assert "b → b: 0.1000" in page.inner_text("#boundary")
    assert page.inner_text("#window h3") == "Window 1 of 1: source wins"
    assert "0.368 bits per byte against 0.661" in page.inner_text("#window")


def test_the_pairing_is_drawn(show: Callable[..., "Page"]) -> None:
    page = show(inspect_world(by_hand(), Alignment()))
    first = page.query_selector(".group")
    assert first is not None
    parts = [[token.inner_text() for token in first.query_selector_all(f".{row} .token")] for row in ("upper", "lower")]
    assert parts == [["ab"], ["a", "b"]] and first.query_selector(".middle").inner_text() == "ab"  # type: ignore[union-attr]
    assert page.get_attribute('[data-place="1"]', "class") == "token inside"
    tops = [first.query_selector(f".{row}").bounding_box()["y"] for row in ("upper", "middle", "lower")]  # type: ignore
    assert tops == sorted(tops) and len(set(tops)) == 3


def test_keys_and_clicks_choose_a_boundary(show: Callable[..., "Page"]) -> None:
    page = show(inspect_world(by_hand(), Alignment()))
    page.keyboard.press("ArrowRight")
    assert selected(page) == "b" and figure(page, "confidence") == "0.9000"
    assert "begins inside the source's token ab, of which a" in page.inner_text("#boundary")
    assert page.evaluate("document.activeElement.dataset.place") == "1"
    page.keyboard.press("End")
    assert selected(page) == "⟨end⟩"
    page.keyboard.press("ArrowRight")
    assert selected(page) == "⟨end⟩", "there is nothing behind the end"
    page.keyboard.press("Home")
    assert selected(page) == "a"
    page.click('[data-place="1"]')
    assert selected(page) == "b"
    page.click("text=previous")
    assert selected(page) == "a"
    page.click("text=next")
    page.keyboard.press("Enter")
    assert selected(page) == "⟨end⟩", "the button keeps the focus"


def test_up_and_down_go_to_the_next_row(show: Callable[..., "Page"], byte_level: ByteTokenizer) -> None:
    page = show(made_up_inspection("one line\nanother line\nlast", byte_level, byte_level))
    lines = [set(line.inner_text().split("\n")) for line in page.query_selector_all(".line")]
    tops = []
    for key in ("ArrowDown", "ArrowDown", "ArrowUp"):
        page.keyboard.press(key)
        tops.append(page.eval_on_selector('#text [aria-selected="true"]', "e => e.getBoundingClientRect().top"))
    assert len(lines) == 3 and tops[0] == tops[2] < tops[1]


def test_sources_are_chosen_by_key_and_click(
    show: Callable[..., "Page"], byte_level: ByteTokenizer, sentencepiece: ByteTokenizer
) -> None:
    page = show(made_up_inspection("The tokenization of a text", byte_level, byte_level, sentencepiece))
    page.keyboard.press("End")
    page.keyboard.press("ArrowLeft")
    before = selected(page)
    upper = page.inner_text(".upper")
    page.keyboard.press("2")
    assert page.inner_text('[role="tab"][aria-selected="true"]') == "source 2" and selected(page) == before
    assert page.inner_text(".upper") != upper and "bits, source 2" in page.inner_text("#boundary")
    page.click("role=tab >> nth=0")
    assert page.inner_text(".upper") == upper
    page.keyboard.press("ArrowRight")
    assert page.inner_text('[role="tab"][aria-selected="true"]') == "source 2"
    assert page.is_visible("#warning") and "source 1" in page.inner_text("#warning")


def test_odd_text_is_shown_as_it_is(
    show: Callable[..., "Page"], small_byte_level: ByteTokenizer, byte_level: ByteTokenizer
) -> None:
    page = show(made_up_inspection(ODD, small_byte_level, byte_level))
    shown = "".join(page.eval_on_selector_all(".middle bdi", "nodes => nodes.map(node => node.textContent)"))
    for piece in ("␉", "␍␊", "␀", "⟨U+202E⟩"):
        assert piece in shown
    assert "</script><b>" in shown and page.query_selector("#text b") is None
    lower = page.eval_on_selector_all(".lower bdi", "nodes => nodes.map(node => node.textContent)")
    assert "⟨E6⟩" in lower, "parts of characters are tokens of this vocabulary"
    directions = page.eval_on_selector_all(".line", "nodes => nodes.map(node => node.dir)")
    assert directions[:5] == ["ltr", "ltr", "rtl", "rtl", "ltr"][: len(directions)]
    assert {"ltr", "rtl"} == set(directions)


def test_left_goes_on_in_a_line_that_runs_to_the_left(
    show: Callable[..., "Page"], small_byte_level: ByteTokenizer
) -> None:
    page = show(made_up_inspection("שלם", small_byte_level, small_byte_level))
    page.keyboard.press("ArrowLeft")
    assert page.evaluate("document.activeElement.dataset.place") == "1"
    boxes = [page.locator(f'[data-place="{i}"]').bounding_box() for i in (0, 1)]
    assert boxes[0]["x"] > boxes[1]["x"]  # type: ignore[index]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1440])
def test_nothing_sticks_out_of_the_screen(show: Callable[..., "Page"], scheme: str, width: int) -> None:
    found = inspect_fixture(load_fixture(), Alignment(), ["python", "translations"], ["english"])
    page = show(found, color_scheme=scheme, viewport={"width": width, "height": 900})
    page.click('[data-place="12"]')
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    ink, paper = page.evaluate("[getComputedStyle(document.body).color, getComputedStyle(document.body).background]")
    assert contrast(ink, paper) > 7, "the ink can be read"
    cells = page.eval_on_selector_all(
        "table.heat td[style]",
        "cells => cells.map(c => [getComputedStyle(c).color, getComputedStyle(c).backgroundColor])",
    )
    assert cells and min(contrast(*cell) for cell in cells) > 4.5


def test_two_thousand_tokens(
    show: Callable[..., "Page"], byte_level: ByteTokenizer, sentencepiece: ByteTokenizer, tmp_path: Path
) -> None:
    """Within 5 MB, and in seconds even on a busy machine; the time is printed."""
    text = "\n".join(CORPUS * 2)
    ids = byte_level.encode([text])[0][:2400]
    found = made_up_inspection(byte_level.table.joined(ids).decode(errors="ignore"), byte_level, sentencepiece)
    assert len(found.windows[0].bits) >= 2000
    page = show(found)
    assert (tmp_path / "page.html").stat().st_size < 5e6
    drawn = page.evaluate("performance.now()")
    page.keyboard.press("End")
    took = page.evaluate(
        "() => { const begin = performance.now();"
        " document.activeElement.dispatchEvent(new KeyboardEvent('keydown', {key: 'ArrowLeft', bubbles: true}));"
        " document.body.getBoundingClientRect(); return performance.now() - begin; }"
    )
    print(f"{(tmp_path / 'page.html').stat().st_size / 1e6:.2f} MB, drawn in {drawn:.0f} ms, a step in {took:.0f} ms")
    assert drawn < 20_000 and took < 2_000
