"""A fusion on a Ray cluster of several hosts, one of which is lost on the way."""

import contextlib
import json
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import psutil
import pytest
import yaml

from pta_ray.config import Job
from pta_ray.job_file import load_job
from pta_ray.text.documents import read
from pta_ray.text.reading import plan_reads
from pta_ray.text.windows import cut
from pta_ray.tokenizers.loading import load_tokenizer
from tests.end_to_end.test_fuse import SETTINGS, write_job
from tests.end_to_end.training_runs import SECONDS, wait_for_checkpoint
from tests.fixtures.hosts import HEAD, Hosts, new_hosts

pytestmark = pytest.mark.slow

FUSE = [sys.executable, "-c", "from pta_ray.cli import main; main()", "fuse"]
RESERVED = """
import json, sys, ray, ray.util
ray.init(sys.argv[1], logging_level="ERROR", log_to_driver=False)
there, free = ray.cluster_resources(), ray.available_resources()
groups = [group["state"] for group in ray.util.placement_group_table().values()]
print(json.dumps({"taken": there["CPU"] - free.get("CPU", 0), "groups": groups}))
"""
KEPT_BY_RAY = "_AutoscalingCoordinatorActor", "ActorLocationTracker", "_StatsActor"


@pytest.fixture
def hosts() -> Iterator[Hosts]:
    """The one training worker fits on the head only, where the driver is; all else on either of the others."""
    with new_hosts() as hosts:
        hosts.start(HEAD, cpus=1, resources={"train": 1})
        hosts.start(1, cpus=4)
        hosts.start(2, cpus=4)
        yield hosts


def long_job(folder: Path, demo: Path) -> Path:
    """Several epochs, so that the target learns while the models still score."""
    training = {**SETTINGS, "workers": [1, 2], "checkpoints": {"every_steps": 2}}
    path = write_job(folder, demo, sources=[str(demo / "models" / "python")], training=training)
    content = yaml.safe_load(path.read_text())
    content["data"] |= {"epochs": 3, "held_out": []}
    path.write_text(yaml.safe_dump(content))
    return path


def count_windows(job: Job) -> int:
    """That the stream has to bring to the target, counted without it."""
    tokenizer = load_tokenizer(job.target.model, trust_remote_code=False)
    documents = (document for task in plan_reads(job.data).tasks for piece in task for document in read(piece))
    return sum(len(list(cut(document.text, tokenizer, job.data.window_tokens))) for document in documents)


def titles(processes: Iterable[psutil.Process]) -> Iterator[str]:
    """What processes call themselves; Ray's workers by their task or actor."""
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):  # it has just ended
            yield " ".join(process.cmdline()).strip()


def is_at_work(hosts: Hosts, host: int) -> bool:
    """Whether an actor that scores or aligns is on a host."""
    return any("MapWorker" in title for title in titles(hosts.processes(host)))


def wait_for_end(hosts: Hosts, before: Mapping[int, set[psutil.Process]]) -> None:
    """Returns when hosts have no more processes than before, but for those that Ray Data keeps for the next driver."""
    deadline = time.monotonic() + 60
    while True:
        new = titles(p for host, known in before.items() for p in hosts.processes(host) if p not in known)
        left = [title for title in new if not any(name in title for name in KEPT_BY_RAY)]
        if not left:
            return
        assert time.monotonic() < deadline, f"left behind: {left}"
        time.sleep(0.5)


def test_a_run_that_loses_a_host_learns_from_every_window_once_and_leaves_nothing_behind(
    hosts: Hosts, demo: Path, tmp_path: Path
) -> None:
    job, output = long_job(tmp_path, demo), tmp_path / "fused"
    before = {host: set(hosts.processes(host)) for host in (HEAD, 1, 2)}
    run = hosts.popen(HEAD, [*FUSE, job, "--address", hosts.address])
    wait_for_checkpoint(run, output, 2)
    [lost, *_] = [host for host in (1, 2) if is_at_work(hosts, host)]
    hosts.cut(lost)  # hosts that are killed are in test_faults.py
    printed, _ = run.communicate(timeout=2 * SECONDS)
    assert run.returncode == 0, printed

    num_windows = count_windows(load_job(job, []))
    metrics = json.loads((output / "metrics.json").read_text())
    assert metrics["training"]["num_windows"] == num_windows
    assert sum(count for name, count in metrics["counts"].items() if name.startswith("won/")) == num_windows
    assert len(metrics["training"]["losses"]) == -(-num_windows // SETTINGS["batch_windows"])

    del before[lost]
    wait_for_end(hosts, before)
    reserved = json.loads(hosts.run(HEAD, [sys.executable, "-c", RESERVED, hosts.address], timeout=60).stdout)
    assert reserved["taken"] == 0 and set(reserved["groups"]) <= {"REMOVED"}
    assert not list(tmp_path.glob("fused.partial")) and not (output / ".ray").exists()
