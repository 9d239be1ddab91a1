"""The manifests as kustomize renders them, and the schemas that they must fit."""

import copy
import functools
import os
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate.utils
import pytest
import yaml

ROOT = Path(__file__).parents[3]
CLUSTER = ROOT / "cluster"
BASE = CLUSTER / "kuberay" / "base"
OVERLAYS = sorted(path.parent.name for path in (CLUSTER / "kuberay" / "overlays").glob("*/kustomization.yaml"))
CRDS = Path(os.environ.get("KUBERAY_CRDS", ROOT.parent / "shared" / "kuberay"))
"""KubeRay's own definitions: `helm-chart/kuberay-operator/crds` of its repository."""

KUBERNETES = "1.34"
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
RAY_VERSION = next(entry for entry in PROJECT["dependencies"] if entry.startswith("ray[")).split("==")[1]

Manifest = dict[str, Any]


def rendered(directory: Path) -> list[Manifest]:
    """What `kubectl apply -k` would send."""
    return copy.deepcopy(_rendered(directory))


@functools.cache
def _rendered(directory: Path) -> list[Manifest]:
    if kubectl := shutil.which("kubectl"):
        command = [kubectl, "kustomize"]
    elif kustomize := shutil.which("kustomize"):
        command = [kustomize, "build"]
    else:
        pytest.skip("neither kubectl nor kustomize is installed")
    found = subprocess.run([*command, str(directory)], capture_output=True, text=True, timeout=60)
    assert not found.returncode, found.stderr
    return list(yaml.safe_load_all(found.stdout))


def overlay(name: str) -> list[Manifest]:
    return rendered(CLUSTER / "kuberay" / "overlays" / name)


def of_kind(manifests: list[Manifest], *kinds: str) -> list[Manifest]:
    return [manifest for manifest in manifests if manifest["kind"] in kinds]


def ray_cluster(manifests: list[Manifest]) -> Manifest:
    """The specification of the one cluster that there is, of a job or standing."""
    [manifest] = of_kind(manifests, "RayJob", "RayCluster")
    spec: Manifest = manifest["spec"]
    return spec["rayClusterSpec"] if manifest["kind"] == "RayJob" else spec


def groups(cluster: Manifest) -> dict[str, Manifest]:
    return {group["groupName"]: group for group in cluster["workerGroupSpecs"]}


def container(group: Manifest) -> Manifest:
    """Ray's own."""
    found: Manifest = group["template"]["spec"]["containers"][0]
    return found


def pod_templates(node: Any, path: str = "") -> Iterator[tuple[str, Manifest]]:
    """Every pod template within a manifest, with its place."""
    if isinstance(node, dict):
        if "containers" in node.get("spec", {}):
            yield path, node
        for key, value in node.items():
            yield from pod_templates(value, f"{path}.{key}")
    elif isinstance(node, list):
        for i, value in enumerate(node):
            yield from pod_templates(value, f"{path}[{i}]")


def problems(manifest: Manifest) -> list[str]:
    """Where a manifest does not fit its schema, unknown fields included. KubeRay's rules in CEL are not tried."""
    group = manifest["apiVersion"].partition("/")[0]
    if group == "ray.io":
        errors = jsonschema.Draft7Validator(_definition(manifest["kind"])).iter_errors(manifest)
        return [f"{error.json_path}: {error.message:.200}" for error in errors]
    try:
        kubernetes_validate.validate(manifest, KUBERNETES, strict=True)
    except kubernetes_validate.utils.ValidationError as error:
        return [f"{error.path}: {error.message:.200}"]
    return []


@functools.cache
def _definition(kind: str) -> Manifest:
    path = CRDS / f"ray.io_{kind.lower()}s.yaml"
    if not path.is_file():
        pytest.skip(f"there are no definitions of KubeRay in {CRDS}; say where with KUBERAY_CRDS")
    definition = yaml.load(path.read_text(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    [schema] = [v["schema"]["openAPIV3Schema"] for v in definition["spec"]["versions"] if v["name"] == "v1"]
    return _closed(schema)


def _closed(schema: Any) -> Any:
    """The schema without room for fields that it does not name, which an API server would drop."""
    if isinstance(schema, list):
        return [_closed(value) for value in schema]
    if not isinstance(schema, dict):
        return schema
    found = {key: _closed(value) for key, value in schema.items()}
    if isinstance(schema.get("properties"), dict) and "additionalProperties" not in schema:
        found["additionalProperties"] = False
    return found
