import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from pta_ray.board import Process, SetAside, Snapshot
from pta_ray.cache import Cache, Description
from pta_ray.config import Job
from pta_ray.errors import JobError
from pta_ray.result import CHECKPOINTS, QUARANTINE_SCHEMA, describe, staging_directory, staging_path, write_quarantine


def test_a_result_appears_in_one_step(tmp_path: Path) -> None:
    output = tmp_path / "deep" / "out"
    with staging_directory(output) as staging:
        (staging / "model.safetensors").write_text("weights")
        (staging / ".ray").mkdir()
        assert not output.exists()
    assert [path.name for path in output.iterdir()] == ["model.safetensors"]
    assert not staging.exists()


def test_a_failure_leaves_no_result_and_keeps_the_log(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), staging_directory(tmp_path / "out") as staging:
        (staging / "fuse.log").write_text("why")
        raise RuntimeError
    assert not (tmp_path / "out").exists()
    assert (staging / "fuse.log").read_text() == "why"


def test_a_run_that_was_killed_before_its_first_checkpoint_is_started_over(tmp_path: Path) -> None:
    killed = staging_path(tmp_path / "fused")
    (killed / "half").mkdir(parents=True)
    (killed / "half" / "model.safetensors").touch()
    with staging_directory(tmp_path / "fused") as staging:
        assert list(staging.iterdir()) == []
        (staging / "config.json").touch()
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["config.json"]


def test_a_refused_run_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(JobError), staging_directory(tmp_path / "out"):
        raise JobError("cpus", "too few")
    assert list(tmp_path.iterdir()) == []


def test_what_a_run_that_failed_has_kept_stays_until_the_result_is_there(tmp_path: Path) -> None:
    for error in (RuntimeError(), JobError("--resume", "damaged")):
        with pytest.raises(type(error)), staging_directory(tmp_path / "out") as staging:
            (staging / CHECKPOINTS).mkdir(exist_ok=True)
            raise error
        assert (staging / CHECKPOINTS).is_dir()
    with staging_directory(tmp_path / "out") as staging:
        assert (staging / CHECKPOINTS).is_dir()
    assert list((tmp_path / "out").iterdir()) == []


def test_a_result_says_which_models_and_which_cache_made_it(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    models = [{"model": str(tmp_path / "model"), "name": name} for name in ("target", "source")]
    job = Job.model_validate({"target": models[0], "sources": models[1:], "data": "text"})
    snapshot = Snapshot(outcome={"steps": 12, "best_step": None, "set_aside": []})
    for rows, end in ((3, 4.0), (1, 8.0)):
        snapshot.stages["align"].add(Process("host", 1, 0.0), end, rows, tokens=40, seconds=1.0)
    describe(tmp_path, job, None, {}, snapshot, 1.0)
    direct = json.loads((tmp_path / "fusion.json").read_text())
    assert set(direct) == {"packages", "models"} and direct["models"].keys() == {"target", "source"}
    assert direct["models"]["target"]["sha256"] == direct["models"]["source"]["sha256"]

    made = Description(
        job=job, packages={"ray": "1"}, models={name: {"sha256": "f00"} for name in ("target", "source")},
        target_tokenizer="", counts={}, num_set_aside=0, num_rows=7,
    )  # fmt: skip
    describe(tmp_path, job, Cache(tmp_path / "cache", [], made), {}, snapshot, 1.0)
    later = json.loads((tmp_path / "fusion.json").read_text())
    assert later["models"] == made.models, "the sources of a cache need not be there any more"
    assert later["cache"] == {"directory": str(tmp_path / "cache"), "num_rows": 7, "packages": {"ray": "1"}}
    assert later["packages"] == direct["packages"]
    assert "12" in (tmp_path / "README.md").read_text()
    assert json.loads((tmp_path / "metrics.json").read_text())["stages"]["align"] == {
        "rows": 4, "tokens": 80, "tokens_per_second": 16.0, "busy_share": 0.4, "failures": 0, "processes": 1,
    }  # fmt: skip
    assert not (tmp_path / "quarantine.parquet").exists()


def test_what_was_set_aside_can_be_read_again(tmp_path: Path) -> None:
    path = tmp_path / "_quarantine.parquet"
    scored, read = SetAside("code/a.jsonl:7:0", "score coder", "not finite", 0.25), SetAside("b:1", "read", "bad", 0.0)
    write_quarantine(path, Snapshot(set_aside=[scored, read], outcome={"set_aside": ["code/a.jsonl:9:0"]}))
    rows = pq.read_table(path)
    assert rows.schema == QUARANTINE_SCHEMA
    assert [SetAside(*row.values()) for row in rows.to_pylist()[:2]] == [scored, read]
    last = rows.to_pylist()[2]
    assert (last["window_id"], last["stage"], last["share"]) == ("code/a.jsonl:9:0", "train", None)

    write_quarantine(path, Snapshot(outcome={"set_aside": ["w"]}))
    assert pq.read_table(path).column("window_id").to_pylist() == ["w"], "a run that goes on writes it anew"
    write_quarantine(path, Snapshot())
    assert list(tmp_path.iterdir()) == []
