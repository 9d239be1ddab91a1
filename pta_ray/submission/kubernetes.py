"""Runs a job on a Ray cluster of its own, which KubeRay makes on Kubernetes."""

import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import urllib3
from kubernetes import client, config, watch
from kubernetes.client.exceptions import ApiException
from kubernetes.config.config_exception import ConfigException
from kubernetes.dynamic import DynamicClient
from kubernetes.dynamic.exceptions import ResourceNotFoundError

from pta_ray.errors import JobError, StreamError, first_line
from pta_ray.submission.following import ConnectionLostError, Patience, Write
from pta_ray.submission.job import Submission, next_run
from pta_ray.submission.rendering import Manifest, name_run

Apply = Callable[[Manifest], None]

_RAY_JOBS = {"group": "ray.io", "version": "v1", "plural": "rayjobs"}
_ENDS = ("Complete", "Failed", "ValidationFailed")
_CONTAINER = "ray-job-submitter"  # KubeRay's name for it
_MANAGER = "pta-ray"
_SECONDS = (10, 60)
"""To connect, and without a word from the API server."""


class KubernetesRun:
    """A run that Kubernetes knows as a RayJob."""

    def __init__(self, api: client.ApiClient, namespace: str, name: str, say: Write) -> None:
        self._api, self._namespace, self.name, self._say = api, namespace, name, say
        self.stop_command = f"kubectl -n {namespace} delete rayjob {name}"
        self._state = ""
        self._last_written: dict[str, str] = {}
        """The time of the last line that was written, by pod: a new cluster after a failed one has another."""

    def exit_code(self) -> int | None:
        """0 if it has succeeded and 1 otherwise; KubeRay does not pass on more."""
        job = _find(self._api, self._namespace, self.name)
        if job is None:
            raise StreamError(f"the RayJob {self.name} is gone: somebody has deleted it")
        status = job.get("status", {})
        state = status.get("jobDeploymentStatus", "")
        if state != self._state:
            self._state = state
            self._say(f"{self.name}: {': '.join(filter(None, [state, status.get('message')]))}")
        if state not in _ENDS:
            return None
        return 0 if status.get("jobStatus") == "SUCCEEDED" else 1

    def copy_log(self, write: Write) -> None:
        """Of the pods that KubeRay starts the driver with, which show what it prints."""
        core = client.CoreV1Api(self._api)
        with _answers():
            pods = core.list_namespaced_pod(
                self._namespace, label_selector=f"job-name={self.name}", _request_timeout=_SECONDS
            ).items
            for pod in sorted(pods, key=lambda pod: pod.metadata.creation_timestamp):
                if pod.status.phase != "Pending":
                    self._copy_log_of(core, pod.metadata.name, write)

    def _copy_log_of(self, core: client.CoreV1Api, pod: str, write: Write) -> None:
        lines = watch.Watch().stream(
            core.read_namespaced_pod_log, pod, self._namespace,
            container=_CONTAINER, timestamps=True, _request_timeout=_SECONDS,
        )  # fmt: skip
        try:
            for line in lines:
                written_at, _, text = line.partition(" ")
                if written_at > self._last_written.get(pod, ""):
                    write(f"{text}\n")
                    self._last_written[pod] = written_at
        except urllib3.exceptions.ReadTimeoutError:
            return  # a silence, or a connection that was cut on the way: the state will tell
        except ApiException as error:
            if error.status not in (400, 404):  # the pod is not ready yet, or gone already
                raise


