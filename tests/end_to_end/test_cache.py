"""`pta-ray align`, then `pta-ray fuse --from-cache`: the same as `pta-ray fuse` in one go."""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml

from tests.end_to_end.test_fuse import pta_ray, write_job


@pytest.fixture
def job(tmp_path: Path) -> Path:
    """A sound job as far as can be told without loading anything."""
    for name in ("target", "source"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text("{}")
        (tmp_path / name / "model.safetensors").write_text("")
    (tmp_path / "text.jsonl").write_text('{"text": "words"}\n')
    content = {"target": str(tmp_path / "target"), "sources": [str(tmp_path / "source")]}
    content |= {"data": {"train": str(tmp_path / "text.jsonl")}, "output": str(tmp_path / "out")}
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(content))
    return tmp_path / "job.yaml"


def refusal(folder: Path, *arguments: str | Path) -> str:
    """What a refused command printed: one line, and nothing written."""
    before = sorted(folder.rglob("*"))
    result = pta_ray(*arguments)
    assert result.returncode == 2 and result.stderr.count("\n") == 1
    assert sorted(folder.rglob("*")) == before, "something was written"
    return result.stderr


def test_an_alignment_onto_something_is_refused(job: Path, tmp_path: Path) -> None:
    printed = refusal(tmp_path, "align", job, "--output", tmp_path / "source")
    assert printed.startswith(f"error: --output: {tmp_path / 'source'} already holds a result;")


def test_training_from_what_is_no_finished_cache_is_refused(job: Path, tmp_path: Path) -> None:
    printed = refusal(tmp_path, "fuse", job, "--from-cache", tmp_path / "source")
    assert printed.startswith(f"error: --from-cache: {tmp_path / 'source'} is not a finished cache")


def test_a_dry_run_of_an_alignment_shows_where_it_ends(job: Path, tmp_path: Path) -> None:
    result = pta_ray("align", job, "--output", tmp_path / "cache", "--dry-run")
    assert result.returncode == 0, result.stderr
    assert "write" in result.stdout and "train " not in result.stdout
    assert not list(tmp_path.glob("cache*"))


@pytest.mark.slow
def test_training_from_a_cache_is_training_from_the_stream(demo: Path, tmp_path: Path) -> None:
    job, cache = write_job(tmp_path, demo), tmp_path / "cache"
    aligned = pta_ray("align", job, "--output", cache)
    assert aligned.returncode == 0, aligned.stderr
    assert not cache.with_name("cache.partial").exists() and not (tmp_path / "fused").exists()
    rows = pq.read_table(cache)  # any reader of Parquet takes the directory as it is

    planned = pta_ray("fuse", job, "--from-cache", cache, "--dry-run")
    assert planned.returncode == 0 and "evaluate fused" in planned.stdout and "score " not in planned.stdout
    printed = refusal(tmp_path, "fuse", job, "--from-cache", cache, "--set", "alignment.top_k=5")
    assert printed.startswith("error: alignment.top_k: is 5, and the cache was made with 10;")
    another = f"target={{model: {demo / 'models' / 'python'}, name: target}}"
    printed = refusal(tmp_path, "fuse", job, "--from-cache", cache, "--set", another)
    assert printed.startswith("error: target.model:") and "than the cache was made for" in printed

    later = pta_ray("fuse", job, "--from-cache", cache, "--set", f"output={tmp_path / 'later'}")
    assert later.returncode == 0, later.stderr
    assert "source python" in later.stdout and "target, before" in later.stdout
    direct = pta_ray("fuse", job)
    assert direct.returncode == 0, direct.stderr

    of_cache, of_stream = (json.loads((tmp_path / n / "metrics.json").read_text()) for n in ("later", "fused"))
    np.testing.assert_allclose(of_cache["training"]["losses"], of_stream["training"]["losses"], atol=1e-3)
    assert of_cache["bits_per_byte"].keys() == of_stream["bits_per_byte"].keys()
    for model, domains in of_stream["bits_per_byte"].items():
        assert of_cache["bits_per_byte"][model] == pytest.approx(domains, abs=1e-3)
    assert of_cache["counts"] == pytest.approx(of_stream["counts"], rel=1e-3)

    trained = of_stream["stages"]["train"]["rows"]
    assert rows.num_rows == of_cache["stages"]["train"]["rows"] == trained
    assert len(set(rows.column("window_id").to_pylist())) == trained
    assert set(of_cache["stages"]) == {"train", "evaluate fused"}, "a source or the target was scored again"
    made = json.loads((tmp_path / "later" / "fusion.json").read_text())
    assert made["models"] == json.loads((tmp_path / "fused" / "fusion.json").read_text())["models"]
    assert made["cache"]["directory"] == str(cache)
