"""A model that is spread over several GPUs: its engine lives in an actor of its own, within a placement group."""

import logging
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import psutil
import ray
from ray.exceptions import RayActorError
from ray.util.placement_group import PlacementGroup, placement_group
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy, PlacementGroupSchedulingStrategy

from pta_ray.distributions import Scores
from pta_ray.errors import StreamError
from pta_ray.placement import NOT_ON_TRAINING_HOSTS
from pta_ray.sources.engine import Engine

_WAIT_SECONDS = 600.0  # a cluster that grows takes minutes to do so
_LOOK_SECONDS = 1.0


class SpreadEngine:
    """Scores through an engine that finds several GPUs reserved for its workers, as near to each other as there are.

    Ray Data's actors cannot have placement groups. So this one, which reserves no GPU, asks for a group and starts the
    engine in it; vLLM's Ray executor then puts a worker into each bundle of the group that its process is in. When this
    process ends, however it does, so do the engine and its workers, and the group.

    It has run with other engines on CPUs, and not yet with vLLM on GPUs.
    """

    def __init__(
        self, load: Callable[[], Engine], bundles: Sequence[Mapping[str, float]], wait_seconds: float = _WAIT_SECONDS
    ) -> None:
        """Starts the engine.

        Args:
            load: what the actor calls; may take as long as it needs.
            bundles: resources that are reserved, each on one host: `GPU: 1` for every worker of vLLM.
            wait_seconds: for as much of the cluster to become free.

        Raises:
            StreamError: it did not.
            RayTaskError: of `load`.
        """
        group = ray.get(_start_keeper().reserve.remote(bundles, wait_seconds))
        inside = PlacementGroupSchedulingStrategy(
            group, placement_group_bundle_index=0, placement_group_capture_child_tasks=True
        )
        self._engine = ray.remote(num_cpus=0, num_gpus=0, scheduling_strategy=inside)(_Holder).remote()
        self.max_tokens: int = ray.get(self._engine.load.remote(load))

    def score(self, sequences: Sequence[npt.NDArray[np.int32]], top_k: int) -> list[Scores]:
        """See `Engine.score`. If the engine's process is gone, this one ends too: the next one starts both anew."""
        try:
            scores: list[Scores] = ray.get(self._engine.score.remote(sequences, top_k))
        except RayActorError:
            logging.getLogger(__name__).exception("the process of an engine has ended")
            os._exit(1)
        return scores


class _Holder:
    """The actor that holds the engine."""

    _engine: Engine

    def load(self, load: Callable[[], Engine]) -> int:
        # Not at the start: Ray keeps no cause of an error there.
        self._engine = load()
        return self._engine.max_tokens

    def score(self, sequences: Sequence[npt.NDArray[np.int32]], top_k: int) -> list[Scores]:
        return self._engine.score(sequences, top_k)


class _Keeper:
    """The actor that has the group, for as long as another process of its host is there.

    When an actor ends, Ray takes away its groups only if it is a detached one, which no job ends: an ordinary one's
    stay, and keep their GPUs, until the whole job has ended too.
    """

    def __init__(self, owner_pid: int) -> None:
        self._owner = psutil.Process(owner_pid)
        threading.Thread(target=self._end_with_owner, daemon=True).start()

    def _end_with_owner(self) -> None:
        while self._owner.is_running():
            time.sleep(_LOOK_SECONDS)
        os._exit(0)

    def reserve(self, bundles: Sequence[Mapping[str, float]], wait_seconds: float) -> PlacementGroup:
        selectors = [NOT_ON_TRAINING_HOSTS] * len(bundles)
        group = placement_group([dict(bundle) for bundle in bundles], strategy="PACK", bundle_label_selector=selectors)
        if group.wait(wait_seconds):
            return group
        free = ray.available_resources()
        lacking = ", ".join(
            f"{sum(bundle.get(kind, 0) for bundle in bundles):g} {kind}s wanted, {free.get(kind, 0):g} free"
            for kind in sorted({kind for bundle in bundles for kind in bundle})
        )
        raise StreamError(f"no room for a model that is spread, within {wait_seconds:g} s: {lacking}")


def _start_keeper() -> Any:
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    return ray.remote(num_cpus=0, lifetime="detached", scheduling_strategy=here)(_Keeper).remote(os.getpid())
