"""What a cluster says of itself, and what is said where none is."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version

import pytest

from pta_ray.doctor.cluster import Cluster, ask_cluster, check_cluster
from pta_ray.doctor.finding import Severity, worst
from pta_ray.errors import JobError
from tests.conftest import ROOT

CLUSTER = Cluster("2.60.0", "3.11.7", [{"CPU": 8.0, "GPU": 1.0}, {"CPU": 4.0}])


def test_a_cluster_of_the_same_versions_is_well_and_its_resources_are_added_up() -> None:
    found = list(check_cluster(CLUSTER, "2.60.0", "3.11.7"))
    assert worst(found) is Severity.OK
    assert found[0].detail == "2 hosts, 12 CPUs, 1 GPUs"


@pytest.mark.parametrize(
    ("ray", "python", "what", "mend"),
    [
        ("2.59.1", "3.11.7", "Ray of the cluster", "==2.60.0"),
        ("2.60.0", "3.11.8", "Python of the cluster", "Python 3.11.7"),
    ],
)
def test_another_version_than_the_clusters_is_an_error(ray: str, python: str, what: str, mend: str) -> None:
    [found] = [f for f in check_cluster(CLUSTER, ray, python) if f.severity is not Severity.OK]
    assert (found.severity, found.what) == (Severity.ERROR, what)
    assert mend in found.mend


def test_where_nobody_listens_the_answer_comes_at_once() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(JobError, match=rf"^--address: there is no Ray cluster to be reached at {address}.*; "):
        ask_cluster(address)


def test_the_address_of_rays_client_is_refused() -> None:
    with pytest.raises(JobError, match="give HOST:PORT"):
        ask_cluster("ray://head:10001")


HEAD = """
import ray
options = {"num_cpus": 1, "include_dashboard": False, "log_to_driver": False, "object_store_memory": 1 << 27}
started = ray.init(address="local", **options)
print(started.address_info["gcs_address"], flush=True)
input()
"""
ASK = "import sys; from pta_ray.doctor.cluster import ask_cluster; print(ask_cluster(sys.argv[1]))"
JOIN = "import sys; from pta_ray.session import ray_session; ray_session(sys.argv[1], 1).__enter__()"
TOKEN = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "a" * 32}


def ask(address: str, variables: dict[str, str], home: str, how: str = ASK) -> subprocess.CompletedProcess[str]:
    """In a process of its own: Ray reads its token once."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    return subprocess.run(
        [sys.executable, "-c", how, address],
        env={**kept, "HOME": home, **variables}, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


@pytest.fixture
def guarded() -> Iterator[str]:
    """The address of a cluster that wants a token."""
    process = subprocess.Popen(
        [sys.executable, "-c", HEAD],
        env={**os.environ, **TOKEN}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout
    yield process.stdout.readline().strip()
    process.communicate("\n", timeout=60)


@pytest.mark.slow
def test_a_cluster_tells_those_with_its_token_what_it_is_and_sends_the_others_for_it(
    guarded: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    home = str(tmp_path_factory.mktemp("home"))  # where no token lies
    let_in = ask(guarded, TOKEN, home)
    assert f"ray='{version('ray')}'" in let_in.stdout and "'CPU': 1.0" in let_in.stdout, let_in.stderr
    none, wrong = {"RAY_AUTH_MODE": "token"}, {**TOKEN, "RAY_AUTH_TOKEN": "b" * 32}
    unused = {"RAY_AUTH_TOKEN": TOKEN["RAY_AUTH_TOKEN"]}  # Ray sends it in that mode only
    for variables, how in (({}, ASK), (none, ASK), (wrong, ASK), (unused, ASK), (none, JOIN)):
        sent_away = ask(guarded, variables, home, how)
        last = sent_away.stderr.strip().splitlines()[-1]
        assert "JobError: --address: " in last and "wants a token" in last and "RAY_AUTH_TOKEN" in last
        assert "a" * 32 not in sent_away.stderr and "b" * 32 not in sent_away.stderr
