import itertools
from collections.abc import Sequence

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from pta_ray.config import Job, ServedModel
from pta_ray.errors import JobError
from pta_ray.placement import Actors, Placement, Resources, check_fit, in_passes, place, place_evaluation

ROOM = {"CPU": 1000.0, "GPU": 1000.0}


def make_job(**training: object) -> Job:
    sources = [{"model": "c/d", "replicas": 2}, {"model": "e/f", "gpus": 0.25}]
    return Job.model_validate({"target": "a/b", "sources": sources, "data": "text", "training": training})


def job_of(models: Sequence[dict[str, object]], **sections: object) -> Job:
    """The first model is the target."""
    served = [{"model": f"models/{i}", **model} for i, model in enumerate(models)]
    return Job.model_validate({"target": served[0], "sources": served[1:], "data": "text", **sections})


def groups(models: Sequence[dict[str, object]], has_gpus: bool) -> list[tuple[int, ...]]:
    return [actors.models for actors in place(job_of(models), has_gpus).scoring]


def test_every_actor_reserves_a_cpu_and_reading_another() -> None:
    placement = place(make_job(batch_windows=8), has_gpus=False)
    assert [actors.stage for actors in placement.stages] == ["read", "score b", "score d", "score f", "align", "train"]
    assert placement.cpus == 1 + 1 + 2 + 1 + 1 + 1
    assert placement.gpus == 0.25  # only what the job asks for by name


def test_models_and_workers_take_gpus_where_there_are_any() -> None:
    placement = place(make_job(workers=2), has_gpus=True)
    assert placement.gpus == 1 + 2 + 0.25 + 2


def test_eight_models_share_their_actors_without_gpus() -> None:
    found = groups([{}] * 18, has_gpus=False)
    assert found == [tuple(range(8)), tuple(range(8, 16)), (16, 17)]
    first, *_, last = place(job_of([{"cpus": 2, "replicas": 3}] * 18), has_gpus=False).scoring
    assert (first.count, first.cpus, first.gpus) == (3, 16.0, 0.0)
    assert (last.count, last.cpus, last.stage) == (3, 4.0, "score 16, 17")


@pytest.mark.parametrize(("gpus", "num_together"), [(0.5, 2), (0.25, 4), (0.1, 10), (0.3, 3), (0.6, 1), (1, 1), (2, 1)])
def test_as_many_models_as_fill_a_gpu_share_it(gpus: float, num_together: int) -> None:
    placement = place(job_of([{"gpus": gpus}] * 20), has_gpus=True)
    assert {len(actors.models) for actors in placement.scoring[:-1]} == {num_together}
    assert placement.scoring[0].gpus == pytest.approx(num_together * gpus)
    assert [i for actors in placement.scoring for i in actors.models] == list(range(20))


def test_models_with_a_gpu_each_have_actors_of_their_own() -> None:
    assert groups([{}] * 3, has_gpus=True) == [(0,), (1,), (2,)]


def test_models_that_are_asked_to_do_without_gpus_share_actors_beside_those_with_one() -> None:
    assert groups([{}, {"gpus": 0}, {"gpus": 0}], has_gpus=True) == [(0,), (1, 2)]


@pytest.mark.parametrize(
    "other", [{"replicas": 2}, {"replicas": [1, 2]}, {"cpus": 2}, {"gpus": 0.25}, {"engine": "transformers"}]
)
def test_models_that_reserve_something_else_stay_apart(other: dict[str, object]) -> None:
    assert groups([{}, other, {}, other], has_gpus=False) == [(0, 2), (1, 3)]


def test_a_model_that_is_spread_over_gpus_has_actors_of_its_own() -> None:
    spread = {"tensor_parallel": 2, "pipeline_parallel": 2, "replicas": 2}
    placement = place(job_of([{}, spread, spread]), has_gpus=True)
    assert [actors.models for actors in placement.scoring] == [(0,), (1,), (2,)]
    assert placement.scoring[1].parts == [{"CPU": 1, "GPU": 0}, *([{"CPU": 0, "GPU": 1}] * 4)]
    assert placement.gpus == 1 + 2 * (2 * 4) + 1
    assert placement.cpus == 1 + 1 + 2 * 2 + 1 + 1


def test_stages_reserve_for_their_fewest_and_a_machine_of_its_own_for_the_most_workers() -> None:
    sections = {"alignment": {"replicas": [2, 6]}, "training": {"workers": [1, 4], "cpus": 2}}
    placement = place(job_of([{"replicas": [2, 5]}] * 2, **sections), has_gpus=False)
    assert placement.cpus == 1 + 2 * 2 + 2 + 2
    assert placement.local_cpus == placement.cpus + 3 * 2
    [scoring] = placement.scoring
    assert (scoring.count, scoring.most, scoring.how_many) == (2, 5, "2 to 5")
    assert (placement.alignment.count, placement.alignment.most) == (2, 6)
    assert placement.reading.how_many == "1"


def test_what_does_not_fit_is_refused_with_the_numbers() -> None:
    placement = place(make_job(), has_gpus=False)
    check_fit(placement, [{"CPU": 7, "GPU": 1}])
    with pytest.raises(JobError, match=r"need 7 and the cluster has 6;"):
        check_fit(placement, [{"CPU": 4, "GPU": 1}, {"CPU": 2}])
    with pytest.raises(JobError, match=r"need 0.25 and the cluster has 0;"):
        check_fit(placement, [{"CPU": 7}])


