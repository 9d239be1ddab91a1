"""A job that cannot run is refused at once: one line, exit code 2, nothing written."""

import json
import shutil
import time
from pathlib import Path

import pytest
import yaml

from tests.end_to_end.test_fuse import pta_ray, write_job


@pytest.fixture
def job(tmp_path: Path) -> dict:
    """A sound job as far as a dry run can tell."""
    for name in ("target", "source"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text("{}")
        (tmp_path / name / "model.safetensors").write_text("")
    (tmp_path / "text.jsonl").write_text('{"text": "words"}\n')
    return {
        "target": str(tmp_path / "target"),
        "sources": [{"model": str(tmp_path / "source")}],
        "data": {"train": [{"path": str(tmp_path / "text.jsonl")}]},
        "output": str(tmp_path / "out"),
    }


def run(folder: Path, job: dict, *arguments: str) -> tuple[int, str, float]:
    (folder / "job.yaml").write_text(yaml.safe_dump(job))
    before = sorted(folder.rglob("*"))
    begin = time.monotonic()
    result = pta_ray("fuse", folder / "job.yaml", *arguments)
    assert sorted(folder.rglob("*")) == before, "something was written"
    return result.returncode, result.stderr, time.monotonic() - begin


def test_a_dry_run_prints_the_job_and_the_places(tmp_path: Path, job: dict) -> None:
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(job))
    result = pta_ray("fuse", tmp_path / "job.yaml", "--dry-run", "--set", "alignment.top_k=7")
    assert result.returncode == 0
    assert "top_k: 7" in result.stdout and "score target" in result.stdout
    assert not (tmp_path / "out").exists()


def break_model(job: dict, folder: Path) -> None:
    job["target"] = "no/such/model"


def break_source(job: dict, folder: Path) -> None:
    (folder / "source" / "model.safetensors").unlink()


def break_key(job: dict, folder: Path) -> None:
    job["aligment"] = {}


def break_type(job: dict, folder: Path) -> None:
    job["training"] = {"learning_rate": "fast"}


def break_column(job: dict, folder: Path) -> None:
    job["data"]["train"][0]["text_column"] = "body"


def break_text(job: dict, folder: Path) -> None:
    (folder / "text.jsonl").write_text("")


def break_path(job: dict, folder: Path) -> None:
    job["data"]["held_out"] = [str(folder / "missing")]


def break_output(job: dict, folder: Path) -> None:
    job["output"] = str(folder / "source")


@pytest.mark.parametrize(
    ("harm", "field"),
    [
        (break_model, "target.model"),
        (break_source, "sources.0.model"),
        (break_key, "aligment"),
        (break_type, "training.learning_rate"),
        (break_column, "data.train.0.text_column"),
        (break_text, "data.train.0.path"),
        (break_path, "data.held_out.0.path"),
        (break_output, "output"),
    ],
)
@pytest.mark.parametrize("arguments", [("--dry-run",), ()])
def test_bad_jobs(tmp_path: Path, job: dict, harm, field: str, arguments: tuple[str, ...]) -> None:  # noqa: ANN001
    harm(job, tmp_path)
    code, printed, _ = run(tmp_path, job, *arguments)
    assert code == 2
    assert printed.startswith(f"error: {field}:") and printed.count("\n") == 1


def test_a_checkpoint_that_is_damaged_or_not_asked_for_is_refused_by_name(demo: Path, tmp_path: Path) -> None:
    job = write_job(tmp_path, demo)
    checkpoint = tmp_path / "fused.partial" / "checkpoints" / "step-00000007"
    checkpoint.mkdir(parents=True)
    (checkpoint / "checkpoint.json").write_text("{}")
    result = pta_ray("fuse", job, "--resume")
    assert result.returncode == 2 and result.stderr.startswith(f"error: --resume: {checkpoint}: checkpoint.json is ")
    assert checkpoint.is_dir()


def test_a_model_without_room_for_its_tokenizers_ids_is_refused(demo: Path, tmp_path: Path) -> None:
    narrow = shutil.copytree(demo / "models" / "python", tmp_path / "narrow")
    config = json.loads((narrow / "config.json").read_text())
    (narrow / "config.json").write_text(json.dumps({**config, "vocab_size": 100}))
    result = pta_ray("fuse", write_job(tmp_path, demo, sources=[str(narrow)]))
    assert result.returncode == 2 and result.stderr.startswith("error: sources.0.model: its tokenizer has ids up to ")
    assert not list(tmp_path.glob("fused*"))
