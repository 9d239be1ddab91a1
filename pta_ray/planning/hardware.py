"""What a job would run on: processors, hosts and the network between them."""

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import yaml
from pydantic import BeforeValidator, ByteSize, Field, ValidationError

from pta_ray.errors import JobError
from pta_ray.placement import Resources
from pta_ray.settings import Settings

_REPEATS = 5  # of which the best counts: others may have the processor too
_MATRIX = 1024
_COPIED_BYTES = 64 << 20  # more than any cache holds
_CPU_FLOPS, _CPU_BANDWIDTH = 60e9, 8e9
"""Of a server's core in float32, where it cannot be measured."""
_NVLINK, _PCIE = 200e9, 20e9  # bytes a second between GPUs of a host


@dataclass(frozen=True)
class Rates:
    """What a processor does at best."""

    flops: float
    """Operations a second in matrix products, of the precision that is computed in."""
    bandwidth: float
    """Bytes a second, to and from its memory."""


@dataclass(frozen=True)
class Gpu:
    """A model of GPU, by its data sheet."""

    name: str
    rates: Rates
    """In bfloat16 (float16 where there is none), dense."""
    memory: float
    """Bytes."""
    link: float
    """Bytes a second to the other GPUs of its host."""


@dataclass(frozen=True)
class Host:
    """A machine of a cluster."""

    cpus: float
    memory: float
    """Bytes."""
    gpus: float
    gpu: Gpu | None
    cpu: Rates
    """Of one CPU."""
    network: float
    """Bytes a second."""

    @property
    def resources(self) -> Resources:
        """As Ray counts them."""
        return {"CPU": self.cpus, "GPU": self.gpus}


@dataclass(frozen=True)
class Cluster:
    """The hosts that a job would run on."""

    hosts: tuple[Host, ...]
    what: str
    """For people."""

    @property
    def gpu(self) -> Gpu | None:
        """Of the slowest kind there is; None without GPUs."""
        return min((host.gpu for host in self.hosts if host.gpu), key=lambda gpu: gpu.rates.flops, default=None)

    @property
    def resources(self) -> list[Resources]:
        """Of all hosts, as Ray counts them."""
        return [host.resources for host in self.hosts]


def _sheet(name: str, teraflops: float, gigabytes_per_second: float, gigabytes: float, link: float) -> Gpu:
    return Gpu(name, Rates(teraflops * 1e12, gigabytes_per_second * 1e9), gigabytes * 1e9, link)


GPUS = {
    gpu.name: gpu
    for gpu in (
        _sheet("A100-80G", 312, 2039, 80, _NVLINK),
        _sheet("A100-40G", 312, 1555, 40, _NVLINK),
        _sheet("A100", 312, 1555, 40, _NVLINK),
        _sheet("H100", 989, 3350, 80, _NVLINK),
        _sheet("H200", 989, 4800, 141, _NVLINK),
        _sheet("L40S", 362, 864, 48, _PCIE),
        _sheet("L4", 121, 300, 24, _PCIE),
        _sheet("A10G", 70, 600, 24, _PCIE),
        _sheet("V100", 125, 900, 16, _NVLINK),
        _sheet("T4", 65, 320, 16, _PCIE),
    )
}
"""By the names that Ray gives them."""


def _bytes_of_bits(value: object) -> object:
    """`25Gb` a second, in bytes."""
    found = re.fullmatch(r"([\d.]+)\s*Gb", str(value))
    if not found:
        raise ValueError("give it in gigabits a second, as 25Gb")
    return float(found[1]) * 1e9 / 8


class HostDescription(Settings):
    """A host of `--cluster`."""

    cpus: float = Field(gt=0)
    memory: ByteSize
    """Of the host: `128GB`."""
    gpus: int = Field(0, ge=0)
    gpu: str = "A100-80G"
    """Its model, as Ray calls it."""
    gpu_memory: ByteSize | None = None
    """Of each GPU; by default as its model has."""
    network: Annotated[float, BeforeValidator(_bytes_of_bits)] = 25e9 / 8
    """Between hosts: `25Gb` a second."""

    def host(self) -> Host:
        """With what is known of its GPUs."""
        if self.gpu not in GPUS:
            raise JobError("--cluster", f"the GPU {self.gpu!r} is not known; known are: {', '.join(GPUS)}")
        gpu = GPUS[self.gpu]
        gpu = Gpu(gpu.name, gpu.rates, float(self.gpu_memory or gpu.memory), gpu.link)
        cpu = Rates(_CPU_FLOPS, _CPU_BANDWIDTH)
        return Host(self.cpus, float(self.memory), self.gpus, gpu if self.gpus else None, cpu, self.network)


