"""How far a training that was killed and gone on with strays from one that was left alone, in nats per position."""

import subprocess
import sys
import tempfile
from pathlib import Path

from pta_ray.checkpoint import cache_directory
from tests.end_to_end.training_runs import make_cache, train, train_and_kill

SETTINGS = {"checkpoints": {"every_steps": 2}}


def measure() -> dict[str, float]:
    """The largest difference of the loss at any step: killed and resumed on two workers; and on 2, then 1, then 3."""
    demo = cache_directory() / "test-demo"
    subprocess.run(
        [sys.executable, "-m", "jobs.demo.make_demo", "--output", str(demo), "--scale", "0.02"], check=True
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        cached = make_cache(folder / "cached", demo)
        alone = losses(train(cached, folder / "alone", workers=2, **SETTINGS))
        train_and_kill(cached, folder / "same", 4, workers=2, **SETTINGS)
        same = losses(train(cached, folder / "same", "--resume", workers=2, **SETTINGS))
        train_and_kill(cached, folder / "other", 4, workers=2, **SETTINGS)
        train_and_kill(cached, folder / "other", 8, "--resume", workers=1, **SETTINGS)
        other = losses(train(cached, folder / "other", "--resume", workers=3, **SETTINGS))
    return {"resume_loss_gap": gap(alone, same), "resume_loss_gap_2_1_3_workers": gap(alone, other)}


def losses(metrics: dict[str, dict[str, list[tuple[int, float]]]]) -> dict[int, float]:
    """By step."""
    return dict(metrics["training"]["losses"])


def gap(expected: dict[int, float], found: dict[int, float]) -> float:
    """The largest difference; infinite if the runs took different steps."""
    if expected.keys() != found.keys():
        return float("inf")
    return max(abs(found[step] - expected[step]) for step in expected)
