"""An HTTP server that answers as far as `pta-ray submit` asks. It is no Kubernetes: it keeps what is applied, checks
nothing of it, and plays the life of a RayJob as it is told."""

import json
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import yaml

KINDS = {
    "api/v1": {
        "Namespace": "namespaces", "ServiceAccount": "serviceaccounts", "ConfigMap": "configmaps",
        "PersistentVolumeClaim": "persistentvolumeclaims",
    },
    "apis/rbac.authorization.k8s.io/v1": {"Role": "roles"},
    "apis/networking.k8s.io/v1": {"NetworkPolicy": "networkpolicies"},
    "apis/ray.io/v1": {"RayJob": "rayjobs"},
}  # fmt: skip
LOG = [f"{i:6.0f} s  step {i}" for i in range(6)]
Status = dict[str, Any]


class FakeKubernetes(ThreadingHTTPServer):
    """Use as a context manager, served in a thread."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.objects: dict[str, Any] = {}
        """By path."""
        self.applied: list[str] = []
        """Paths in order."""
        self.asked: set[tuple[str, str]] = set()
        """What was allowed to whoever asks: verbs and resources, as a Role names them."""
        self.states: list[Status] = []
        """Of a RayJob, one for each time that it is asked for; the last one stays."""
        self.forbidden: set[str] = set()
        """Plurals that nobody may change."""
        self.lacks_kuberay = False
        self.refuses: tuple[int, str] | None = None
        """What all that is applied is answered with."""
        self.forgets_answers: Counter[str] = Counter()
        """Plurals, and how often what is applied is not answered."""
        self.log_breaks_after: list[int] = []
        """Lines after which a connection breaks, one after the other."""

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: FakeKubernetes
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        path = url.path.strip("/")
        groups = {group for group in KINDS if group != "apis/ray.io/v1" or not self.server.lacks_kuberay}
        if path == "version":
            self._answer({"major": "1", "minor": "34"})
        elif path == "apis":
            self._answer({"kind": "APIGroupList", "groups": [_group(g) for g in groups if g != "api/v1"]})
        elif path in groups:
            self._answer({"kind": "APIResourceList", "resources": [_resource(*kind) for kind in KINDS[path].items()]})
        elif path.endswith("/log"):
            self.server.asked.add(("get", "pods/log"))
            self._log(parse_qs(url.query))
        elif path.endswith("/pods"):
            self.server.asked.add(("list", "pods"))
            self._answer({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": self._pods()})
        elif path in self.server.objects:
            self.server.asked.add(("get", path.split("/")[-2]))
            self._answer(self.server.objects[path] | {"status": self._next_state()})
        else:
            self._answer({"message": f"{path} not found"}, 404)

    def do_PATCH(self) -> None:
        url = urlsplit(self.path)
        path = url.path.strip("/")
        plural = path.split("/")[-2]
        body = yaml.safe_load(self.rfile.read(int(self.headers["Content-Length"])))
        assert self.headers["Content-Type"] == "application/apply-patch+yaml"
        assert parse_qs(url.query)["fieldManager"] == ["pta-ray"]
        if self.server.refuses:
            status, message = self.server.refuses
            return self._answer({"message": message}, status)
        if plural in self.server.forbidden:
            return self._answer({"message": f"{plural} is forbidden"}, 403)
        self.server.asked |= (
            {("patch", plural), ("create", plural)} if path not in self.server.objects else {("patch", plural)}
        )
        body["metadata"]["uid"] = f"uid of {path}"
        self.server.objects[path] = body
        self.server.applied.append(path)
        if self.server.forgets_answers[plural]:
            self.server.forgets_answers[plural] -= 1
            return self._break_off()
        return self._answer(body)

    def _next_state(self) -> Status:
        states = self.server.states
        return states.pop(0) if len(states) > 1 else states[0] if states else {}

    def _pods(self) -> list[Any]:
        pod = {"name": "submitter", "creationTimestamp": "2026-01-01T00:00:00Z"}
        return [{"metadata": pod, "status": {"phase": "Running"}, "spec": {"containers": []}}]

    def _log(self, query: dict[str, list[str]]) -> None:
        assert query["timestamps"] == query["follow"] == ["true"]
        breaks_after = self.server.log_breaks_after.pop(0) if self.server.log_breaks_after else None
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for i, line in enumerate(LOG[:breaks_after]):
            self._chunk(f"2026-01-01T00:00:{i:02}.000000000Z {line}\n".encode())
        if breaks_after is not None:
            return self._break_off()
        return self._chunk(b"")

    def _chunk(self, content: bytes) -> None:
        self.wfile.write(b"%x\r\n%s\r\n" % (len(content), content))
        self.wfile.flush()

    def _answer(self, content: Any, status: int = 200) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _break_off(self) -> None:
        self.close_connection = True


def _group(path: str) -> Any:
    _, name, version = path.split("/")
    found = {"groupVersion": f"{name}/{version}", "version": version}
    return {"name": name, "versions": [found], "preferredVersion": found}


def _resource(kind: str, plural: str) -> Any:
    return {"name": plural, "singularName": kind.lower(), "namespaced": kind != "Namespace", "kind": kind, "verbs": []}
