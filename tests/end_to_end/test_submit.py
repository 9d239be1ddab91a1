"""`pta-ray submit` from a host of a real Ray cluster that asks for a token, to a fused checkpoint; and hosts
that come and go while a run is there."""

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
import yaml
from safetensors import safe_open

from pta_ray.config import Job
from pta_ray.job_file import load_job
from pta_ray.text.documents import read
from pta_ray.text.reading import plan_reads
from pta_ray.text.windows import cut
from pta_ray.tokenizers.loading import load_tokenizer
from tests.end_to_end.test_fuse import SETTINGS, write_job
from tests.end_to_end.training_runs import wait_for_checkpoint
from tests.fixtures.hosts import HEAD, Hosts, ip_address, new_hosts

pytestmark = pytest.mark.slow

NOTICE_SECONDS = 15
SUBMIT = [sys.executable, "-c", "from pta_ray.cli import main; main()", "submit"]
NODE = """
import sys, ray
ray.init(sys.argv[1], logging_level="ERROR", log_to_driver=False)
print(next(node["NodeID"] for node in ray.nodes() if node["Alive"] and node["NodeManagerAddress"] == sys.argv[2]))
"""
MILESTONES = {
    "the cluster has accepted the job": " is on http://",
    "the job has started there": "Running entrypoint",
    "Ray, tokenizers and text are ready": "fusing ",
    "the engines are up": "windows (busy)",
    "the first step is trained": " step ",
    "the target is trained": "target, fused",
}
"""And by what they are known in what `pta-ray submit` prints; the run there prints a line every ten seconds."""


@dataclass
class Transcript:
    """What a submission has printed, each line with the seconds since it began."""

    lines: list[tuple[float, str]]
    seconds: float
    exit_code: int

    @property
    def printed(self) -> str:
        return "".join(line for _, line in self.lines)

    def milestones(self) -> dict[str, float]:
        """Seconds until each, as far as they were reached."""
        first = {name: [at for at, line in self.lines if sign in line][:1] for name, sign in MILESTONES.items()}
        return {name: at for name, found in first.items() for at in found}


@pytest.fixture(scope="module")
def hosts() -> Iterator[Hosts]:
    """The one training worker fits on the head only, where the driver is; all else on either of the others."""
    with new_hosts() as hosts:
        hosts.start(HEAD, cpus=1, resources={"train": 1}, takes_jobs=True)
        hosts.start(1, cpus=4)
        hosts.start(2, cpus=4)
        yield hosts


def write_small_job(folder: Path, demo: Path, **training: object) -> Path:
    """One source, and engines that start in seconds."""
    target, source = ({"model": str(demo / "models" / name), "engine": "transformers"} for name in ("target", "python"))
    training = {**SETTINGS, **training}
    return write_job(folder, demo, target=target, sources=[source], training=training)


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


def start(hosts: Hosts, job: Path, *environment: str, at: int = 1) -> subprocess.Popen[str]:
    """Submits a job from a host, with changes for `env`."""
    return hosts.popen(at, ["env", *environment, *SUBMIT, job, "--address", hosts.dashboard])


def read_to_end(process: subprocess.Popen[str]) -> Transcript:
    """Prints what a submission prints, as it comes."""
    assert process.stdout is not None
    begin, lines = time.monotonic(), []
    for line in process.stdout:
        lines.append((time.monotonic() - begin, line))
        print(f"{lines[-1][0]:6.1f} s | {line}", end="", flush=True)
    exit_code = process.wait()
    return Transcript(lines, time.monotonic() - begin, exit_code)


