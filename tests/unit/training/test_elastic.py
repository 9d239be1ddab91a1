from pta_ray.config import Job
from pta_ray.placement import place
from pta_ray.training.elastic import room_for_workers


def make_job(**training: object) -> Job:
    return Job.model_validate({"target": "a/b", "sources": ["c/d"], "data": "text", "training": training})


def test_workers_take_what_the_other_stages_leave() -> None:
    placement = place(make_job(workers=[1, 8], cpus=2), has_gpus=False)
    others = 1 + 1 + 1 + 1  # reading, two models, alignment
    assert room_for_workers(placement, {"CPU": others + 7}) == 3
    assert room_for_workers(placement, {"CPU": others + 1}) == 0


def test_workers_need_a_gpu_each_where_there_are_any() -> None:
    placement = place(make_job(workers=[1, 8]), has_gpus=True)
    assert room_for_workers(placement, {"CPU": 100, "GPU": 2 + 3}) == 3


def test_workers_leave_models_that_are_spread_over_gpus_all_of_theirs() -> None:
    job = make_job(workers=[1, 8])
    spread = job.sources[0].model_copy(update={"tensor_parallel": 4, "replicas": (2, 3)})
    placement = place(job.model_copy(update={"sources": [spread]}), has_gpus=True)
    assert room_for_workers(placement, {"CPU": 100, "GPU": 1 + 2 * 4 + 3}) == 3


def test_workers_take_nothing_from_the_fewest_actors_of_the_other_stages() -> None:
    job = make_job(workers=[2, 8])
    elastic = job.target.model_copy(update={"replicas": (2, 6)})
    placement = place(job.model_copy(update={"target": elastic}), has_gpus=False)
    others = 1 + 2 + 1 + 1
    assert [room_for_workers(placement, {"CPU": others + cpus}) for cpus in (2, 3, 20)] == [2, 3, 20]
