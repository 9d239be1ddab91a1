from pathlib import Path

import pytest

from pta_ray.errors import JobError
from pta_ray.job_file import load_job
from pta_ray.placement import check_fit, place
from tests.conftest import ROOT

SOUND = "target: a/b\nsources: [c/d]\ndata: text.jsonl\n"


def write(folder: Path, text: str) -> Path:
    path = folder / "job.yaml"
    path.write_text(text)
    return path


@pytest.mark.parametrize("path", sorted((ROOT / "jobs").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_job_file_loads(path: Path) -> None:
    """Files of tasks are in a directory of their own (test_task_suites.py)."""
    assert load_job(path, []).sources


def test_the_papers_setting_takes_a_gpu_for_each_model_and_eight_to_train() -> None:
    job = load_job(ROOT / "jobs" / "paper.yaml", [])
    assert [model.name for model in job.models] == ["Llama-2-7b-hf", "open_llama_7b_v2", "mpt-7b"]
    placement = place(job, has_gpus=True)
    assert [(actors.stage, actors.count * actors.gpus) for actors in placement.stages if actors.gpus] == [
        ("score Llama-2-7b-hf", 1), ("score open_llama_7b_v2", 1), ("score mpt-7b", 1), ("train", 8),
    ]  # fmt: skip
    check_fit(placement, [{"CPU": 64.0, "GPU": 8.0}, {"CPU": 64.0, "GPU": 8.0}])
    with pytest.raises(JobError, match="need 11 and the cluster has 8"):
        check_fit(placement, [{"CPU": 64.0, "GPU": 8.0}])


def test_three_keys_are_enough(tmp_path: Path) -> None:
    job = load_job(write(tmp_path, SOUND), [])
    assert job.target.name == "b"
    assert job.data.train[0].domain == "text"
    assert job.output == "runs/job"


def test_overrides_reach_nested_fields_and_lists(tmp_path: Path) -> None:
    job = load_job(write(tmp_path, SOUND), ["alignment.top_k=5", "sources.0=e/f", "data={train: x.txt, seed: 3}"])
    assert (job.alignment.top_k, job.sources[0].name, job.data.seed) == (5, "f", 3)


@pytest.mark.parametrize(
    ("text", "field", "mend"),
    [
        (SOUND + "alignment: {topk: 3}", "alignment.topk", "top_k"),
        (SOUND + "alignment: {top_k: many}", "alignment.top_k", "integer"),
        (SOUND + "training: {workers: [3, 1]}", "training.workers", "[fewest, most]"),
        (SOUND + "training: {clm_weight: 2}", "training.clm_weight.start", "less than or equal to 1"),
        (SOUND + "training: {zero_stage: 0, offload_optimizer: true}", "training", "zero_stage 1, 2 or 3"),
        (SOUND + "alignment: {targets: intervals, method: mined}", "alignment", "needs method: pta"),
        (SOUND + "training: {zero_stage: 4}", "training.zero_stage", "0, 1, 2 or 3"),
        ("target: a/b\nsources: [{model: c/d, nam: x}]\ndata: t", "sources.0.nam", "name"),
        ("target: a/b\nsource: [c/d]\ndata: t", "source", "sources"),
        ("target: a/b\ndata: t", "sources", "missing"),
        ("target: a/b\nsources: []\ndata: t", "sources", "at least 1"),
        ("target: a/b\nsources: [c/b]\ndata: t", "job", "name"),
        ("target: a/b\nsources: [c/fused]\ndata: t", "job", "name"),
        ("target: a/b\nsources: [c/d]\ndata: s3://key:secret@bucket/t", "data.train.0.path", "credentials"),
        ("- just\n- a list", "JOB", "target, sources, data"),
        ("target: [", "JOB", "YAML"),
    ],
)
def test_errors_name_the_field_and_the_mend(tmp_path: Path, text: str, field: str, mend: str) -> None:
    with pytest.raises(JobError) as caught:
        load_job(write(tmp_path, text), [])
    assert caught.value.field == field
    assert mend in caught.value.problem
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("override", ["alignment.top_k", "sources.x.name=1", "sources.9=a/b", "alignment.top_k.x=1"])
def test_overrides_that_lead_nowhere_are_refused(tmp_path: Path, override: str) -> None:
    with pytest.raises(JobError):
        load_job(write(tmp_path, SOUND + "alignment: {top_k: 3}"), [override])