def test_an_actor_that_no_host_has_room_for_is_refused_with_the_numbers() -> None:
    placement = place(job_of([{"cpus": 4}, {"replicas": 2}]), has_gpus=False)
    assert placement.cpus == 9
    problem = r"no host has 4 CPUs left for one more actor \(left: 2 CPUs and 0 GPUs, .*; lower cpus or gpus of target"
    with pytest.raises(JobError, match=problem):
        check_fit(placement, [{"CPU": 2}] * 5)
    check_fit(placement, [{"CPU": 2}] * 3 + [{"CPU": 4}])


def test_a_spread_model_may_have_its_gpus_on_several_hosts_but_a_whole_actor_may_not() -> None:
    host = {"CPU": 8.0, "GPU": 2.0}
    check_fit(place(job_of([{}, {"tensor_parallel": 4}], training={"gpus": 1}), has_gpus=True), [host] * 3)
    with pytest.raises(JobError, match="no host has 1 CPUs and 4 GPUs left"):
        check_fit(place(job_of([{}, {"gpus": 4}], training={"gpus": 1}), has_gpus=True), [host] * 3)


def placement_of(parts: Sequence[tuple[float, float]]) -> Placement:
    """A stage for each actor, of so many CPUs and GPUs."""
    none = Actors("none", 0, 0.0, 0.0, "")
    return Placement(none, [Actors(f"{i}", 1, *part, "") for i, part in enumerate(parts)], none, none)


def is_possible(parts: Sequence[tuple[float, float]], hosts: Sequence[Resources]) -> bool:
    """Whether any way to share the parts out among the hosts leaves none overfull."""

    def fits(host: int, choice: Sequence[int]) -> bool:
        mine = [part for part, place in zip(parts, choice, strict=True) if place == host]
        return all(
            sum(part[i] for part in mine) <= hosts[host].get(kind, 0) + 1e-9 for i, kind in enumerate(("CPU", "GPU"))
        )

    choices = itertools.product(range(len(hosts)), repeat=len(parts))
    return any(all(fits(host, choice) for host in range(len(hosts))) for choice in choices)


def is_accepted(parts: Sequence[tuple[float, float]], hosts: Sequence[Resources]) -> bool:
    try:
        check_fit(placement_of(parts), hosts)
    except JobError:
        return False
    return True


HOST = st.fixed_dictionaries(
    {"CPU": st.sampled_from([0, 1.0, 2.0, 3.0, 4.0, 6.0]), "GPU": st.sampled_from([0, 1.0, 2.0])}
)
HOSTS = st.lists(HOST, min_size=1, max_size=3)


@given(st.lists(st.tuples(st.sampled_from([0, 0.5, 1, 3]), st.sampled_from([0, 0.3, 0.5, 1])), max_size=5), HOSTS)
def test_what_is_accepted_can_be_placed(parts: list[tuple[float, float]], hosts: list[Resources]) -> None:
    assume(is_accepted(parts, hosts))
    assert is_possible(parts, hosts)


@given(st.lists(st.sampled_from([0.5, 1.0, 2.0, 4.0]), max_size=6), HOSTS)
def test_what_can_be_placed_is_not_refused_where_each_size_divides_the_next(
    cpus: list[float], hosts: list[Resources]
) -> None:
    """The room for smaller actors is then the same wherever a larger one goes. Of other sizes, such as 4, 4, 3, 3, 3
    and 3 CPUs for two hosts of 10, the largest first is not always the way to place all of them."""
    parts = [(amount, 0.0) for amount in cpus]
    assert is_accepted(parts, hosts) == is_possible(parts, hosts)


def test_a_third_of_a_gpu_fits_in_it_three_times() -> None:
    check_fit(placement_of([(1, 1 / 3)] * 3 + [(0, 0.1)] * 10), [{"CPU": 3, "GPU": 2}])
    check_fit(placement_of([(4, 0), (4, 0)]), [ROOM])


def names_of(passes: Sequence[Placement]) -> list[list[str]]:
    return [[actors.stage for actors in placement.scoring] for placement in passes]


def test_models_that_are_compared_share_a_stream_as_far_as_there_is_room() -> None:
    models = [ServedModel(model=name) for name in "abcde"]
    placement = place_evaluation(models, has_gpus=True)
    assert [actors.stage for actors in placement.stages] == [
        "read",
        *(f"score {name}" for name in "abcde"),
        "count bits",
    ]
    two_gpus = [{"CPU": 16.0, "GPU": 2.0}]
    assert names_of(in_passes(placement, two_gpus)) == [["score a", "score b"], ["score c", "score d"], ["score e"]]
    assert in_passes(placement, [{"CPU": 16.0, "GPU": 5.0}]) == [placement]
    assert names_of(in_passes(placement, [{"CPU": 3.0, "GPU": 5.0}])) == [[f"score {name}"] for name in "abcde"]


def test_a_model_that_there_is_no_room_for_is_named() -> None:
    models = [ServedModel(model="a"), ServedModel(model="b", tensor_parallel=4)]
    with pytest.raises(JobError, match="MODEL: the cluster has no room to score b, which needs 3 CPUs and 4 GPUs"):
        in_passes(place_evaluation(models, has_gpus=True), [{"CPU": 16.0, "GPU": 2.0}])
