"""Training as users run it: interrupted, gone on with, validated, with adapters. What becomes of killed workers is in
test_faults.py, and more and fewer of them in test_submit.py."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest
from transformers import AutoModelForCausalLM

from tests.end_to_end.test_fuse import pta_ray
from tests.end_to_end.training_runs import (
    make_cache,
    train,
    train_and_kill,
)
from tests.oracles.held_out import of_result

pytestmark = pytest.mark.slow

EVERY_STEP = {"checkpoints": {"every_steps": 2}}


@pytest.fixture(scope="module")
def cached(demo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_cache(tmp_path_factory.mktemp("tokens"), demo)


def num_rows(cached: Path) -> int:
    return int(pq.read_table(cached / "cache").num_rows)


def test_a_killed_run_goes_on_as_if_nothing_had_happened(cached: Path, tmp_path: Path) -> None:
    """On as many workers; with more and fewer of them in tests/unit/training/test_trainer.py."""
    alone = train(cached, tmp_path / "alone", workers=2, **EVERY_STEP)
    expected = dict(alone["training"]["losses"])
    output = tmp_path / "fused"
    train_and_kill(cached, output, 4, workers=2, **EVERY_STEP)
    refused = pta_ray("fuse", cached / "job.yaml", "--from-cache", cached / "cache", "--set", f"output={output}")
    assert refused.returncode == 2 and "go on from it with --resume" in refused.stderr
    metrics = train(cached, output, "--resume", workers=2, **EVERY_STEP)
    losses = dict(metrics["training"]["losses"])
    assert losses.keys() == expected.keys()
    assert losses == pytest.approx(expected, abs=1e-6)
    assert metrics["training"]["num_windows"] == num_rows(cached)
    assert sum(count for name, count in metrics["counts"].items() if name.startswith("won/")) == num_rows(cached)


def test_validation_keeps_the_best_and_stops_early(demo: Path, tmp_path: Path) -> None:
    """With what differs most from the defaults; whether the loss falls is in tests/unit/training/test_trainer.py."""
    cached = make_cache(tmp_path / "cached", demo, held_out=True, targets="intervals")
    settings = {"divergence": "reverse_kl", "zero_stage": 3, "workers": 2, "clm_weight": 0.5}
    validation = {"every_steps": 2, "patience": 2}
    metrics = train(cached, tmp_path / "fused", learning_rate=0.1, validation=validation, **settings)  # diverges
    training = metrics["training"]
    assert training["stopped_early"] and training["num_windows"] < num_rows(cached)
    by_step = {step: sum(found.values()) / len(found) for step, found in training["validations"]}
    assert training["best_step"] == min(by_step, key=by_step.__getitem__) < training["steps"]
    fused = metrics["bits_per_byte"]["fused"]
    assert sum(fused.values()) / len(fused) == pytest.approx(by_step[training["best_step"]], rel=1e-4)
    assert of_result(tmp_path / "fused") == pytest.approx(fused, rel=1e-4), "the weights are those of another step"


def test_adapters_are_merged_into_an_ordinary_checkpoint(demo: Path, cached: Path, tmp_path: Path) -> None:
    lora = {"rank": 4, "alpha": 8, "dropout": 0.1}
    metrics = train(cached, tmp_path / "fused", workers=2, zero_stage=3, learning_rate=0.01, lora=lora)
    losses = [loss for _, loss in metrics["training"]["losses"]]
    third = len(losses) // 3  # an epoch
    assert sum(losses[-third:]) < sum(losses[:third])
    assert not list((tmp_path / "fused").glob("adapter*"))
    before = AutoModelForCausalLM.from_pretrained(demo / "models" / "target").state_dict()
    after = AutoModelForCausalLM.from_pretrained(tmp_path / "fused").state_dict()
    assert before.keys() == after.keys()
    changed = {name for name in before if not before[name].equal(after[name])}
    assert changed == {name for name in before if name.endswith("_proj.weight")}  # neither embeddings nor norms
