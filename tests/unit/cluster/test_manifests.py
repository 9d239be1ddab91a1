"""The manifests in cluster/kuberay fit their schemas, keep to the policy, and are what pta-ray needs."""

import copy
from collections.abc import Callable

import pytest
import yaml

from tests.unit.cluster.manifests import (
    BASE,
    OVERLAYS,
    PROJECT,
    RAY_VERSION,
    Manifest,
    container,
    groups,
    of_kind,
    overlay,
    pod_templates,
    problems,
    ray_cluster,
    rendered,
)
from tests.unit.cluster.policy import container_violations, refusals, violations

WITHOUT_A_SCHEMA_HERE = {"LocalQueue"}
each_overlay = pytest.mark.parametrize("name", OVERLAYS)


def base_job() -> Manifest:
    job: Manifest = yaml.safe_load((BASE / "rayjob.yaml").read_text())
    return job


@each_overlay
def test_kubernetes_knows_every_field(name: str) -> None:
    manifests = [m for m in overlay(name) if m["kind"] not in {"RayJob", "RayCluster", *WITHOUT_A_SCHEMA_HERE}]
    assert {m["metadata"]["name"]: problems(m) for m in manifests} == {m["metadata"]["name"]: [] for m in manifests}
    assert len(manifests) >= 7


@each_overlay
def test_kuberay_knows_every_field(name: str) -> None:
    [manifest] = of_kind(overlay(name), "RayJob", "RayCluster")
    assert problems(manifest) == []


def test_the_base_is_a_template_as_it_stands() -> None:
    job = base_job()
    assert problems(job) == []
    [from_kustomize] = of_kind(rendered(BASE), "RayJob")
    assert from_kustomize.pop("metadata") == {**job.pop("metadata"), "namespace": "pta-ray"}
    assert from_kustomize == job


@pytest.mark.parametrize("at", ["spec", "spec.rayClusterSpec", "spec.rayClusterSpec.headGroupSpec.template.spec"])
def test_a_field_that_kuberay_does_not_know_is_found(at: str) -> None:
    job = base_job()
    node = job
    for key in at.split("."):
        node = node[key]
    node["autoscalerVersion"] = "v2"
    assert [problem for problem in problems(job) if "autoscalerVersion" in problem]


@each_overlay
def test_every_pod_keeps_to_the_policy(name: str) -> None:
    found = {
        f"{manifest['kind']}{path}": violations(template)
        for manifest in overlay(name)
        for path, template in pod_templates(manifest)
    }
    assert found == {path: [] for path in found}
    assert len(found) >= 3
    options = ray_cluster(overlay(name)).get("autoscalerOptions")
    assert name == "gpu-kueue" if options is None else container_violations(options) == []


@pytest.mark.parametrize(
    "spoil",
    [
        lambda pod: pod["securityContext"].pop("runAsNonRoot"),
        lambda pod: pod["securityContext"].pop("runAsUser"),
        lambda pod: pod["securityContext"].pop("seccompProfile"),
        lambda pod: pod.update(hostNetwork=True),
        lambda pod: pod["volumes"][0].update(hostPath={"path": "/"}),
        lambda pod: pod["containers"][0]["securityContext"].pop("readOnlyRootFilesystem"),
        lambda pod: pod["containers"][0]["securityContext"].update(allowPrivilegeEscalation=True),
        lambda pod: pod["containers"][0]["securityContext"]["capabilities"].update(add=["SYS_ADMIN"]),
        lambda pod: pod["containers"][0]["resources"].pop("limits"),
        lambda pod: pod["containers"][0]["resources"]["requests"].pop("memory"),
        lambda pod: pod["containers"][0].update(image="pta-ray:latest"),
        lambda pod: pod["containers"][0].update(image="pta-ray"),
        lambda pod: pod["containers"][0]["env"].append({"name": "HF_TOKEN", "value": "hf_x"}),
        lambda pod: pod["containers"][0]["volumeMounts"].pop(),
    ],
)
def test_the_policy_finds_what_is_wrong(spoil: Callable[[Manifest], object]) -> None:
    template = copy.deepcopy(base_job()["spec"]["rayClusterSpec"]["headGroupSpec"]["template"])
    assert violations(template) == []
    spoil(template["spec"])
    assert violations(template)


@pytest.mark.parametrize("name", [name for name in OVERLAYS if name != "standing"])
def test_the_operator_takes_the_job(name: str) -> None:
    [job] = of_kind(overlay(name), "RayJob")
    assert refusals(job) == []


@pytest.mark.parametrize(
    "spoil",
    [
        lambda spec: spec.update(shutdownAfterJobFinishes=True),
        lambda spec: spec.update(suspend=True),
        lambda spec: spec["deletionStrategy"]["deletionRules"][0]["condition"].update(jobDeploymentStatus="Failed"),
        lambda spec: spec["deletionStrategy"]["deletionRules"][0].update(policy="DeleteWorkers"),
        lambda spec: spec["rayClusterSpec"].pop("autoscalerOptions"),
        lambda spec: spec["rayClusterSpec"].pop("rayVersion"),
        lambda spec: spec["rayClusterSpec"]["workerGroupSpecs"][0].update(minReplicas=9),
        lambda spec: spec["rayClusterSpec"]["headGroupSpec"]["rayStartParams"].update({"num-cpus": "0"}),
        lambda spec: spec["rayClusterSpec"]["headGroupSpec"]["template"]["spec"].update(restartPolicy="Always"),
    ],
)
def test_what_the_operator_refuses_is_found(spoil: Callable[[Manifest], object]) -> None:
    job = copy.deepcopy(base_job())
    assert refusals(job) == []
    spoil(job["spec"])
    assert refusals(job)


