"""What `pta-ray submit --kubernetes` applies fits the schemas and the policy that the manifests keep to."""

import shutil
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from pta_ray.cli import app
from pta_ray.errors import JobError
from pta_ray.submission.job import Submission
from pta_ray.submission.rendering import name_run, read_manifests
from tests.unit.cluster.manifests import CLUSTER, OVERLAYS, Manifest, of_kind, overlay, pod_templates, problems
from tests.unit.cluster.policy import refusals, violations

JOB = Submission("pta-ray-fused-0123", "target: a/b\n")
SECRETS = {
    name: f"not-to-be-written-down-{name}"
    for name in ("HF_TOKEN", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "WANDB_API_KEY", "RAY_AUTH_TOKEN")
}
OVERLAYS_WITH_A_JOB = [name for name in OVERLAYS if name != "standing"]

pytestmark = pytest.mark.skipif(
    not (shutil.which("kubectl") or shutil.which("kustomize")), reason="neither kubectl nor kustomize is installed"
)


def directory(name: str) -> Path:
    return CLUSTER / "kuberay" / "overlays" / name


def job_file(folder: Path) -> Path:
    path = folder / "job.yaml"
    path.write_text("target: a/b\nsources: [c/d]\ndata: /shared/text\noutput: /shared/runs/fused\n")
    return path


@pytest.mark.parametrize("name", OVERLAYS_WITH_A_JOB)
def test_the_objects_of_a_run_fit_their_schemas_and_keep_to_the_policy(name: str) -> None:
    _, job, config_map = name_run(overlay(name), JOB, "pta-ray-fused-0123-2")
    assert problems(job) == problems(config_map) == refusals(job) == []
    found = {path: violations(template) for path, template in pod_templates(job)}
    assert len(found) >= 3 and found == {path: [] for path in found}


@pytest.mark.parametrize("name", OVERLAYS_WITH_A_JOB)
def test_the_job_reads_its_own_file_from_where_the_command_looks_for_it(name: str) -> None:
    _, job, config_map = name_run(overlay(name), JOB, "run")
    head = job["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]
    [volume] = [volume["name"] for volume in head["volumes"] if volume.get("configMap") == {"name": "run"}]
    [mount] = [m["mountPath"] for m in head["containers"][0]["volumeMounts"] if m["name"] == volume]
    [(key, content)] = config_map["data"].items()
    assert f"{mount}/{key}" in job["spec"]["entrypoint"].split()
    assert content == JOB.content
    assert config_map["metadata"]["namespace"] == job["metadata"]["namespace"] == "pta-ray"
    assert config_map["metadata"]["name"] == job["metadata"]["name"] == "run"


def test_but_for_names_the_run_is_what_the_directory_describes() -> None:
    manifests = overlay("gpu")
    shared, job, _ = name_run(manifests, JOB, "run")
    assert shared == [manifest for manifest in manifests if manifest["kind"] != "RayJob"]
    _, again, _ = name_run([*shared, job | {"spec": overlay_job("gpu")["spec"]}], JOB, "run")
    assert again == job
    assert overlay_job("gpu") == of_kind(manifests, "RayJob")[0]  # what was given is left as it was


def overlay_job(name: str) -> Manifest:
    [job] = of_kind(overlay(name), "RayJob")
    return job


def test_what_is_printed_holds_no_secret_of_the_environment_and_names_where_they_lie(tmp_path: Path) -> None:
    result = CliRunner().invoke(
        app, ["submit", str(job_file(tmp_path)), "--kubernetes", str(directory("gpu")), "--render"], env=SECRETS
    )
    assert result.exit_code == 0
    printed = result.stdout
    assert not [secret for secret in SECRETS.values() if secret in printed]
    manifests = list(yaml.safe_load_all(printed))
    assert not of_kind(manifests, "Secret")
    [job], [config_map] = of_kind(manifests, "RayJob"), of_kind(manifests, "ConfigMap")
    assert yaml.safe_load(config_map["data"]["job.yaml"]) == yaml.safe_load(job_file(tmp_path).read_text())
    for _, template in pod_templates(job["spec"]["rayClusterSpec"]):
        [container] = template["spec"]["containers"]
        assert container["envFrom"] == [{"secretRef": {"name": "pta-ray-credentials", "optional": True}}]
        assert {variable["name"] for variable in container["env"]} == {"RAY_USAGE_STATS_ENABLED"}


def test_a_standing_cluster_and_a_directory_of_something_else_are_refused(tmp_path: Path) -> None:
    with pytest.raises(JobError, match=r"^--kubernetes: .* has 0 RayJobs; .* submit with --address"):
        read_manifests(directory("standing"))
    with pytest.raises(JobError, match=r"^--kubernetes: .*kustomization.yaml"):
        read_manifests(tmp_path)


def test_without_kustomize_the_mend_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(JobError, match="install kubectl"):
        read_manifests(directory("gpu"))


def test_a_rayjob_that_reads_its_job_elsewhere_is_refused() -> None:
    manifests = overlay("gpu")
    [job] = of_kind(manifests, "RayJob")
    del job["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]["volumes"][-1]
    with pytest.raises(JobError, match="no volume from the ConfigMap pta-ray-job"):
        name_run(manifests, JOB, "run")


@pytest.mark.parametrize(
    "where", [[], ["--address", "http://127.0.0.1:1", "--kubernetes", "here"], ["--address", "http://h:1", "--render"]]
)
def test_a_submission_to_nowhere_or_to_two_places_is_refused(where: list[str], tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["submit", str(job_file(tmp_path)), *where])
    assert isinstance(result.exception, JobError)
