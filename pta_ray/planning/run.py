"""A plan from what a user gives: a job, a cluster, the size of the text."""

from pathlib import Path

from pta_ray.config import Job
from pta_ray.errors import JobError
from pta_ray.placement import place
from pta_ray.planning.configurations import read_models
from pta_ray.planning.hardware import Cluster, assumed_cluster, attached_cluster, described_cluster, this_machine
from pta_ray.planning.plan import Plan, bytes_per_token, make_plan

_HERE = "here"


def plan_job(
    job: Job, cluster: str | None, address: str | None, tokens: float | None, price: float | None
) -> Plan:  # fmt: skip
    """Plans a job.

    Args:
        cluster: a description, or `here`.
        address: of a Ray cluster to ask instead.

    Raises:
        JobError: a model's configuration is not to be had, or the cluster is not there or not as described.
    """
    if cluster and address:
        raise JobError("--cluster", "give either a description or the --address of a cluster")
    if tokens is not None and tokens <= 0:
        raise JobError("--tokens", "must be above 0")
    models = read_models(job)
    if tokens is None:
        num_bytes = _local_bytes(job)
        tokens = num_bytes / bytes_per_token(models[0].architecture) if num_bytes else None
    return make_plan(job, models, _cluster(job, cluster, address), tokens, price, is_shared=cluster == _HERE)


def _cluster(job: Job, description: str | None, address: str | None) -> Cluster:
    if address:
        from pta_ray.session import ray_session

        with ray_session(address, 0) as nodes:
            return attached_cluster(nodes, f"the Ray cluster at {address}")
    if description == _HERE:
        return this_machine()
    if description:
        return described_cluster(description)
    reserved = place(job, has_gpus=True)
    return assumed_cluster(reserved.gpus, reserved.cpus)


def _local_bytes(job: Job) -> float | None:
    """Of the training text, if all of it lies here."""
    if any("://" in source.path or not Path(source.path).exists() for source in job.data.train):
        return None
    from pta_ray.text.documents import find_pieces

    pieces = [piece for i, source in enumerate(job.data.train) for piece in find_pieces(f"data.train.{i}", source)]
    return float(sum(piece.size for piece in pieces))