def submit(
    submission: Submission, manifests: list[Manifest], say: Write, patience: Patience, api: client.ApiClient
) -> KubernetesRun:
    """Applies manifests and starts a job, or finds it if it runs there already.

    What the caller may not change is taken as it is, but for the job itself: namespaces and roles are an
    administrator's where people only run jobs.

    Raises:
        JobError: Kubernetes refuses something, or knows no RayJob.
        StreamError: the cluster was away for too long.
    """
    [namespace] = [m["metadata"].get("namespace", "default") for m in manifests if m["kind"] == "RayJob"]

    def has_ended(run: str) -> bool:
        job = _find(api, namespace, run)
        return job is not None and job.get("status", {}).get("jobDeploymentStatus") in _ENDS

    def start(run: str) -> None:
        shared, job, config_map = name_run(manifests, submission, run)
        with _applying(api) as apply:
            if _find(api, namespace, run) is None:
                _apply_shared(apply, shared, say)
                apply(config_map)
                apply(job)
            # Also where it was there already: the answer to a start may have been lost.
            if (started := _find(api, namespace, run)) is not None:
                apply(_owned(config_map, started))
        say(f"{run} is on {api.configuration.host}, in the namespace {namespace}")

    try:
        run = next_run(submission.name, has_ended)
    except ConnectionLostError as error:
        raise JobError("--kubernetes", f"no API server answers at {api.configuration.host} ({error})") from None
    patience.insist(partial(start, run), run, say)
    return KubernetesRun(api, namespace, run, say)


def connect() -> client.ApiClient:
    """As kubectl would, or a pod: by a kubeconfig or the pod's own account."""
    configuration = client.Configuration()
    configuration.retries = False  # has its own place here
    try:
        config.load_config(client_configuration=configuration)
    except ConfigException as error:
        raise JobError("--kubernetes", f"there is no way to a cluster ({first_line(error)}); set KUBECONFIG") from None
    return client.ApiClient(configuration)


@contextmanager
def _applying(api: client.ApiClient) -> Iterator[Apply]:
    """What applies a manifest, by server-side apply."""
    with _answers(), tempfile.TemporaryDirectory() as directory:
        # What this client learns about an API server it would leave in a file that all users share.
        dynamic = DynamicClient(api, cache_file=str(Path(directory) / "resources.json"))

        def apply(manifest: Manifest) -> None:
            metadata = manifest["metadata"]
            dynamic.resources.get(api_version=manifest["apiVersion"], kind=manifest["kind"]).server_side_apply(
                body=manifest, name=metadata["name"], namespace=metadata.get("namespace"),
                field_manager=_MANAGER, _request_timeout=_SECONDS,
            )  # fmt: skip

        yield apply


def _apply_shared(apply: Apply, manifests: list[Manifest], say: Write) -> None:
    for manifest in manifests:
        try:
            apply(manifest)
        except ApiException as error:
            if error.status != 403:
                raise
            say(f"{manifest['kind']} {manifest['metadata']['name']} is not ours to change, and taken as it is")


def _owned(manifest: Manifest, owner: Manifest) -> Manifest:
    """Of an object that is deleted with its owner."""
    reference = {key: owner[key] for key in ("apiVersion", "kind")}
    reference |= {key: owner["metadata"][key] for key in ("name", "uid")}
    return {**manifest, "metadata": {**manifest["metadata"], "ownerReferences": [reference]}}


def _find(api: client.ApiClient, namespace: str, run: str) -> Manifest | None:
    with _answers():
        try:
            found: Manifest = client.CustomObjectsApi(api).get_namespaced_custom_object(
                **_RAY_JOBS, namespace=namespace, name=run, _request_timeout=_SECONDS
            )
        except ApiException as error:
            if error.status == 404:
                return None
            raise
    return found


@contextmanager
def _answers() -> Iterator[None]:
    """What can go wrong when Kubernetes is asked for something."""
    try:
        yield
    except BrokenPipeError:
        raise  # nobody reads what is written here; the libraries wrap their own
    except ResourceNotFoundError as error:
        problem = f"the cluster lacks a kind of object ({first_line(error)})"
        raise JobError("--kubernetes", f"{problem}; KubeRay 1.7 or newer must be installed") from None
    except ApiException as error:
        if error.status >= 500 or error.status == 429:
            raise ConnectionLostError(f"{error.status} {error.reason}") from None
        raise JobError("--kubernetes", _refusal(error)) from None
    except (urllib3.exceptions.HTTPError, OSError) as error:
        raise ConnectionLostError(first_line(error)) from None


def _refusal(error: ApiException) -> str:
    """What the API server says in its own words, which name the object and the rule."""
    try:
        message = str(json.loads(error.body)["message"])
    except (ValueError, KeyError, TypeError):
        message = str(error.reason)
    return f"Kubernetes refuses: {' '.join(message.split())}"
