"""The client of Kubernetes' API against a server of the tests' own (fake_kubernetes.py), for want of a real one."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from kubernetes import client

from pta_ray.errors import JobError, StreamError
from pta_ray.submission.following import Patience, follow
from pta_ray.submission.job import Submission
from pta_ray.submission.kubernetes import submit
from tests.unit.cluster.manifests import CLUSTER, of_kind, overlay
from tests.unit.submission.fake_kubernetes import LOG, FakeKubernetes
from tests.unit.submission.test_rendering import job_file

JOB = Submission("pta-ray-fused-0123", "target: a/b\n")
RAYJOB = f"apis/ray.io/v1/namespaces/pta-ray/rayjobs/{JOB.name}"
CONFIG_MAP = f"api/v1/namespaces/pta-ray/configmaps/{JOB.name}"
STARTS = {"jobDeploymentStatus": "Initializing"}
RUNS = {"jobDeploymentStatus": "Running", "jobStatus": "RUNNING"}
RETRIES = {"jobDeploymentStatus": "Retrying", "jobStatus": "FAILED"}
SUCCEEDED = {"jobDeploymentStatus": "Complete", "jobStatus": "SUCCEEDED"}
FAILED = {"jobDeploymentStatus": "Failed", "jobStatus": "FAILED", "message": "the driver has failed"}


@pytest.fixture
def kubernetes() -> Iterator[FakeKubernetes]:
    with FakeKubernetes() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def api_of(server: FakeKubernetes) -> client.ApiClient:
    configuration = client.Configuration(host=server.address)
    configuration.retries = False
    return client.ApiClient(configuration)


def into_a_closed_pipe(piece: str) -> None:
    raise BrokenPipeError


def submit_and_follow(server: FakeKubernetes) -> tuple[int, str, list[str]]:
    written: list[str] = []
    said: list[str] = []
    patience = Patience(0.01, 0.02, 5)
    run = submit(JOB, overlay("cpu-trial"), said.append, patience, api_of(server))
    return follow(run, written.append, said.append, patience), "".join(written), said


def test_everything_is_applied_and_the_log_followed_to_the_end(kubernetes: FakeKubernetes) -> None:
    kubernetes.states = [STARTS, STARTS, RUNS, SUCCEEDED]
    code, written, said = submit_and_follow(kubernetes)
    assert (code, written) == (0, "".join(f"{line}\n" for line in LOG))
    assert [line for line in said if line.startswith(f"{JOB.name}: ")] == [
        f"{JOB.name}: {state}" for state in ("Initializing", "Running", "Complete")
    ]
    names = {f"{m['kind']} {m['metadata']['name']}" for m in overlay("cpu-trial")} - {"RayJob pta-ray"}
    applied = {f"{m['kind']} {m['metadata']['name']}" for m in kubernetes.objects.values()}
    assert applied == names | {f"RayJob {JOB.name}", f"ConfigMap {JOB.name}"}
    assert kubernetes.applied[0].endswith("namespaces/pta-ray") and kubernetes.applied[-2:] == [RAYJOB, CONFIG_MAP]


def test_the_job_is_deleted_with_its_run(kubernetes: FakeKubernetes) -> None:
    kubernetes.states = [SUCCEEDED]
    submit_and_follow(kubernetes)
    [owner] = kubernetes.objects[CONFIG_MAP]["metadata"]["ownerReferences"]
    assert owner == {"apiVersion": "ray.io/v1", "kind": "RayJob", "name": JOB.name, "uid": f"uid of {RAYJOB}"}
    assert kubernetes.objects[CONFIG_MAP]["data"] == {"job.yaml": JOB.content}


def test_a_connection_that_breaks_costs_no_line_and_repeats_none(kubernetes: FakeKubernetes) -> None:
    kubernetes.states, kubernetes.log_breaks_after = [RUNS, RUNS, RUNS, SUCCEEDED], [3, 1]
    code, written, said = submit_and_follow(kubernetes)
    assert (code, written) == (0, "".join(f"{line}\n" for line in LOG))
    assert any("connection is lost" in line for line in said) and "connected again" in said


def test_a_new_cluster_after_a_failed_one_is_waited_for(kubernetes: FakeKubernetes) -> None:
    kubernetes.states = [RUNS, RETRIES, STARTS, FAILED]
    code, _, said = submit_and_follow(kubernetes)
    assert code == 1
    assert said[-1] == f"{JOB.name}: Failed: the driver has failed"


def test_a_submission_whose_answer_was_lost_runs_once(kubernetes: FakeKubernetes) -> None:
    kubernetes.states, kubernetes.forgets_answers["rayjobs"] = [FAILED], 1
    assert submit_and_follow(kubernetes)[0] == 1
    assert [path for path in kubernetes.objects if "/rayjobs/" in path] == [RAYJOB]
    assert "ownerReferences" in kubernetes.objects[CONFIG_MAP]["metadata"]


def test_the_same_job_is_followed_while_it_runs_and_begun_again_when_it_has_ended(kubernetes: FakeKubernetes) -> None:
    kubernetes.states = [RUNS]
    for _ in range(2):
        submit(JOB, overlay("cpu-trial"), print, Patience(), api_of(kubernetes))
    assert kubernetes.applied.count(RAYJOB) == 1
    kubernetes.states = [FAILED, RUNS]
    submit(JOB, overlay("cpu-trial"), print, Patience(), api_of(kubernetes))
    assert kubernetes.applied.count(RAYJOB) == 1 and kubernetes.applied.count(f"{RAYJOB}-2") == 1


def test_who_may_only_run_jobs_runs_them_in_what_an_administrator_has_made(kubernetes: FakeKubernetes) -> None:
    kubernetes.states = [SUCCEEDED]
    kubernetes.forbidden = {"namespaces", "roles", "serviceaccounts", "networkpolicies", "persistentvolumeclaims"}
    code, _, said = submit_and_follow(kubernetes)
    assert code == 0
    assert set(kubernetes.objects) == {RAYJOB, CONFIG_MAP}
    assert any("Namespace pta-ray is not ours to change" in line for line in said)
    [role] = of_kind(overlay("cpu-trial"), "Role")
    granted = {(verb, what) for rule in role["rules"] for verb in rule["verbs"] for what in rule["resources"]}
    assert {("create", "rayjobs"), ("get", "pods/log")} <= kubernetes.asked <= granted


@pytest.mark.parametrize("plural", ["rayjobs", "configmaps"])
def test_who_may_not_run_jobs_is_told(kubernetes: FakeKubernetes, plural: str) -> None:
    kubernetes.forbidden = {plural}
    with pytest.raises(JobError, match=f"^--kubernetes: Kubernetes refuses: {plural} is forbidden$"):
        submit_and_follow(kubernetes)


def test_what_kubernetes_refuses_is_said_in_its_words(kubernetes: FakeKubernetes) -> None:
    kubernetes.refuses = 409, "conflict with kubectl:\n.spec.x"
    with pytest.raises(JobError, match=r"^--kubernetes: Kubernetes refuses: conflict with kubectl: \.spec\.x$"):
        submit_and_follow(kubernetes)


def test_a_cluster_without_kuberay_is_refused_with_the_mend(kubernetes: FakeKubernetes) -> None:
    kubernetes.lacks_kuberay = True
    with pytest.raises(JobError, match=r"KubeRay 1\.7 or newer must be installed"):
        submit_and_follow(kubernetes)


def test_a_run_that_somebody_deletes_ends_the_following(kubernetes: FakeKubernetes) -> None:
    run = submit(JOB, overlay("cpu-trial"), print, Patience(), api_of(kubernetes))
    del kubernetes.objects[RAYJOB]
    with pytest.raises(StreamError, match=f"the RayJob {JOB.name} is gone"):
        follow(run, print, print, Patience())


def test_who_stops_reading_ends_the_following_and_not_the_connection(kubernetes: FakeKubernetes) -> None:
    kubernetes.states = [RUNS]
    run = submit(JOB, overlay("cpu-trial"), print, Patience(), api_of(kubernetes))
    with pytest.raises(BrokenPipeError):
        follow(run, into_a_closed_pipe, print, Patience())


def test_no_api_server_is_refused_at_once() -> None:
    with pytest.raises(JobError, match=r"^--kubernetes: no API server answers at http://127.0.0.1:1"):
        submit(
            JOB, overlay("cpu-trial"), print, Patience(), client.ApiClient(client.Configuration("http://127.0.0.1:1"))
        )


def kubeconfig(server: FakeKubernetes, folder: Path) -> Path:
    path = folder / "kubeconfig"
    content = {
        "apiVersion": "v1", "kind": "Config", "current-context": "here",
        "contexts": [{"name": "here", "context": {"cluster": "here", "user": "me"}}],
        "clusters": [{"name": "here", "cluster": {"server": server.address}}],
        "users": [{"name": "me", "user": {"token": "not-to-be-written-down"}}],
    }  # fmt: skip
    path.write_text(yaml.safe_dump(content))
    return path


def test_the_command_goes_where_kubectl_would_and_ends_as_the_run_does(
    kubernetes: FakeKubernetes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kubernetes.states = [RUNS, FAILED]
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig(kubernetes, tmp_path)))
    command = [sys.executable, "-c", "from pta_ray.cli import main; main()", "submit", str(job_file(tmp_path))]
    command += ["--kubernetes", str(CLUSTER / "kuberay" / "overlays" / "cpu-trial")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (1, "".join(f"{line}\n" for line in LOG))
    assert "the driver has failed" in done.stderr
    assert "not-to-be-written-down" not in done.stderr
