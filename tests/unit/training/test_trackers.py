"""Every tracker for real: what it has stored is read back."""

from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from pta_ray.config import Job
from pta_ray.training.trackers import Trackers

CONFIG = Job.model_validate(
    {"target": "a/b", "sources": ["c/d"], "data": {"train": "t", "held_out": "h"}, "alignment": {"rho": 0.125}}
).model_dump(mode="json")


def track(name: str, directory: Path, steps: range) -> None:
    """A run from the first of the steps on."""
    trackers = Trackers.start([name], str(directory), "Bob's demo#1f2e", CONFIG, steps.start)
    for step in steps:
        trackers.log(step, {"loss": 100 * steps.start + step, "bits_per_byte/c++": 1.5})
    trackers.close()


def test_tensorboard_forgets_the_steps_that_a_resumed_run_takes_again(tmp_path: Path) -> None:
    track("tensorboard", tmp_path, range(1, 6))
    track("tensorboard", tmp_path, range(4, 9))
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    expected = [(step, 100 + step) for step in range(1, 4)] + [(step, 400 + step) for step in range(4, 9)]
    assert [(event.step, event.value) for event in events.Scalars("loss")] == expected
    assert len(events.Scalars("bits_per_byte/c__")) == 8


def test_tensorboard_shows_the_job(tmp_path: Path) -> None:
    track("tensorboard", tmp_path, range(1, 3))
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    [tag] = events.Tags()["tensors"]
    [event] = events.Tensors(tag)
    assert b"rho: 0.125" in event.tensor_proto.string_val[0]


def test_no_tracker_leaves_nothing(tmp_path: Path) -> None:
    trackers = Trackers.start([], str(tmp_path), "run", CONFIG, 1)
    trackers.log(1, {"loss": 1.0})
    trackers.close()
    assert list(tmp_path.iterdir()) == []


def test_mlflow_goes_on_in_the_same_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("sqlalchemy")
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/runs.db")
    track("mlflow", tmp_path, range(1, 6))
    track("mlflow", tmp_path, range(4, 9))
    [run] = mlflow.search_runs(experiment_names=["pta-ray"], output_format="list")
    history = mlflow.MlflowClient().get_metric_history(run.info.run_id, "loss")
    assert {(metric.step, metric.value) for metric in history} >= {(step, 400 + step) for step in range(4, 9)}
    assert {metric.step for metric in history} == set(range(1, 9))
    assert run.data.metrics["bits_per_byte/c__"] == 1.5
    assert run.data.params["alignment.rho"] == "0.125" and run.data.params["sources.0.model"] == "c/d"


def test_wandb_goes_on_under_the_same_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("PTA_RAY_SECRET", "hunter2")
    track("wandb", tmp_path, range(1, 6))
    track("wandb", tmp_path, range(4, 9))
    files = sorted((tmp_path / "wandb").rglob("run-Bob_s_demo_1f2e.wandb"))
    assert [wandb_losses(file) for file in files] == [list(range(101, 106)), list(range(404, 409))]
    assert all(b"hunter2" not in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())


def wandb_losses(path: Path) -> list[float]:
    """What an offline run's file holds: behind a head of 7 bytes, records, each behind a checksum (4 bytes), its length
    (2) and its type (1)."""
    from wandb.proto.wandb_internal_pb2 import Record

    content, at, losses = path.read_bytes(), 7, []
    assert len(content) < 1 << 15, "beyond its first block it would have more heads"
    while at < len(content):
        end = at + 7 + int.from_bytes(content[at + 4 : at + 6], "little")
        items = Record.FromString(content[at + 7 : end]).history.item
        losses += [float(item.value_json) for item in items if "loss" in (item.key, *item.nested_key)]
        at = end
    return losses
