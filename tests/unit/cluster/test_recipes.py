"""The job files in jobs/ are sound, and those for clusters fit the clusters that they name."""

import math
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from pta_ray.config import Job
from pta_ray.errors import JobError
from pta_ray.job_file import load_job
from pta_ray.placement import Actors, Resources, check_fit, place
from tests.unit.cluster.manifests import CLUSTER, OVERLAYS, ROOT, Manifest, container, groups, overlay, ray_cluster

JOBS = sorted((ROOT / "jobs").glob("*.yaml"))
RECIPES = {
    "cpu-trial": "cluster-cpu-trial",
    "gpu": "cluster-8-gpus",
    "gpu-spot": "cluster-8-gpus",
    "gpu-kueue": "cluster-8-gpus",
    "standing": "cluster-8-gpus",
    "many-sources": "cluster-many-sources",
}
"""The job that an overlay is made for."""
# As their issuers mark them: Hugging Face, AWS, GitHub, W&B's 40 hexadecimal digits as a value, private keys.
SECRETS = re.compile(
    r"hf_[A-Za-z0-9]{20}|AKIA[0-9A-Z]{16}|gh[ps]_[A-Za-z0-9]{20}|\b[0-9a-f]{40}\b|BEGIN [A-Z ]*PRIVATE KEY"
)


@pytest.mark.parametrize("path", JOBS, ids=[path.stem for path in JOBS])
def test_every_job_file_loads(path: Path) -> None:
    job = load_job(path, [])
    assert job.output


def hosts(name: str, size: str) -> dict[str, list[Resources]]:
    """By group, the hosts of an overlay's cluster.

    Args:
        size: `minReplicas`, when it starts, or `maxReplicas`, when it has grown as far as it may.
    """
    return {group: [_resources(spec)] * spec[size] for group, spec in groups(ray_cluster(overlay(name))).items()}


def _resources(group: Manifest) -> dict[str, float]:
    limits = container(group)["resources"]["limits"]
    found = {"CPU": float(limits["cpu"]), "GPU": float(limits.get("nvidia.com/gpu", 0))}
    return found | {kind: float(amount) for kind, amount in group.get("resources", {}).items()}


def job_of(name: str) -> Job:
    return load_job(ROOT / "jobs" / f"{RECIPES[name]}.yaml", [])


def without(actors: Actors) -> Actors:
    return replace(actors, count=0, most=0)


def flat(by_group: Mapping[str, list[Resources]]) -> list[Resources]:
    return [host for some in by_group.values() for host in some]


@pytest.mark.parametrize("name", OVERLAYS)
def test_a_recipe_starts_on_the_cluster_as_it_starts(name: str) -> None:
    by_group = hosts(name, "minReplicas")
    has_gpus = any(host["GPU"] for host in flat(by_group))
    placement = place(job_of(name), has_gpus)
    check_fit(placement, flat(by_group))
    # The other stages keep off the hosts that train.
    training = by_group.pop("train")
    check_fit(replace(placement, training=without(placement.training)), flat(by_group))
    assert room_for_workers(training, placement.training) >= placement.training.count


@pytest.mark.parametrize("name", OVERLAYS)
def test_the_cluster_has_room_for_what_a_recipe_may_grow_to(name: str) -> None:
    by_group = hosts(name, "maxReplicas")
    training = by_group.pop("train")
    placement = place(job_of(name), has_gpus=name != "cpu-trial")
    grown = replace(
        placement,
        scoring=[replace(actors, count=max(actors.count, actors.most)) for actors in placement.scoring],
        alignment=replace(placement.alignment, count=placement.alignment.most),
        training=without(placement.training),
    )
    check_fit(grown, flat(by_group))
    assert room_for_workers(training, placement.training) >= placement.training.most


@pytest.mark.parametrize("name", ["cpu-trial", "gpu", "many-sources"])
def test_no_group_starts_with_more_than_a_recipe_needs(name: str) -> None:
    by_group = hosts(name, "minReplicas")
    del by_group["train"]
    placement = place(job_of(name), has_gpus=name != "cpu-trial")
    for group in [group for group, some in by_group.items() if some]:
        fewer = {**by_group, group: by_group[group][1:]}
        with pytest.raises(JobError):
            check_fit(replace(placement, training=without(placement.training)), flat(fewer))


def room_for_workers(hosts: list[Resources], workers: Actors) -> float:
    """One for each unit of `train`, as far as there are CPUs and GPUs."""
    return sum(
        min(host["train"], host["CPU"] // workers.cpus, host["GPU"] // workers.gpus if workers.gpus else math.inf)
        for host in hosts
    )


def test_no_file_for_clusters_holds_a_secret() -> None:
    paths = [path for folder in (CLUSTER, ROOT / "jobs") for path in folder.rglob("*") if path.is_file()]
    assert len(paths) > 25
    assert [path.name for path in paths if SECRETS.search(path.read_text(errors="replace"))] == []


@pytest.mark.parametrize("secret", ["hf_" + "a1" * 17, "AKIA" + "A" * 16, "0f" * 20, "-----BEGIN RSA PRIVATE KEY-----"])
def test_a_secret_would_be_found(secret: str) -> None:
    assert SECRETS.search(yaml.safe_dump({"env": [{"name": "X", "value": secret}]}))
