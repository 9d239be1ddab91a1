"""A job is looked at in all its parts, though one of them is broken."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from pta_ray.config import Job
from pta_ray.doctor.finding import Finding, Severity
from pta_ray.doctor.job import (
    check_disk_for,
    check_room,
    check_unfinished,
    check_writable,
    count_parameters,
    find_job,
    try_check,
)
from pta_ray.errors import JobError
from pta_ray.preflight import Check, check_fuse
from pta_ray.result import checkpoints_directory
from pta_ray.training.checkpoints import CheckpointStore
from tests.unit.training.test_checkpoints import write

HOSTS = [{"CPU": 16.0, "GPU": 0.0}]


def settings(folder: Path) -> dict[str, Any]:
    """Of a job that can run."""
    model = folder / "model"
    model.mkdir()
    (model / "config.json").write_text("{}")
    save_file({"a": np.zeros((3, 4), np.float16), "b": np.zeros(5, np.float16)}, model / "model.safetensors")
    (folder / "text.txt").write_text("some text")
    served = {"model": str(model), "engine": "transformers"}
    return {
        "target": served,
        "sources": [{**served, "name": "source"}],
        "data": str(folder / "text.txt"),
        "output": str(folder / "out"),
    }


def errors(job: Job) -> list[Finding]:
    return [found for found in find_job(job, HOSTS) if found.severity is Severity.ERROR]


def test_a_sound_job_is_well_in_every_part(tmp_path: Path) -> None:
    found = list(find_job(Job.model_validate(settings(tmp_path)), HOSTS))
    assert {finding.severity for finding in found} == {Severity.OK}
    assert {"output", "target.model", "sources.0.model", "data.train.0", "placement"} <= {f.what for f in found}
    assert not (tmp_path / "out").exists()


def test_everything_that_is_wrong_is_found_and_the_first_of_it_is_what_fuse_says(tmp_path: Path) -> None:
    raw = settings(tmp_path)
    raw["target"] = {"model": str(tmp_path / "nowhere"), "name": "target", "engine": "transformers"}
    raw["sources"][0]["engine"] = "simulated"
    raw["data"] = {"train": [str(tmp_path / "text.txt"), str(tmp_path / "no-text")]}
    raw["training"] = {"validation": {"every_steps": 5}}
    job = Job.model_validate(raw)
    found = errors(job)
    wanted = ["sources.0.engine", "training.validation", "target.model", "data.train.1.path"]
    assert [finding.what for finding in found] == wanted
    assert all(finding.mend for finding in found)
    with pytest.raises(JobError, match=r"^sources\.0\.engine"):
        check_fuse(job, simulated=False)


def test_a_check_that_breaks_down_is_an_error_like_any_other() -> None:
    def break_down() -> None:
        raise ZeroDivisionError("division by zero\nand more")

    found = try_check(Check("data.train.0", break_down))
    assert (found.severity, found.detail) == (Severity.ERROR, "ZeroDivisionError: division by zero")


def test_a_directory_that_cannot_be_written_to_is_named(tmp_path: Path) -> None:
    assert check_writable("output", tmp_path / "a" / "b").severity is Severity.OK
    assert list(tmp_path.iterdir()) == []
    found = check_writable("output", Path("/proc/pta-ray/out"))  # not even root writes there
    assert found.severity is Severity.ERROR and "/proc" in found.detail


def test_parameters_are_counted_from_the_headers_of_all_files(tmp_path: Path) -> None:
    save_file({"a": np.zeros((3, 4), np.float16), "b": np.zeros(5, np.float32)}, tmp_path / "model-1.safetensors")
    save_file({"c": np.zeros((), np.float32)}, tmp_path / "model-2.safetensors")
    assert count_parameters(tmp_path) == 3 * 4 + 5 + 1


@pytest.mark.parametrize(
    ("training", "bytes_of_a_parameter"),
    [
        ({}, 4 + 3 * 12),  # two checkpoints are kept while a third is written
        ({"checkpoints": {"keep_last": 1}}, 4 + 2 * 12),
        ({"validation": {"every_steps": 5}}, 4 + 4 * 12),
        ({"checkpoints": {"directory": "s3://bucket/run"}}, 4),
        ({"lora": {}}, 4),
    ],
)
def test_the_disk_holds_the_result_and_the_checkpoints(
    training: dict[str, Any], bytes_of_a_parameter: int, tmp_path: Path
) -> None:
    job = Job.model_validate({**settings(tmp_path), "training": training})
    needed = 10**9 * bytes_of_a_parameter
    assert check_disk_for(job, 10**9, needed).severity is Severity.OK
    assert check_disk_for(job, 10**9, needed - 1).severity is Severity.WARNING


def test_a_job_that_no_cluster_of_this_size_can_run_is_refused_with_the_numbers(tmp_path: Path) -> None:
    raw = settings(tmp_path)
    raw["sources"][0] |= {"engine": "vllm", "tensor_parallel": 4}
    job = Job.model_validate(raw)
    found = check_room(job, [{"CPU": 64.0, "GPU": 2.0}])
    assert found.severity is Severity.ERROR and "the cluster has 2" in found.detail
    assert check_room(job, [{"CPU": 64.0, "GPU": 8.0}]).severity is Severity.OK


def test_a_run_that_was_interrupted_is_pointed_at(tmp_path: Path) -> None:
    job = Job.model_validate(settings(tmp_path))
    assert check_unfinished(job).severity is Severity.OK
    write(CheckpointStore(checkpoints_directory(job)), 120)
    found = check_unfinished(job)
    assert found.severity is Severity.WARNING
    assert "step 120" in found.detail and "--resume" in found.mend
    (Path(checkpoints_directory(job)) / "step-00000120" / "checkpoint.json").write_text("{")
    assert check_unfinished(job).severity is Severity.ERROR


def test_weights_that_are_cut_are_found(tmp_path: Path) -> None:
    job = Job.model_validate(settings(tmp_path))
    (tmp_path / "model" / "model.safetensors").write_bytes(b"")
    [found] = errors(job)
    assert found.what == "target.model" and "cannot be read" in found.detail
