"""Writes the report of a run."""

from importlib.resources import files
from pathlib import Path

from pta_ray.pages.page import write_page
from pta_ray.run_report.read import read_run

REPORT = "report.html"
_SCRIPTS = ["svg.js", "curves.js", "bars.js", "points.js", "page.js"]


def write_report(run: Path, output: Path) -> None:
    """Reads what a run has left in its output directory and writes it as a page. Raises as `read_run`."""
    report = read_run(run)
    write_page(output, f"{report.name}: fusion report", files("pta_ray.run_report") / "page", _SCRIPTS, report)
