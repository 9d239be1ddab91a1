"""From a job and a kustomize directory to Kubernetes' objects: a RayJob of the run's name, the job in a ConfigMap."""

import copy
import shutil
import subprocess
from pathlib import Path
from typing import Any

import yaml

from pta_ray.errors import JobError
from pta_ray.submission.job import Submission

Manifest = dict[str, Any]

_CONFIG_MAP = "pta-ray-job"
"""What the manifests call the one that holds the job."""


def read_manifests(directory: Path) -> list[Manifest]:
    """What kustomize makes of a directory.

    Raises:
        JobError: it is none of kustomize's, has not one RayJob, or there is no kustomize.
    """
    command = next((tool for tool in (["kubectl", "kustomize"], ["kustomize", "build"]) if shutil.which(tool[0])), None)
    if command is None:
        raise JobError("--kubernetes", "kustomize makes the manifests: install kubectl, which has it, or kustomize")
    done = subprocess.run([*command, str(directory)], capture_output=True, text=True)
    if done.returncode:
        raise JobError("--kubernetes", " ".join(done.stderr.rpartition("err=")[2].split()))
    manifests: list[Manifest] = list(yaml.safe_load_all(done.stdout))
    num_jobs = len([manifest for manifest in manifests if manifest["kind"] == "RayJob"])
    if num_jobs != 1:
        mend = "to a cluster that stands, submit with --address" if num_jobs == 0 else "choose an overlay"
        raise JobError("--kubernetes", f"{directory} has {num_jobs} RayJobs; {mend}")
    return manifests


def name_run(manifests: list[Manifest], submission: Submission, run: str) -> tuple[list[Manifest], Manifest, Manifest]:
    """The surroundings that all runs share, the RayJob of a run, and the ConfigMap that holds its job.

    Raises:
        JobError: the RayJob does not read its job from a ConfigMap.
    """
    shared = [manifest for manifest in manifests if manifest["kind"] != "RayJob"]
    [job] = copy.deepcopy([manifest for manifest in manifests if manifest["kind"] == "RayJob"])
    metadata = job["metadata"]
    metadata["name"] = run
    volumes = job["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]["volumes"]
    mounted = [volume["configMap"] for volume in volumes if volume.get("configMap", {}).get("name") == _CONFIG_MAP]
    if not mounted:
        raise JobError("--kubernetes", f"the head of the RayJob has no volume from the ConfigMap {_CONFIG_MAP}")
    mounted[0]["name"] = run
    kept = {key: metadata[key] for key in ("namespace", "labels") if key in metadata}
    config_map = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": run, **kept},
        "data": {"job.yaml": submission.content},
    }
    return shared, job, config_map
