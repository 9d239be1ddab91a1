"""Hosts that are there for the training: workers go to them, and everything else keeps off."""

from collections.abc import Iterator
from typing import Any

import pytest
import ray
from ray.cluster_utils import Cluster
from ray.data import ActorPoolStrategy
from ray.util import placement_group_table

from pta_ray.config import Job
from pta_ray.pipeline import configure_streaming
from pta_ray.placement import TRAINING_RESOURCE, place
from pta_ray.sources.spread_engine import _Keeper
from pta_ray.training.elastic import scaling

pytestmark = pytest.mark.slow

JOB = Job.model_validate({"target": "a/b", "sources": ["c/d"], "data": "text", "training": {"workers": 2}})


@pytest.fixture
def other_host() -> Iterator[str]:
    """The id of the host that does not train, of two; the one that does has most of the room."""
    labels, train = {"pta-ray/stage": "train"}, {TRAINING_RESOURCE: 2}
    cluster = Cluster()
    cluster.add_node(num_cpus=8, labels=labels, resources=train, object_store_memory=200 << 20)
    node = cluster.add_node(num_cpus=3, object_store_memory=200 << 20)
    cluster.wait_for_nodes()
    ray.init(address=cluster.address, log_to_driver=False)
    yield node.node_id
    ray.shutdown()
    cluster.shutdown()


class Where:
    """An actor's host, beside that of the task before it."""

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        return {**batch, "actor": [ray.get_runtime_context().get_node_id()] * len(batch["task"])}


def where(batch: dict[str, Any]) -> dict[str, Any]:
    return {"task": [ray.get_runtime_context().get_node_id()] * len(batch["id"])}


def test_only_training_workers_go_to_the_hosts_that_train(other_host: str) -> None:
    configure_streaming(JOB)
    stream = ray.data.range(8, override_num_blocks=8).map_batches(where, num_cpus=0.5)
    pool = ActorPoolStrategy(min_size=2, max_size=2)
    rows = stream.map_batches(Where, compute=pool, num_cpus=1).take_all()
    assert {(row["task"], row["actor"]) for row in rows} == {(other_host, other_host)}
    assert len(rows) == 8

    group = _Keeper(1).reserve([{"CPU": 1.0}] * 2, wait_seconds=60)
    assert set(placement_group_table(group)["bundles_to_node_id"].values()) == {other_host}

    assert scaling(place(JOB, has_gpus=False)).resources_per_worker == {"CPU": 1.0, TRAINING_RESOURCE: 1}
