from pathlib import Path

import pytest

from pta_ray.runner import _write_report
from tests.unit.run_report.runs import write_run


def test_a_report_that_cannot_be_written_costs_one_line_and_no_result(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = write_run(tmp_path / "run")
    _write_report(run)
    assert (run / "report.html").stat().st_size > 10_000 and capsys.readouterr().out == ""

    (run / "report.html").unlink()
    (run / "metrics.json").write_text("{}")
    before = sorted(run.iterdir())
    _write_report(run)
    printed = capsys.readouterr().out
    assert printed.startswith("no report.html: RUN: ") and printed.count("\n") == 1
    assert sorted(run.iterdir()) == before
