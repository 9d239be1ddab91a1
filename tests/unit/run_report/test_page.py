"""The report as a file, and in a real Chromium: its numbers, keys, saved pictures, and how it looks."""

import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from pta_ray.cli import app
from pta_ray.run_report.write import write_report
from tests.unit.pages.contrast import contrast
from tests.unit.run_report.runs import write_run

if TYPE_CHECKING:
    from playwright.sync_api import Page

SVG = "{http://www.w3.org/2000/svg}"
PICTURES = ["loss", "bits", "rate", "won", "busy", "plane"]


def test_nothing_reaches_outside_and_nothing_is_left_to_fill_in(tmp_path: Path) -> None:
    write_report(write_run(tmp_path), tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert "default-src 'none'" in page and "<!--" not in page
    page = re.sub(r"(?<=id=\"data\">)[^<]+", "", page).replace("http://www.w3.org/2000/svg", "")
    assert not re.search(r"https?:|\bsrc=|@import|url\(", page)


def test_the_command_writes_it_beside_the_run_or_where_it_is_told(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    assert CliRunner().invoke(app, ["report", str(run)]).exit_code == 0
    assert CliRunner().invoke(app, ["report", str(run), "--output", str(tmp_path / "other.html")]).exit_code == 0
    assert (run / "report.html").read_text() == (tmp_path / "other.html").read_text()
    with pytest.raises(Exception, match="--output"):
        CliRunner().invoke(
            app, ["report", str(run), "--output", str(tmp_path / "no" / "x.html")], catch_exceptions=False
        )


@pytest.fixture
def show(open_page: Callable[..., "Page"], tmp_path: Path) -> Callable[..., "Page"]:
    """Opens the report of a run like that of `write_run`."""

    def shown(changes: dict[str, Any] | None = None, **context: object) -> "Page":
        run = write_run(tmp_path / "run", **(changes or {}))
        write_report(run, tmp_path / "report.html")
        return open_page(tmp_path / "report.html", **context)

    return shown


def rows(page: "Page", section: str, number: int = 0) -> list[list[str]]:
    """The body of a table of a section, cell by cell."""
    found = page.locator(f"#{section} table").nth(number).locator("tbody tr").all()
    return [[cell.inner_text() for cell in row.locator("th, td").all()] for row in found]


def figure(page: "Page", name: str) -> str:
    return page.inner_text(f'[data-figure="{name}"]')


def test_the_numbers_of_a_known_run(show: Callable[..., "Page"]) -> None:
    page = show()
    assert page.inner_text("h1") == "run: fusion report" and page.inner_text("#facts") == "coder, poet into target"
    assert figure(page, "bits") == "2.500 → 2.250 (\N{MINUS SIGN}10%)" and figure(page, "windows") == "43"
    assert figure(page, "time") == "90 min" and figure(page, "best-step") == "2" and figure(page, "set-aside") == "5"
    assert rows(page, "fused")[2] == ["poet", "source", "poet", "p" * 12]
    assert rows(page, "quality") == [
        ["coder", "1.500", "4.000", "2.750"], ["poet", "3.000", "1.250", "2.125"],
        ["target, before", "2.000", "3.000", "2.500"], ["target, fused", "1.750", "2.750", "2.250"],
    ]  # fmt: skip
    assert rows(page, "winners") == [["code", "40", "25%", "75%", "0%"], ["prose", "3", "0%", "0%", "100%"]]
    assert rows(page, "alignment")[0] == ["coder", "0.750", "0.500", "0.125", "0.900"]
    assert rows(page, "alignment")[1] == ["poet", "0.000", "n/a", "n/a", "n/a"]
    assert rows(page, "stages")[2] == ["train", "80", "9,000", "900", "25%", "2", "0"]
    assert "Limited by score coder, poet, which was busy 63%" in page.inner_text("#limit")
    assert page.locator("#busy text", has_text="sets the pace").all_text_contents() == [
        "score coder: sets the pace", "score poet: sets the pace",
    ]  # fmt: skip
    assert rows(page, "aside")[0] == ["not finite", "score coder", "code:0:0, code:1:0, code:2:0, …", "4", "50%"]
    assert rows(page, "aside")[1][0] == "<b>bad</b> JSON"
    assert figure(page, "compactness-before") == "0.800" and figure(page, "compactness-after") == "0.625"
    assert not page.is_visible("#warning")


def test_keys_read_the_pictures(show: Callable[..., "Page"]) -> None:
    page = show()
    page.focus("#bits .canvas")
    page.keyboard.press("Home")
    assert page.inner_text("#bits .readout") == "step 0: code 2, prose 3"
    page.keyboard.press("ArrowRight")
    assert page.inner_text("#bits .readout") == "step 2: code 1.75, prose 2.75"
    page.focus("#plane .canvas")
    page.keyboard.press("ArrowLeft")
    assert page.inner_text("#plane .readout") == "before the token 一: 4 positions"
    assert page.locator("#plane svg > path.faint").count() == 2 * 20, "of both models, all but the chosen one's"
    page.click('#plane [data-series="1"]')
    assert page.inner_text("#plane .readout") == "before the token ␊: 4 positions"
    page.hover("#loss svg", position={"x": 300, "y": 150})
    assert page.inner_text("#loss .readout").startswith("step ")


def test_pictures_can_be_saved(show: Callable[..., "Page"], tmp_path: Path) -> None:
    page = show(color_scheme="dark")
    for name in PICTURES:
        with page.expect_download() as download:
            page.click(f"#{name} button")
        assert download.value.suggested_filename == f"run-{name}.svg"
        download.value.save_as(tmp_path / f"{name}.svg")
        root = ElementTree.parse(tmp_path / f"{name}.svg").getroot()
        assert root.tag == f"{SVG}svg" and root[0].get("fill") == "rgb(20, 23, 27)"
        assert {node.get("fill") for node in root.iter(f"{SVG}text")} <= {
            "rgb(231, 234, 238)", "rgb(164, 173, 185)", "rgb(20, 23, 27)",
        }  # fmt: skip
        drawn = [node for node in root.iter() if node.tag in {f"{SVG}path", f"{SVG}rect"}]
        assert not any("var(" in value for node in drawn for value in node.attrib.values())


def test_simulated_models_are_warned_of(show: Callable[..., "Page"]) -> None:
    page = show({"simulated": ["target"]})
    assert "target did not run" in page.inner_text("#warning")
    assert figure(page, "bits") == "2.250", "what a simulated target says is nothing to start from"


def test_a_run_that_measured_little_shows_the_rest(show: Callable[..., "Page"]) -> None:
    training = {"validations": [], "best_step": None, "learning_rates": [], "representations": None}
    page = show({"bits_per_byte": {}, "alignment": {}, "counts": {}, "bottleneck": None, "training": training})
    assert "No held-out text" in page.inner_text("#learning") and "Not measured" in page.inner_text("#representations")
    assert page.locator("figure").evaluate_all("nodes => nodes.map(node => node.id)") == ["loss", "busy"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1440])
def test_it_can_be_read_and_nothing_sticks_out(show: Callable[..., "Page"], scheme: str, width: int) -> None:
    page = show(color_scheme=scheme, viewport={"width": width, "height": 900})
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    sticking_out = page.locator("figure svg text").evaluate_all(
        "nodes => nodes.filter(node => {"
        " const [a, b] = [node, node.ownerSVGElement].map(n => n.getBoundingClientRect());"
        " return a.left < b.left - 1 || a.right > b.right + 1; }).map(node => node.textContent)"
    )
    assert sticking_out == []
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    texts = page.locator("h1, p:visible, th, td, figure text:not(.on-colour)").evaluate_all(
        "nodes => nodes.map(n => n.ownerSVGElement ? getComputedStyle(n).fill : getComputedStyle(n).color)"
    )
    assert min(contrast(colour, paper) for colour in set(texts)) > 4.5
    shapes = page.locator("figure [class*=area-], figure [class*=line-]").evaluate_all(
        "nodes => nodes.map(n => { const s = getComputedStyle(n); return s.fill === 'none' ? s.stroke : s.fill; })"
    )
    assert len(set(shapes)) >= 6 and min(contrast(colour, paper) for colour in set(shapes)) > 3
