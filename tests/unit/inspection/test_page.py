"""The page as a file: whole, without anything that reaches outside, and with the inspection in it."""

import base64
import gzip
import re
from pathlib import Path

import pytest

from pta_ray.config import Alignment
from pta_ray.inspection.model import Inspection
from pta_ray.inspection.page import write_page
from tests.unit.inspection.cases import by_hand, inspect_world


@pytest.fixture
def found() -> Inspection:
    return inspect_world(by_hand(), Alignment())


def data_of(page: str) -> Inspection:
    """What a browser unpacks."""
    match = re.search(r'<script type="text/plain" id="data">([A-Za-z0-9+/=]+)</script>', page)
    assert match
    return Inspection.model_validate_json(gzip.decompress(base64.b64decode(match[1])))


def test_the_inspection_is_in_the_page_and_nothing_is_left_to_fill_in(found: Inspection, tmp_path: Path) -> None:
    write_page(found, tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert data_of(page) == found
    assert "<!--" not in page and page.startswith("<!doctype html>")


def test_nothing_reaches_outside(found: Inspection, tmp_path: Path) -> None:
    write_page(found, tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert "default-src 'none'" in page
    assert not re.search(r"https?:|//\w|\bsrc=|\bhref=|@import|url\(", re.sub(r"(?<=id=\"data\">)[^<]+", "", page))


def test_names_cannot_end_a_script(found: Inspection, tmp_path: Path) -> None:
    hostile = found.model_copy(update={"target": "</title></script><b>&", "labels": [["</script>"]]})
    write_page(hostile, tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert page.count("</script>") == 2 and "<b>" not in page
    assert data_of(page).labels == [["</script>"]]
