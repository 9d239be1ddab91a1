"""What `pta-ray fuse --address` refuses. Fusions on a cluster are in test_submit.py and test_faults.py."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from ray.cluster_utils import Cluster

from tests.end_to_end.test_fuse import SETTINGS, pta_ray, write_job

pytestmark = pytest.mark.slow


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """Neither host alone has the CPUs that the job reserves."""
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 3, "object_store_memory": 300 << 20})
    cluster.add_node(num_cpus=4, object_store_memory=300 << 20)
    cluster.wait_for_nodes()
    yield cluster
    cluster.shutdown()


def test_a_job_that_cannot_fit_is_refused_with_the_numbers(cluster: Cluster, demo: Path, tmp_path: Path) -> None:
    job = write_job(tmp_path, demo, training={**SETTINGS, "workers": 2, "cpus": 4})
    result = pta_ray("fuse", job, "--address", cluster.address)
    assert result.returncode == 2
    assert result.stderr.startswith("error: cpus: all stages together need 13 and the cluster has 7;")
    assert not (tmp_path / "fused").exists()


def test_an_address_without_a_cluster_is_refused(demo: Path, tmp_path: Path) -> None:
    result = pta_ray("fuse", write_job(tmp_path, demo), "--address", "127.0.0.1:1")
    assert result.returncode == 2 and result.stderr.startswith("error: --address:")
