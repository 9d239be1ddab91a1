"""`pta-ray align`, then `pta-ray fuse --from-cache`: the same as `pta-ray fuse` in one go; and epochs that read what
the first one has kept."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml

from tests.end_to_end.test_fuse import SETTINGS, pta_ray, soon_started, write_job
from tests.end_to_end.training_runs import wait_for_checkpoint

NUM_EPOCHS = 3


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
    job, cache = write_job(tmp_path, demo, **soon_started(demo, "python", "translations")), tmp_path / "cache"
    aligned = pta_ray("align", job, "--output", cache)
    assert aligned.returncode == 0, aligned.stderr
    assert not cache.with_name("cache.partial").exists() and not (tmp_path / "fused").exists()
    rows = pq.read_table(cache)  # any reader of Parquet takes the directory as it is

    planned = pta_ray("fuse", job, "--from-cache", cache, "--dry-run")
    assert planned.returncode == 0 and "train " in planned.stdout
    assert "score " not in planned.stdout and "align " not in planned.stdout
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
    assert set(of_cache["stages"]) == {"train"}, "a source or the target was scored again"
    made = json.loads((tmp_path / "later" / "fusion.json").read_text())
    assert made["models"] == json.loads((tmp_path / "fused" / "fusion.json").read_text())["models"]
    assert made["cache"]["directory"] == str(cache)


def write_job_of_epochs(folder: Path, demo: Path) -> Path:
    """One source, no held-out text, engines that start soon."""
    folder.mkdir()
    training = {**SETTINGS, "checkpoints": {"every_steps": 2}}
    job = write_job(folder, demo, **soon_started(demo, "python"), training=training)
    content = yaml.safe_load(job.read_text())
    content["data"] |= {"epochs": NUM_EPOCHS, "cache": str(folder / "cache"), "held_out": []}
    job.write_text(yaml.safe_dump(content))
    return job


def metrics_of(result: subprocess.CompletedProcess[str], output: Path) -> dict[str, Any]:
    assert result.returncode == 0, result.stderr
    metrics: dict[str, Any] = json.loads((output / "metrics.json").read_text())
    return metrics


def rows_won(metrics: dict[str, Any]) -> int:
    return sum(count for name, count in metrics["counts"].items() if name.startswith("won/"))


@pytest.fixture(scope="module")
def kept(demo: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The folder of a run of several epochs that kept the first one, and its metrics."""
    folder = tmp_path_factory.mktemp("kept") / "run"
    return folder, metrics_of(pta_ray("fuse", write_job_of_epochs(folder, demo)), folder / "fused")


@pytest.mark.slow
def test_later_epochs_score_nothing(kept: tuple[Path, dict[str, Any]]) -> None:
    folder, metrics = kept
    rows = pq.read_table(folder / "cache", columns=["window_id"]).column("window_id").to_pylist()
    assert len(set(rows)) == len(rows) > 2 * SETTINGS["batch_windows"]
    stages = metrics["stages"]
    assert [stages[name]["rows"] for name in ("score target", "score python", "align")] == [len(rows)] * 3
    assert stages["train"]["rows"] == metrics["training"]["num_windows"] == rows_won(metrics) == NUM_EPOCHS * len(rows)
    assert not [path.name for path in (folder / "cache").iterdir() if path.name.startswith(("_job", "_unfinished"))]


@pytest.mark.slow
def test_a_cache_that_was_kept_can_be_trained_from(kept: tuple[Path, dict[str, Any]]) -> None:
    """Training from a cache is the same as training from the stream, see above."""
    folder, _ = kept
    again = pta_ray("fuse", folder / "job.yaml")
    assert again.returncode == 2 and again.stderr.startswith("error: output: ")
    output = f"output={folder / 'later'}"
    planned = pta_ray("fuse", folder / "job.yaml", "--from-cache", folder / "cache", "--set", output, "--dry-run")
    assert planned.returncode == 0, planned.stderr
    assert "train " in planned.stdout and "score " not in planned.stdout


@pytest.mark.slow
def test_a_run_that_is_killed_in_its_second_epoch_goes_on_there(
    kept: tuple[Path, dict[str, Any]], demo: Path, tmp_path: Path
) -> None:
    num_rows = kept[1]["training"]["num_windows"] // NUM_EPOCHS
    folder = tmp_path / "run"
    job, output = write_job_of_epochs(folder, demo), folder / "fused"
    command = [sys.executable, "-c", "from pta_ray.cli import main; main()", "fuse", str(job)]
    with (tmp_path / "printed").open("w") as printed:
        run = subprocess.Popen(command, stdout=printed, stderr=printed, text=True, start_new_session=True)
        wait_for_checkpoint(run, output, num_rows // SETTINGS["batch_windows"] + 2)
        os.killpg(run.pid, signal.SIGKILL)
        run.wait()
    assert not (folder / "cache" / "_common_metadata").exists()
    time.sleep(5)  # Ray's processes notice that their driver is gone
    metrics = metrics_of(pta_ray("fuse", job, "--resume"), output)
    assert set(metrics["stages"]) == {"train"}, "a model scored again"
    assert metrics["training"]["num_windows"] == rows_won(metrics) == NUM_EPOCHS * num_rows
    np.testing.assert_allclose(metrics["training"]["losses"], kept[1]["training"]["losses"], atol=1e-3)
    assert pq.read_metadata(folder / "cache" / "_common_metadata").num_columns
    assert pq.read_table(folder / "cache").num_rows == num_rows
