import pytest

from pta_ray.config import Job
from pta_ray.errors import JobError
from pta_ray.placement import check_fit, place


def make_job(**training: object) -> Job:
    sources = [{"model": "c/d", "replicas": 2}, {"model": "e/f", "gpus": 0.25}]
    return Job.model_validate({"target": "a/b", "sources": sources, "data": "text", "training": training})


def test_every_actor_reserves_a_cpu_and_reading_half_a_one() -> None:
    placement = place(make_job(batch_windows=8), has_gpus=False)
    assert [actors.stage for actors in placement.stages] == ["read", "score b", "score d", "score f", "align", "train"]
    assert placement.cpus == 0.5 + 1 + 2 + 1 + 1 + 1
    assert placement.gpus == 0.25  # only what the job asks for by name


def test_models_and_workers_take_gpus_where_there_are_any() -> None:
    placement = place(make_job(workers=2), has_gpus=True)
    assert placement.gpus == 1 + 2 + 0.25 + 2


def test_what_does_not_fit_is_refused_with_the_numbers() -> None:
    placement = place(make_job(), has_gpus=False)
    check_fit(placement, num_cpus=6.5, num_gpus=1)
    with pytest.raises(JobError, match=r"need 6.5 and the cluster has 6;"):
        check_fit(placement, num_cpus=6, num_gpus=1)
    with pytest.raises(JobError, match=r"need 0.25 and the cluster has 0;"):
        check_fit(placement, num_cpus=7, num_gpus=0)
