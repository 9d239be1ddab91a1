"""Models that lie elsewhere, with a server on this machine in the place of the hub."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from huggingface_hub import constants

from pta_ray.config import Job
from pta_ray.doctor.finding import Severity
from pta_ray.doctor.job import find_job
from pta_ray.doctor.remote import check_remote, is_remote
from pta_ray.errors import JobError
from tests.unit.doctor.test_job import HOSTS, settings

FILES = {
    "org/sound": ["config.json", "model.safetensors"],
    "org/pickled": ["config.json", "pytorch_model.bin"],
    "org/empty": ["README.md"],
    "org/gated": ["config.json", "model.safetensors"],
}


class Hub(BaseHTTPRequestHandler):
    """Answers what the hub does about a model and who may read it."""

    def do_GET(self) -> None:
        repository = "/".join(self.path.split("/")[3:5])
        if repository not in FILES:
            self._answer(404, {"X-Error-Code": "RepoNotFound"}, {})
        elif self.path.endswith("/auth-check"):
            is_gated = repository == "org/gated"
            self._answer(403 if is_gated else 200, {"X-Error-Code": "GatedRepo"} if is_gated else {}, {})
        else:
            self._answer(200, {}, {"id": repository, "siblings": [{"rfilename": name} for name in FILES[repository]]})

    def _answer(self, status: int, headers: dict[str, str], content: object) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(json.dumps(content).encode())

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    yield
    server.shutdown()
    server.server_close()


@pytest.mark.usefixtures("hub")
@pytest.mark.parametrize("model", ["org/sound", "hf://org/sound"])
def test_a_model_on_the_hub_can_be_had(model: str) -> None:
    check_remote("target.model", model)


@pytest.mark.usefixtures("hub")
@pytest.mark.parametrize(
    ("model", "problem", "mend"),
    [
        ("org/gated", "gated", "hf auth login"),
        ("org/nobody", "no org/nobody", "mend the name"),
        ("org/pickled", "no weights in safetensors", "save_pretrained"),
        ("org/empty", "no config.json", "name the checkpoint"),
    ],
)
def test_what_the_hub_refuses_is_said_with_the_mend(model: str, problem: str, mend: str) -> None:
    with pytest.raises(JobError, match=rf"^sources\.0\.model: .*{problem}.*; .*{mend}"):
        check_remote("sources.0.model", model)


@pytest.mark.usefixtures("hub")
def test_a_model_on_the_hub_is_found_once_in_a_job(tmp_path: Path) -> None:
    raw = settings(tmp_path)
    raw["sources"] = [
        {"model": "org/sound", "engine": "transformers"},
        {"model": "org/gated", "engine": "transformers"},
    ]
    found = [f for f in find_job(Job.model_validate(raw), HOSTS) if f.what.startswith("sources") and "model" in f.what]
    assert [(f.what, f.severity) for f in found] == [
        ("sources.0.model", Severity.OK),
        ("sources.1.model", Severity.ERROR),
    ]


def test_a_hub_that_does_not_answer_is_told_from_a_model_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(JobError, match="the hub does not answer about org/sound"):
        check_remote("target.model", "org/sound")


def test_a_model_at_a_uri_is_looked_at_where_it_lies(tmp_path: Path) -> None:
    with pytest.raises(JobError, match="cannot read"):
        check_remote("target.model", f"file://{tmp_path}/nowhere")
    (tmp_path / "config.json").touch()
    with pytest.raises(JobError, match="safetensors"):
        check_remote("target.model", f"file://{tmp_path}")
    (tmp_path / "model-00001-of-00002.safetensors").touch()
    check_remote("target.model", f"file://{tmp_path}")


def test_directories_are_not_asked_of_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path)
    assert [is_remote(model) for model in ("here", "/nowhere", "./nowhere")] == [False] * 3
    assert [is_remote(model) for model in ("org/small", "hf://org/small", "s3://bucket/small")] == [True] * 3