@each_overlay
def test_all_pods_have_one_image_of_this_version(name: str) -> None:
    manifests = of_kind(overlay(name), "RayJob", "RayCluster")
    images = {c["image"] for _, template in pod_templates(manifests) for c in template["spec"]["containers"]}
    [image] = images
    variant = "cpu" if name == "cpu-trial" else "cuda"
    assert image == f"registry.example.com/pta-ray:{PROJECT['version']}-{variant}"
    assert ray_cluster(manifests)["rayVersion"] == RAY_VERSION
    assert "runtimeEnvYAML" not in manifests[0]["spec"]  # the image is what runs, nothing beside it


@each_overlay
def test_ray_asks_for_a_token_and_only_the_cluster_reaches_it(name: str) -> None:
    manifests = overlay(name)
    cluster = ray_cluster(manifests)
    head = cluster["headGroupSpec"]
    assert cluster["authOptions"] == {"mode": "token"}
    assert (head["serviceType"], head["enableIngress"]) == ("ClusterIP", False)
    assert 10001 not in {port["containerPort"] for port in container(head)["ports"]}
    assert not of_kind(manifests, "Ingress", "Secret", "ClusterRole", "ClusterRoleBinding")
    for service in of_kind(manifests, "Service"):
        assert service["spec"].get("type", "ClusterIP") == "ClusterIP"


@each_overlay
def test_a_network_policy_closes_every_pod(name: str) -> None:
    manifests = overlay(name)
    policies = [policy["spec"] for policy in of_kind(manifests, "NetworkPolicy")]
    closed = [p["podSelector"]["matchLabels"] for p in policies if {"Ingress", "Egress"} == set(p["policyTypes"])]
    for path, template in pod_templates(manifests):
        labels = template["metadata"]["labels"].items()
        assert any(selector.items() <= labels for selector in closed), path
    sources = [source for policy in policies for rule in policy["ingress"] for source in rule["from"]]
    assert sources
    assert not [source for source in sources if "ipBlock" in source or not any(source.values())]


@each_overlay
def test_roles_are_small_and_read_no_secret(name: str) -> None:
    manifests = overlay(name)
    rules = [rule for role in of_kind(manifests, "Role") for rule in role["rules"]]
    assert rules
    for rule in rules:
        assert not {"*", "secrets"} & {*rule["apiGroups"], *rule["resources"], *rule["verbs"]}
    for group in ray_cluster(manifests)["workerGroupSpecs"]:
        assert group["template"]["spec"]["automountServiceAccountToken"] is False


@pytest.mark.parametrize("name", [name for name in OVERLAYS if name != "standing"])
def test_a_job_that_failed_goes_on_in_a_new_cluster_and_is_cleaned_up(name: str) -> None:
    [job] = of_kind(overlay(name), "RayJob")
    spec = job["spec"]
    assert spec["entrypoint"].split() == ["pta-ray", "fuse", "/etc/pta-ray/job.yaml", "--resume"]
    assert spec["backoffLimit"] >= 1
    rules = spec.get("deletionStrategy", {}).get("deletionRules", [])
    cleaned = {str(rule["condition"].get("jobStatus")) for rule in rules if rule["policy"] == "DeleteCluster"}
    # KubeRay takes the one or the other.
    assert bool(spec.get("shutdownAfterJobFinishes")) != bool(cleaned)
    assert not cleaned or cleaned >= {"SUCCEEDED", "FAILED"}


@pytest.mark.parametrize("name", [name for name in OVERLAYS if name != "gpu-kueue"])
def test_groups_grow_by_the_second_autoscaler(name: str) -> None:
    cluster = ray_cluster(overlay(name))
    assert cluster["enableInTreeAutoscaling"] is True
    assert cluster["autoscalerOptions"]["version"] == "v2"
    for group in cluster["workerGroupSpecs"]:
        assert group["minReplicas"] == group["replicas"] <= group["maxReplicas"]


def test_kueue_starts_all_of_a_job_or_nothing() -> None:
    manifests = overlay("gpu-kueue")
    [job], [queue] = of_kind(manifests, "RayJob"), of_kind(manifests, "LocalQueue")
    assert job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == queue["metadata"]["name"]
    assert job["spec"]["suspend"] is True
    cluster = job["spec"]["rayClusterSpec"]
    assert cluster["enableInTreeAutoscaling"] is False
    for group in cluster["workerGroupSpecs"]:
        assert group["minReplicas"] == group["replicas"] == group["maxReplicas"] >= 1


@pytest.mark.parametrize("name", ["gpu-spot", "many-sources"])
def test_spot_nodes_score_and_on_demand_nodes_train(name: str) -> None:
    cluster = ray_cluster(overlay(name))
    where = {
        stage: group["template"]["spec"].get("nodeSelector", {}).get("karpenter.sh/capacity-type")
        for stage, group in groups(cluster).items()
    }
    assert {"score": "spot", "train": "on-demand"}.items() <= where.items()
    head = cluster["headGroupSpec"]["template"]["spec"]
    assert head["nodeSelector"] == {"karpenter.sh/capacity-type": "on-demand"}


def test_the_standing_cluster_is_that_of_the_job_and_outlives_its_head() -> None:
    standing, of_job = ray_cluster(overlay("standing")), ray_cluster(overlay("gpu"))
    tolerance = standing.pop("gcsFaultToleranceOptions")
    assert tolerance["redisPassword"]["valueFrom"]["secretKeyRef"]["name"] == "pta-ray-redis"
    head = of_job["headGroupSpec"]["template"]["spec"]
    head["volumes"] = [volume for volume in head["volumes"] if volume["name"] != "job"]
    head["containers"][0]["volumeMounts"].pop()
    assert standing == of_job
