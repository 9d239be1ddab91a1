"""An inspection as one HTML page that needs nothing else: no network, no other file."""

from importlib.resources import files
from pathlib import Path

from pta_ray.inspection.model import Inspection
from pta_ray.pages import page


def write_page(inspection: Inspection, path: Path) -> None:
    """Writes the page."""
    title = f"{inspection.target} ← {', '.join(inspection.sources)}"
    folder = files("pta_ray.inspection") / "page"
    page.write_page(path, title, folder, ["colours.js", "boundary.js", "page.js"], inspection)
