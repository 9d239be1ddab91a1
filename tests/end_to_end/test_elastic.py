"""A training on a cluster whose hosts come and go."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from ray.cluster_utils import Cluster

from tests.end_to_end.training_runs import SECONDS, make_cache, start, wait_for_checkpoint

pytestmark = pytest.mark.slow

SETTINGS: dict[str, Any] = {"batch_windows": 2, "checkpoints": {"every_steps": 5}, "workers": [1, 2]}


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """One host for the rest of the stream and a worker; another one for one more worker."""
    cluster = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 4, "resources": {"train": 1}, "object_store_memory": 300 << 20},
    )
    yield cluster
    cluster.shutdown()


def add_host(cluster: Cluster) -> Any:
    host = cluster.add_node(num_cpus=1, resources={"train": 1}, object_store_memory=100 << 20)
    cluster.wait_for_nodes()
    return host


def test_training_grows_and_shrinks_with_the_cluster_and_learns_from_every_window_once(
    cluster: Cluster, demo: Path, tmp_path: Path
) -> None:
    cached, output = make_cache(tmp_path / "cached", demo, num_documents=6), tmp_path / "fused"
    # The driver belongs to the first host: it would go with the other one.
    run = start(cached, output, "--address", cluster.address, **SETTINGS)
    wait_for_checkpoint(run, output, 20)
    host = add_host(cluster)
    wait_for_checkpoint(run, output, 20, num_workers=2)
    cluster.remove_node(host, allow_graceful=False)
    printed, _ = run.communicate(timeout=2 * SECONDS)
    assert run.returncode == 0, printed
    numbers = [line.split(" worker")[0][-1] for line in printed.splitlines() if " worker" in line]
    assert [n for i, n in enumerate(numbers) if i == 0 or n != numbers[i - 1]] == ["1", "2", "1"]
    metrics = json.loads((output / "metrics.json").read_text())
    num_rows = pq.read_table(cached / "cache").num_rows
    assert metrics["training"]["num_windows"] == num_rows
    assert sum(count for name, count in metrics["counts"].items() if name.startswith("won/")) == num_rows
    assert len(metrics["training"]["losses"]) == -(-num_rows // SETTINGS["batch_windows"])
