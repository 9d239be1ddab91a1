"""What the command line itself does: versions, failures, completion."""

import importlib.metadata
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pta_ray import cli
from pta_ray.errors import StreamError
from tests.conftest import ROOT
from tests.unit.doctor.test_job import settings


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int | str | None:
    """The exit code of `pta-ray` with these arguments, in this process."""
    monkeypatch.setattr(sys, "argv", ["pta-ray", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return ended.value.code


def test_the_version_is_that_of_the_package(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "--version") == 0
    assert capsys.readouterr().out == f"pta-ray {importlib.metadata.version('pta-ray')}\n"


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (None, 2, "error: JOB: there is no job file at nowhere.yaml"),
        (StreamError("the run has failed"), 1, "error: the run has failed"),
        (
            OSError(28, "No space left on device"),
            1,
            "error: OSError: [Errno 28] No space left on device (pta-",
        ),
    ],
)
def test_an_error_is_one_line_and_a_traceback_only_on_request(
    error: Exception | None, code: int, line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if error:

        def fail(*_: object) -> None:
            raise error

        monkeypatch.setattr(cli, "load_job", fail)
    assert run(monkeypatch, "fuse", "nowhere.yaml") == code
    shown = capsys.readouterr().err
    assert shown.startswith(line) and shown.count("\n") == 1
    assert run(monkeypatch, "--debug", "fuse", "nowhere.yaml") == code
    shown = capsys.readouterr().err
    assert shown.startswith("Traceback") and "in fuse" in shown and shown.splitlines()[-1].startswith(line)


def test_the_doctor_exits_by_the_worst_finding_and_tells_programs_all_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    path = tmp_path / "job.yaml"
    path.write_text(json.dumps(settings(tmp_path)))
    assert run(monkeypatch, "doctor", str(path), "--json") == 0
    sound = json.loads(capsys.readouterr().out)
    assert sound["severity"] in {"ok", "warning"}
    assert run(monkeypatch, "doctor", str(path), "--json", "--set", "data=nowhere.txt") == 2
    found = json.loads(capsys.readouterr().out)
    assert found["severity"] == "error"
    [error] = [finding for finding in found["findings"] if finding["severity"] == "error"]
    assert error["what"] == "data.train.0.path" and error["mend"]


def test_the_doctor_goes_on_where_the_job_file_is_broken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    (tmp_path / "job.yaml").write_text("target: [")
    assert run(monkeypatch, "doctor", str(tmp_path / "job.yaml")) == 2
    shown = capsys.readouterr().out
    assert "memory" in shown and "not valid YAML" in " ".join(shown.split())
    assert "1 error" in shown


def test_a_shell_completes_commands() -> None:
    asked = {"_PTA_RAY_COMPLETE": "complete_bash", "COMP_WORDS": "pta-ray do", "COMP_CWORD": "1"}
    code = "import sys; sys.argv[0] = 'pta-ray'; from pta_ray.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **asked}, cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.stdout.split() == ["doctor"], done.stderr
