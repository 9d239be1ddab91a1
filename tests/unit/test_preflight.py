"""What is refused before anything is loaded."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pta_ray.config import Job
from pta_ray.errors import JobError
from pta_ray.preflight import check_align, check_fuse


def job_with(folder: Path, training: dict[str, Any], held_out: bool = False) -> Job:
    """A job that can run but for its training."""
    model = folder / "model"
    model.mkdir()
    (model / "config.json").write_text("{}")
    (model / "model.safetensors").write_bytes(b"")
    (folder / "text.txt").write_text("some text")
    served = {"model": str(model), "engine": "transformers"}
    text = str(folder / "text.txt")
    return Job.model_validate(
        {
            "target": served,
            "sources": [{**served, "name": "source"}],
            "data": {"train": text, "held_out": [text] if held_out else []},
            "training": training,
            "output": str(folder / "out"),
        }
    )


def without(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    """As on a machine where the package is not installed."""
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.setattr(sys, "path_importer_cache", {})
    monkeypatch.delitem(sys.modules, package, raising=False)


@pytest.mark.parametrize(
    ("training", "package", "mend"),
    [
        ({"trackers": ["wandb"]}, "wandb", "pip install wandb"),
        ({"trackers": ["mlflow"]}, "mlflow", "pip install mlflow"),
        ({"trackers": [], "lora": {}}, "peft", "pip install 'pta-ray[lora]'"),
    ],
)
def test_a_package_that_is_missing_is_named_with_what_installs_it(
    training: dict[str, Any], package: str, mend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = job_with(tmp_path, training)
    without(monkeypatch, package)
    with pytest.raises(JobError, match=f"^training.*{package} is not installed") as caught:
        check_fuse(job)
    assert mend in str(caught.value)


def test_validation_needs_held_out_text(tmp_path: Path) -> None:
    with pytest.raises(JobError, match=r"training\.validation.*data\.held_out"):
        check_fuse(job_with(tmp_path, {"validation": {"every_steps": 5}}))


def test_what_is_installed_and_named_passes(tmp_path: Path) -> None:
    check_fuse(job_with(tmp_path, {"validation": {"every_steps": 5}, "lora": {}, "trackers": ["tensorboard"]}, True))


def test_what_only_training_needs_is_not_asked_of_a_cache(tmp_path: Path) -> None:
    check_align(job_with(tmp_path, {"validation": {"every_steps": 5}}), str(tmp_path / "cache"))


def test_nothing_heavy_is_imported() -> None:
    code = "import sys, pta_ray.preflight; print(*{'torch', 'transformers', 'ray', 'vllm', 'peft'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
