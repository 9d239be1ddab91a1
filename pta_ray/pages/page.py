"""Writes a page that is one file: no network, no other file."""

import base64
import gzip
from collections.abc import Sequence
from html import escape
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

from pydantic import BaseModel, ConfigDict


class Record(BaseModel):
    """Base of what a page gets to show."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def write_page(path: Path, title: str, folder: Traversable, scripts: Sequence[str], data: Record) -> None:
    """Writes the page. Its data are JSON, packed: the browser unpacks them some ten times as large.

    Args:
        folder: holds what is the page's own: `body.html`, `page.css` and its scripts.
        scripts: names of these, in the order in which they run.
    """
    shared = files("pta_ray.pages") / "shared"
    # Base64 holds no character that means something in HTML, whatever the text is.
    packed = base64.b64encode(gzip.compress(data.model_dump_json().encode(), mtime=0)).decode()
    parts = {
        "title": escape(title),
        "style": _joined(shared / "base.css", folder / "page.css"),
        "body": _joined(folder / "body.html"),
        "script": _joined(shared / "base.js", *(folder / name for name in scripts)),
        "data": packed,
    }
    page = _joined(shared / "shell.html")
    for name, content in parts.items():
        page = page.replace(f"<!--{name}-->", content, 1)
    path.write_text(page, encoding="utf-8")


def _joined(*parts: Traversable) -> str:
    return "\n".join(part.read_text(encoding="utf-8") for part in parts)