def test_from_submission_to_a_fused_checkpoint(hosts: Hosts, demo: Path, tmp_path: Path) -> None:
    job = write_small_job(tmp_path, demo)
    transcript = read_to_end(start(hosts, job))
    times = transcript.milestones()
    ended = {"the command has ended": transcript.seconds}
    print("".join(f"{at:6.1f} s  {name}\n" for name, at in (times | ended).items()))
    assert transcript.exit_code == 0, transcript.printed
    assert [*times] == [*MILESTONES] and [*times.values()] == sorted(times.values())
    with safe_open(tmp_path / "fused" / "model.safetensors", "pt") as weights:
        assert weights.keys()
    metrics = json.loads((tmp_path / "fused" / "metrics.json").read_text())
    assert metrics["training"]["num_windows"] == count_windows(load_job(job, ["data.held_out=[]"]))
    assert hosts.token not in transcript.printed


@pytest.mark.parametrize(
    "environment",
    [["RAY_AUTH_TOKEN=" + 32 * "wrong"], ["-u", "RAY_AUTH_TOKEN", "-u", "RAY_AUTH_MODE"]],
    ids=["wrong", "missing"],
)
def test_a_wrong_or_missing_token_is_refused_in_one_line(
    hosts: Hosts, demo: Path, tmp_path: Path, environment: list[str]
) -> None:
    transcript = read_to_end(start(hosts, write_small_job(tmp_path, demo), *environment))
    assert transcript.exit_code == 2
    assert transcript.printed.startswith("error: RAY_AUTH_TOKEN: ") and transcript.printed.count("\n") == 1
    assert "wrongwrong" not in transcript.printed and hosts.token not in transcript.printed


def test_what_the_run_refuses_comes_back_with_its_exit_code(hosts: Hosts, demo: Path, tmp_path: Path) -> None:
    job = write_small_job(tmp_path, demo)
    (tmp_path / "text" / "python.jsonl").unlink()
    transcript = read_to_end(start(hosts, job))
    assert transcript.exit_code == 2
    assert "error: data.train.0" in transcript.printed


def drain(hosts: Hosts, host: int) -> None:
    """As an autoscaler does before it takes a host away."""
    [node] = hosts.run(HEAD, [sys.executable, "-c", NODE, hosts.address, ip_address(host)], timeout=120).stdout.split()
    command = ["ray", "drain-node", "--address", hosts.address, "--node-id", node, "--reason-message", "it goes"]
    command += ["--reason", "DRAIN_NODE_REASON_PREEMPTION", "--deadline-remaining-seconds", str(NOTICE_SECONDS)]
    drained = hosts.run(HEAD, command, timeout=120)
    assert drained.returncode == 0, drained.stdout


def test_hosts_that_come_are_used_and_those_that_go_are_done_without(hosts: Hosts, demo: Path, tmp_path: Path) -> None:
    job, output = write_small_job(tmp_path, demo, workers=[1, 2], checkpoints={"every_steps": 2}), tmp_path / "fused"
    content = yaml.safe_load(job.read_text())
    content["sources"][0]["engine"] = "vllm"
    content["data"] |= {"epochs": 5, "held_out": []}
    job.write_text(yaml.safe_dump(content))
    submission = start(hosts, job, at=HEAD)
    wait_for_checkpoint(submission, output, 2)
    hosts.start(3, cpus=1, resources={"train": 1})
    wait_for_checkpoint(submission, output, 2, num_workers=2)
    assert any("RayTrainWorker" in title for title in titles(hosts.processes(3)))
    [drained, *_] = [host for host in (1, 2) if is_at_work(hosts, host)]
    drain(hosts, drained)
    time.sleep(NOTICE_SECONDS)
    assert submission.poll() is None
    hosts.cut(drained)
    hosts.kill(3)
    wait_for_checkpoint(submission, output, 2, num_workers=1)
    transcript = read_to_end(submission)
    assert transcript.exit_code == 0, transcript.printed
    metrics, num_windows = json.loads((output / "metrics.json").read_text()), count_windows(load_job(job, []))
    assert metrics["training"]["num_windows"] == num_windows
    assert sum(count for name, count in metrics["counts"].items() if name.startswith("won/")) == num_windows
    assert len(metrics["training"]["losses"]) == -(-num_windows // SETTINGS["batch_windows"])
