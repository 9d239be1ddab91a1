"""An inspection as one HTML page that needs nothing else: no network, no other file."""

import base64
import gzip
from html import escape
from importlib.resources import files
from pathlib import Path

from pta_ray.inspection.model import Inspection


def write_page(inspection: Inspection, path: Path) -> None:
    """Writes the page. Its data are JSON, packed: the browser unpacks them some ten times as large."""
    # Base64 holds no character that means something in HTML, whatever the text is.
    packed = base64.b64encode(gzip.compress(inspection.model_dump_json().encode(), mtime=0)).decode()
    parts = {
        "title": escape(f"{inspection.target} ← {', '.join(inspection.sources)}"),
        "style": _part("page.css"),
        "colours": _part("colours.js"),
        "script": _part("page.js"),
        "details": _part("boundary.js"),
        "data": packed,
    }
    page = _part("page.html")
    for name, content in parts.items():
        page = page.replace(f"<!--{name}-->", content, 1)
    path.write_text(page, encoding="utf-8")


def _part(name: str) -> str:
    return (files("pta_ray.inspection") / "page" / name).read_text(encoding="utf-8")
