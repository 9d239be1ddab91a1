"""What is refused before anything is loaded."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from pta_ray.cache import Description, write_description
from pta_ray.columns import WINDOW_SCHEMA, fused_rows
from pta_ray.config import Job
from pta_ray.errors import JobError
from pta_ray.preflight import check_align, check_from_cache, check_fuse, check_inspect, simulated_models


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
        check_fuse(job, simulated=False)
    assert mend in str(caught.value)


def test_validation_needs_held_out_text(tmp_path: Path) -> None:
    with pytest.raises(JobError, match=r"training\.validation.*data\.held_out"):
        check_fuse(job_with(tmp_path, {"validation": {"every_steps": 5}}), simulated=False)


def test_what_is_installed_and_named_passes(tmp_path: Path) -> None:
    training = {"validation": {"every_steps": 5}, "lora": {}, "trackers": ["tensorboard"]}
    check_fuse(job_with(tmp_path, training, True), simulated=False)


def test_what_only_training_needs_is_not_asked_of_a_cache(tmp_path: Path) -> None:
    check_align(job_with(tmp_path, {"validation": {"every_steps": 5}}), str(tmp_path / "cache"))


def simulating(job: Job, *models: int) -> Job:
    """The same job with some of its models simulated, of which there is a tokenizer and nothing else."""
    settings = job.model_dump(mode="json")
    tokenizer = Path(job.output).with_name("tokenizer")
    tokenizer.mkdir()
    for served in ([settings["target"], *settings["sources"]][i] for i in models):
        served.update(engine="simulated", model=str(tokenizer))
    return Job.model_validate(settings)


def test_a_model_that_is_simulated_needs_no_weights_where_nothing_is_trained(tmp_path: Path) -> None:
    check_align(simulating(job_with(tmp_path, {}), 0, 1), str(tmp_path / "cache"))


def test_fusing_simulated_models_must_be_asked_for_by_name(tmp_path: Path) -> None:
    job = simulating(job_with(tmp_path, {}), 1)
    with pytest.raises(JobError, match=r"^sources\.0\.engine.*made up.*--simulated"):
        check_fuse(job, simulated=False)
    check_fuse(job, simulated=True)


def test_what_is_trained_needs_weights_though_it_is_simulated(tmp_path: Path) -> None:
    with pytest.raises(JobError, match=r"^target\.model.*config\.json"):
        check_fuse(simulating(job_with(tmp_path, {}), 0), simulated=True)


def cache_of(job: Job, folder: Path) -> str:
    """A finished cache that the job has made."""
    rows = fused_rows(WINDOW_SCHEMA.empty_table(), [])
    pq.write_table(rows, folder / "0.parquet")
    names = [model.name for model in job.models]
    description = Description(
        job=job, packages={}, models={name: {"sha256": ""} for name in names}, target_tokenizer="", counts={},
        num_set_aside=0, num_rows=0,
    )  # fmt: skip
    write_description(folder, description)
    return str(folder)


def test_a_cache_remembers_that_models_were_simulated(tmp_path: Path) -> None:
    real = job_with(tmp_path, {})
    (tmp_path / "cache").mkdir()
    made = simulating(real, 1)
    cache = cache_of(made, tmp_path / "cache")
    assert simulated_models(real, None) == [] and simulated_models(made, None) == ["source"]
    with pytest.raises(JobError, match=r"^--from-cache.*simulated.*source"):
        check_from_cache(made, cache, simulated=False)
    opened = check_from_cache(made, cache, simulated=True)
    assert simulated_models(real, opened) == ["source"]


def test_a_simulated_target_is_not_measured_from_a_cache_unasked(tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir()
    real = job_with(tmp_path, {})
    cache = cache_of(real, tmp_path / "cache")
    check_from_cache(real, cache, simulated=False)
    settings = real.model_dump(mode="json")
    settings["target"]["engine"] = "simulated"
    with pytest.raises(JobError, match=r"^target\.engine"):
        check_from_cache(Job.model_validate(settings), cache, simulated=False)


@pytest.mark.parametrize("choice", ["avg_ce", "position"])
def test_an_inspection_shows_the_winners_of_min_ce_only(choice: str, tmp_path: Path) -> None:
    job = job_with(tmp_path, {})
    check_inspect(job, None, tmp_path / "page.html")
    other = job.model_copy(update={"fusion": job.fusion.model_copy(update={"choice": choice})})
    with pytest.raises(JobError, match=r"^fusion\.choice: .*--set fusion\.choice=min_ce"):
        check_inspect(other, None, tmp_path / "page.html")


def test_nothing_heavy_is_imported() -> None:
    code = "import sys, pta_ray.preflight; print(*{'torch', 'transformers', 'ray', 'vllm', 'peft'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
