"""What a program in the sandbox can and cannot do. Needs bubblewrap, as the sandbox does."""

import shutil
import socket
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from pta_ray.errors import JobError
from pta_ray.evaluation.sandbox import check_sandbox, sandboxed

needs_bubblewrap = pytest.mark.skipif(shutil.which("bwrap") is None, reason="needs bubblewrap (apt install bubblewrap)")


def run(program: str, writable: Path, *readable: Path, **variables: str) -> str:
    """What a Python program prints in the sandbox, or the last line of its error."""
    interpreter = [Path(sys.prefix), Path(sys.base_prefix), Path(sys.executable).resolve().parent]
    command = [sys.executable, "-c", textwrap.dedent(program)]
    line = sandboxed(command, writable, [*filter(Path.exists, interpreter), *readable], variables)
    found = subprocess.run(line, capture_output=True, text=True, timeout=60)
    return (found.stdout or found.stderr).strip().split("\n")[-1]


@needs_bubblewrap
def test_the_network_cannot_be_reached(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        program = f"import socket; socket.create_connection(('127.0.0.1', {port}), timeout=5); print('connected')"
        assert subprocess.run([sys.executable, "-c", program], capture_output=True).stdout == b"connected\n"
        assert "ConnectionRefusedError" in run(program, tmp_path)


@needs_bubblewrap
def test_it_writes_to_its_own_directory_and_nowhere_else(tmp_path: Path) -> None:
    mine, other = tmp_path / "mine", tmp_path / "other"
    for folder in (mine, other):
        folder.mkdir()
    assert run("open('result', 'w').write('x'); print('written')", mine, other) == "written"
    assert (mine / "result").read_text() == "x"
    for place in (other, Path("/usr"), Path("/etc"), Path(sys.prefix)):
        assert "Read-only file system" in run(f"open({str(place / 'pta-ray-test')!r}, 'w')", mine, other)
        assert not (place / "pta-ray-test").exists()
    assert run("open('/tmp/pta-ray-test', 'w').write('x'); print('written')", mine) == "written"
    assert not Path("/tmp/pta-ray-test").exists()


@needs_bubblewrap
def test_it_sees_no_secret_no_socket_and_no_other_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "secret")
    mine, secret = tmp_path / "mine", tmp_path / "secret"
    mine.mkdir()
    secret.write_text("secret")
    program = """
        import os
        pids = [name for name in os.listdir('/proc') if name.isdigit()]
        print('HF_TOKEN' in os.environ, os.path.exists(%r), os.listdir('/run'), len(pids) < 4, os.environ['GIVEN'])
    """
    assert run(program % str(secret), mine, GIVEN="it") == "False False [] True it"


@needs_bubblewrap
def test_it_ends_with_whoever_started_it(tmp_path: Path) -> None:
    line = sandboxed(["sleep", "60"], tmp_path, [], {})
    starter = f"import subprocess; subprocess.run({line!r}, timeout=0.5)"
    with pytest.raises(subprocess.CalledProcessError):
        subprocess.run([sys.executable, "-c", starter], check=True, capture_output=True, timeout=30)


def test_a_host_without_bubblewrap_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(JobError, match="apt install bubblewrap"):
        check_sandbox()
