"""Everything that the doctor looks at, in order."""

import math
from collections.abc import Iterator
from pathlib import Path

from pta_ray.doctor.finding import Finding, refused
from pta_ray.doctor.machine import find_machine, gpus
from pta_ray.doctor.stack import find_stack
from pta_ray.errors import JobError
from pta_ray.job_file import load_job


def examine(job_file: Path | None, overrides: list[str], address: str | None) -> Iterator[Finding]:
    """Of this environment and machine, of the cluster at an address, and of a job."""
    names = gpus()
    yield from find_stack(bool(names))
    yield from find_machine(names)
    hosts: list[dict[str, float]] = []
    if address:
        from pta_ray.doctor.cluster import ask_cluster, find_cluster

        try:
            cluster = ask_cluster(address)
        except JobError as refusal:
            yield refused(refusal)
        else:
            yield from find_cluster(cluster)
            hosts = cluster.hosts
    else:
        # Ray is told of as many CPUs as the stages need when it is started on one machine: only GPUs can lack there.
        hosts = [{"CPU": math.inf, "GPU": float(len(names))}]
    if job_file:
        yield from _of_job(job_file, overrides, hosts)


def _of_job(job_file: Path, overrides: list[str], hosts: list[dict[str, float]]) -> Iterator[Finding]:
    try:
        job = load_job(job_file, overrides)
    except JobError as refusal:
        yield refused(refusal)
        return
    from pta_ray.doctor.job import find_job

    yield from find_job(job, hosts)
