"""An engine in a placement group of its own, on CPUs: it lives and dies with the process that asked for it."""

import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np
import numpy.typing as npt
import psutil
import pytest
import ray
from ray.exceptions import RayActorError
from ray.util import placement_group_table
from ray.util.placement_group import get_current_placement_group

from pta_ray.config import ServedModel, Simulated
from pta_ray.distributions import Scores
from pta_ray.errors import StreamError, root_cause
from pta_ray.sources.engine import Engine, is_out_of_memory
from pta_ray.sources.simulated_engine import SimulatedEngine
from pta_ray.sources.spread_engine import SpreadEngine

BUNDLES = [{"CPU": 1.0}, {"CPU": 1.0}]
SEQUENCE = np.arange(20, dtype=np.int32)


class SpyingEngine(SimulatedEngine):
    """Also tells where it is: as the first two ids of what it is asked to score nothing of."""

    def score(self, sequences: Sequence[npt.NDArray[np.int32]], top_k: int) -> list[Scores]:
        if sequences:
            return super().score(sequences, top_k)
        group = get_current_placement_group()
        place = np.array([os.getpid(), group.bundle_count if group else 0], np.int32)
        nothing = np.zeros((1, 1), np.float32)
        return [Scores(place, nothing[:, 0], nothing.astype(np.int32), nothing)]


def load(**simulated: float) -> Engine:
    settings = Simulated.model_validate({"tokens_per_second": 1e9, **simulated})
    return SpyingEngine(ServedModel(model="any", engine="simulated", simulated=settings), 512, 500)


class Owner:
    """As a scoring actor: it holds the engine."""

    def __init__(self, load_inner: Callable[[], Engine]) -> None:
        self._engine = SpreadEngine(load_inner, BUNDLES)

    def pid(self) -> int:
        return os.getpid()

    def score(self, sequences: Sequence[npt.NDArray[np.int32]], top_k: int) -> list[Scores]:
        return self._engine.score(sequences, top_k)


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


def owner_of(load_inner: Callable[[], Engine]) -> ray.actor.ActorHandle:
    return ray.remote(num_cpus=0)(Owner).remote(load_inner)


def until(happened: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def groups() -> list[str]:
    return [found["state"] for found in placement_group_table().values() if found["state"] != "REMOVED"]


def everything_is_free() -> bool:
    return ray.available_resources().get("CPU") == 2 and not groups()


def test_it_scores_as_the_engine_that_it_holds() -> None:
    owner = owner_of(load)
    [through], [direct] = ray.get(owner.score.remote([SEQUENCE], 5)), load().score([SEQUENCE], 5)
    np.testing.assert_array_equal(through.top_ids_MK, direct.top_ids_MK)
    np.testing.assert_array_equal(through.next_log_probs_M, direct.next_log_probs_M)
    ray.kill(owner)
    until(everything_is_free)


def test_the_engine_is_in_a_group_of_its_own_and_may_start_workers_there() -> None:
    owner = owner_of(load)
    [place] = ray.get(owner.score.remote([], 5))
    pid, num_bundles = place.ids_L
    assert num_bundles == 2 and pid != ray.get(owner.pid.remote())
    assert ray.available_resources().get("CPU", 0) == 0
    ray.kill(owner)
    until(everything_is_free)


def test_nothing_is_left_when_the_owner_is_killed() -> None:
    owner = owner_of(load)
    [place] = ray.get(owner.score.remote([], 5))
    inner = psutil.Process(int(place.ids_L[0]))
    os.kill(ray.get(owner.pid.remote()), signal.SIGKILL)
    until(everything_is_free)
    until(lambda: not inner.is_running() or inner.status() == psutil.STATUS_ZOMBIE)


def test_the_owner_ends_with_its_engine() -> None:
    owner = owner_of(load)
    [place] = ray.get(owner.score.remote([], 5))
    os.kill(int(place.ids_L[0]), signal.SIGKILL)
    with pytest.raises(RayActorError):
        ray.get(owner.score.remote([SEQUENCE], 5))
    until(everything_is_free)


def test_an_engine_without_memory_is_known_as_such() -> None:
    owner = owner_of(partial(load, memory_tokens=64))
    with pytest.raises(MemoryError) as caught:
        ray.get(owner.score.remote([SEQUENCE], 5))
    assert is_out_of_memory(caught.value) and isinstance(root_cause(caught.value), MemoryError)
    ray.kill(owner)
    until(everything_is_free)


def test_what_is_lacking_is_named() -> None:
    with pytest.raises(StreamError, match="3 CPUs wanted, 2 free"):
        SpreadEngine(load, [{"CPU": 1.0}] * 3, wait_seconds=1)
