import pytest

from pta_ray.errors import JobError
from pta_ray.planning.hardware import assumed_cluster, attached_cluster, described_cluster, measure_cpu


def test_a_description_names_hosts_of_several_kinds() -> None:
    cluster = described_cluster("2x{gpus: 4, gpu: H100, cpus: 32, memory: 512GB} + {cpus: 64, memory: 1TB}")
    assert cluster.resources == [{"CPU": 32, "GPU": 4}] * 2 + [{"CPU": 64, "GPU": 0}]
    assert cluster.gpu is not None
    assert (cluster.gpu.name, cluster.gpu.memory) == ("H100", 80e9)
    assert cluster.hosts[2].gpu is None
    assert cluster.hosts[2].memory == 1e12
    assert cluster.hosts[0].network == 25e9 / 8


def test_memory_of_a_gpu_and_network_can_be_told() -> None:
    [host] = described_cluster("{gpus: 1, gpu_memory: 24GB, cpus: 8, memory: 64GB, network: 100Gb}").hosts
    assert host.gpu is not None
    assert (host.gpu.memory, host.network) == (24e9, 12.5e9)


@pytest.mark.parametrize(
    ("description", "problem"),
    [
        ("8 hosts", "cannot read '8 hosts'; an example"),
        ("{gpus: 1, memory: 1GB}", "cpus: field required"),
        ("{cpus: 1, memory: much}", "memory: could not parse"),
        ("{cpus: 1, memory: 1GB, disks: 3}", "disks: extra inputs"),
        ("{cpus: 1, memory: 1GB, network: fast}", "network: give it in gigabits"),
        ("{gpus: 1, gpu: Voodoo, cpus: 1, memory: 1GB}", "'Voodoo' is not known; known are: A100"),
    ],
)
def test_a_description_that_cannot_be_read_is_refused(description: str, problem: str) -> None:
    with pytest.raises(JobError, match=f"^--cluster: .*{problem}"):
        described_cluster(description)


def test_as_many_hosts_are_assumed_as_a_job_reserves() -> None:
    assert len(assumed_cluster(11, 14).hosts) == 2
    assert len(assumed_cluster(8, 97).hosts) == 2
    assert len(assumed_cluster(0, 1).hosts) == 1


def test_an_attached_cluster_is_what_ray_says_of_it() -> None:
    nodes = [{"CPU": 8.0, "GPU": 1.0, "accelerator_type:L4": 1.0, "memory": 3e10, "object_store_memory": 1e10}]
    [host] = attached_cluster(nodes, "it").hosts
    assert host.gpu is not None
    assert (host.cpus, host.gpus, host.gpu.name, host.memory) == (8, 1, "L4", 4e10)


def test_a_processor_has_rates_of_this_century() -> None:
    rates = measure_cpu()
    assert 1e8 < rates.flops < 1e14
    assert 1e7 < rates.bandwidth < 1e13
