"""`pta-ray inspect` from the command line, with real engines."""

from pathlib import Path

import pytest

from tests.end_to_end.test_fuse import pta_ray, soon_started, write_job
from tests.unit.inspection.test_page import data_of

TEXT = "def tokenize(text):\n    return text.split()\n"


def job(folder: Path, demo: Path, **changes: object) -> Path:
    """A job with fast engines, whose text is gone."""
    path = write_job(folder, demo, **soon_started(demo, "python", "translations"), **changes)
    (folder / "text" / "python.jsonl").unlink()
    return path


@pytest.mark.slow
def test_a_page_of_every_source(tmp_path: Path, demo: Path) -> None:
    result = pta_ray("inspect", job(tmp_path, demo), "--text", TEXT, "--output", tmp_path / "page.html")
    assert result.returncode == 0, result.stderr
    found = data_of((tmp_path / "page.html").read_text())
    assert (found.target, found.sources, found.left_out) == ("target", ["python", "translations"], [])
    (view,) = found.windows
    assert view.num_bytes == len(TEXT) and len(view.tokens) == len(view.bits) + 1
    assert [claim.num_spoken for claim in view.claims] == [len(view.bits)] * 3
    assert view.claims[1].bits_per_byte < view.claims[2].bits_per_byte, "the source that knows Python reads it better"


@pytest.mark.slow
def test_one_source_in_the_terminal_and_windows_as_the_stream_cuts_them(tmp_path: Path, demo: Path) -> None:
    (tmp_path / "text.txt").write_text(TEXT * 10)
    result = pta_ray(
        "inspect", job(tmp_path, demo), "--file", tmp_path / "text.txt", "--source", "python", "--plain",
        "--set", "data.window_tokens=64", "--set", "alignment.method=mined",
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert "not in the contest: translations" in result.stdout and "alignment: mined" in result.stdout
    assert "window 2 of " in result.stdout and "python: boundary 1 of" in result.stdout
    assert "translations: boundary" not in result.stdout
    assert not (tmp_path / "inspect.html").exists()


@pytest.mark.slow
def test_vllm_reads_the_text_in_a_process_that_has_not_loaded_numba(tmp_path: Path, demo: Path) -> None:
    path = write_job(tmp_path, demo)
    result = pta_ray("inspect", path, "--text", TEXT, "--source", "python", "--output", tmp_path / "page.html")
    assert result.returncode == 0, result.stderr
    assert data_of((tmp_path / "page.html").read_text()).sources == ["python"]


@pytest.mark.slow
def test_an_engine_that_fails_is_named_with_what_it_printed(tmp_path: Path, demo: Path) -> None:
    target = {"model": str(demo / "models" / "target"), "engine": "simulated", "simulated": {"failure_rate": 1}}
    path = write_job(tmp_path, demo, target=target)
    result = pta_ray("inspect", path, "--text", TEXT, "--output", tmp_path / "page.html")
    assert result.returncode == 1 and not (tmp_path / "page.html").exists()
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: target cannot read the text: its process has ended (log: ")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((), "--text: give either --text or --file"),
        (("--text", "a", "--source", "nobody"), "--source: no source is called 'nobody'; there are: source"),
        (("--text", "a", "--output", "no/such/page.html"), "--output: no/such/page.html must be a file"),
    ],
)
def test_what_cannot_be_inspected_is_refused_in_one_line(
    tmp_path: Path, arguments: tuple[str, ...], expected: str
) -> None:
    for name in ("target", "source"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text("{}")
        (tmp_path / name / "model.safetensors").write_text("")
    job_file = tmp_path / "job.yaml"
    job_file.write_text(f"target: {tmp_path / 'target'}\nsources: [{tmp_path / 'source'}]\ndata: nowhere.jsonl\n")
    result = pta_ray("inspect", job_file, *arguments)
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"error: {expected}")
