"""What every pod of this project must be, Kubernetes' `restricted` standard and then some; and what KubeRay refuses."""

import re
from collections.abc import Iterator

from tests.unit.cluster.manifests import Manifest, container

_SECRET = re.compile(r"TOKEN|PASSWORD|SECRET|CREDENTIAL|API_KEY", re.IGNORECASE)


def violations(template: Manifest) -> list[str]:
    """Of a pod template."""
    return list(_violations(template["spec"]))


def container_violations(container: Manifest) -> list[str]:
    """Of the security context alone."""
    context = container.get("securityContext", {})
    wanted = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
    return [f"{key} is not {value}" for key, value in wanted.items() if context.get(key) != value]


def _violations(pod: Manifest) -> Iterator[str]:
    context = pod.get("securityContext", {})
    if context.get("runAsNonRoot") is not True or not context.get("runAsUser"):
        yield "may run as root"
    if context.get("seccompProfile", {}).get("type") != "RuntimeDefault":
        yield "no seccomp profile"
    yield from (f"{key} is set" for key in ("hostNetwork", "hostPID", "hostIPC") if pod.get(key))
    yield from (f"volume {volume['name']} is of the host" for volume in pod.get("volumes", []) if "hostPath" in volume)
    mounted = {volume["name"] for volume in pod.get("volumes", [])}
    for one in [*pod["containers"], *pod.get("initContainers", [])]:
        yield from container_violations(one)
        yield from _unlimited(one)
        image, _, tag = one["image"].rpartition(":")
        if not image or tag == "latest":
            yield f"image {one['image']} is not of one version"
        for variable in one.get("env", []):
            if _SECRET.search(variable["name"]) and "secretKeyRef" not in variable.get("valueFrom", {}):
                yield f"{variable['name']} is not from a Secret"
        yield from (f"port {port} is open" for port in one.get("ports", []) if "hostPort" in port)
        mounted -= {mount["name"] for mount in one["volumeMounts"]}
    yield from (f"volume {name} is mounted nowhere" for name in sorted(mounted))


def _unlimited(container: Manifest) -> Iterator[str]:
    for side in ("requests", "limits"):
        found = container.get("resources", {}).get(side, {})
        yield from (f"no {side} of {kind}" for kind in ("cpu", "memory") if kind not in found)


def refusals(job: Manifest) -> list[str]:
    """What KubeRay's operator refuses in a RayJob although its schema allows it, as far as it can happen here."""
    return list(_refusals(job["spec"]))


def _refusals(spec: Manifest) -> Iterator[str]:
    cluster, shuts_down = spec["rayClusterSpec"], spec.get("shutdownAfterJobFinishes", False)
    rules = spec.get("deletionStrategy", {}).get("deletionRules", [])
    if rules and shuts_down:
        yield "deletionRules and shutdownAfterJobFinishes"
    if not shuts_down and (spec.get("suspend") or spec.get("ttlSecondsAfterFinished")):
        yield "suspend or ttlSecondsAfterFinished without shutdownAfterJobFinishes"
    if any({"jobStatus", "jobDeploymentStatus"} <= rule["condition"].keys() for rule in rules):
        yield "a rule of two conditions"
    autoscales = cluster.get("enableInTreeAutoscaling", False)
    if autoscales and any(rule["policy"] == "DeleteWorkers" for rule in rules):
        yield "DeleteWorkers with an autoscaler"
    second = cluster.get("autoscalerOptions", {}).get("version") == "v2"
    for group in cluster["workerGroupSpecs"]:
        if not second and {"idleTimeoutSeconds", "priority"} & group.keys():
            yield f"{group['groupName']}: needs the second autoscaler"
        if not 0 <= group["minReplicas"] <= group["maxReplicas"]:
            yield f"{group['groupName']}: minReplicas above maxReplicas"
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        if group.get("resources") and {"num-cpus", "num-gpus", "memory", "resources"} & group["rayStartParams"].keys():
            yield "resources in two places"
        if second and group["template"]["spec"].get("restartPolicy", "Never") != "Never":
            yield "pods that are restarted, with the second autoscaler"
    if cluster.get("authOptions", {}).get("mode") == "token" and not cluster.get("rayVersion"):
        yield "token authentication without rayVersion"
    if {"RAY_REDIS_ADDRESS", "REDIS_PASSWORD"} & {
        v["name"] for v in container(cluster["headGroupSpec"]).get("env", [])
    }:
        yield "Redis in the environment"