_PART = re.compile(r"\s*(?:(\d+)\s*x)?\s*(\{.*?\})\s*")


def described_cluster(description: str) -> Cluster:
    """The cluster of `8x{gpus: 1, gpu: H100, cpus: 16, memory: 128GB} + {cpus: 64, memory: 256GB}`.

    Raises:
        JobError: the description cannot be read; says how one looks.
    """
    hosts: list[Host] = []
    for part in description.split("+"):
        found = _PART.fullmatch(part)
        if not found:
            raise JobError(
                "--cluster", f"cannot read {part.strip()!r}; an example: '8x{{gpus: 1, cpus: 16, memory: 128GB}}'"
            )
        try:
            host = HostDescription.model_validate(yaml.safe_load(found[2])).host()
        except ValidationError as error:
            problem = error.errors(include_url=False)[0]
            field, message = ".".join(map(str, problem["loc"])), problem["msg"].removeprefix("Value error, ")
            raise JobError("--cluster", f"{field}: {message[0].lower()}{message[1:]}") from None
        except yaml.YAMLError:
            raise JobError("--cluster", f"cannot read {found[2]!r}") from None
        hosts += [host] * int(found[1] or 1)
    return Cluster(tuple(hosts), description)


def assumed_cluster(num_gpus: float, num_cpus: float) -> Cluster:
    """Hosts of the kind that large jobs rent, as many as have so many GPUs and CPUs."""
    of_each = HostDescription.model_validate({"gpus": 8, "cpus": 96, "memory": "1000GB", "network": "100Gb"})
    count = max(int(-(-num_gpus // of_each.gpus)), int(-(-num_cpus // of_each.cpus)), 1)
    what = f"{count}x{{gpus: 8, gpu: A100-80G, cpus: 96, memory: 1000GB, network: 100Gb}}"
    return Cluster((of_each.host(),) * count, what)


def this_machine() -> Cluster:
    """Its cores, measured; without GPUs."""
    import psutil

    cores = psutil.cpu_count() or 1
    all_cores = measure_cpu()
    of_one = Rates(all_cores.flops / cores, all_cores.bandwidth / cores)
    host = Host(cores, psutil.virtual_memory().total, 0, None, of_one, float("inf"))
    return Cluster((host,), f"this machine, without GPUs: {cores} cores")


def attached_cluster(nodes: Sequence[dict[str, float]], what: str) -> Cluster:
    """What Ray says of the hosts of a cluster: CPUs, GPUs and their model, memory."""
    hosts = []
    for node in nodes:
        kind = next((key.removeprefix("accelerator_type:") for key in node if key.startswith("accelerator_type:")), "")
        gpu = GPUS.get(kind, GPUS["A100-80G"]) if node.get("GPU") else None
        cpu = Rates(_CPU_FLOPS, _CPU_BANDWIDTH)
        memory = node.get("memory", 0.0) + node.get("object_store_memory", 0.0)
        hosts.append(Host(node.get("CPU", 0.0), memory, node.get("GPU", 0.0), gpu, cpu, 25e9 / 8))
    return Cluster(tuple(hosts), what)


def measure_cpu(clock: Callable[[], float] = time.perf_counter) -> Rates:
    """Of all the threads that numpy uses, by a product of matrices and a copy. Takes a fifth of a second.

    Args:
        clock: in seconds.
    """
    a, out = np.ones((_MATRIX, _MATRIX), np.float32), np.empty((_MATRIX, _MATRIX), np.float32)
    source, copy = np.ones(_COPIED_BYTES // 4, np.float32), np.empty(_COPIED_BYTES // 4, np.float32)
    products, copies = [], []
    for _ in range(_REPEATS):
        begin = clock()
        np.matmul(a, a, out=out)
        between = clock()
        np.copyto(copy, source)
        copies.append(clock() - between)
        products.append(between - begin)
    return Rates(2 * _MATRIX**3 / min(products), 2 * _COPIED_BYTES / min(copies))
