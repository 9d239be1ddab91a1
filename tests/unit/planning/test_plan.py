import json
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from pta_ray.config import Job
from pta_ray.errors import JobError
from pta_ray.planning.plan import Plan
from pta_ray.planning.run import plan_job
from pta_ray.reports.plan_tables import print_plan

BIG = {
    "model_type": "llama", "vocab_size": 32000, "hidden_size": 4096, "num_hidden_layers": 32,
    "num_attention_heads": 32, "intermediate_size": 11008,
}  # fmt: skip
CLUSTER = "{gpus: 8, gpu: A100-80G, cpus: 96, memory: 1TB}"


@pytest.fixture
def content(tmp_path: Path) -> dict[str, Any]:
    """A job of one source."""
    for name in ("target", "source"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(json.dumps(BIG))
    (tmp_path / "text.txt").write_bytes(b"A line of text.\n" * 1000)
    return {
        "target": str(tmp_path / "target"), "sources": [str(tmp_path / "source")], "data": str(tmp_path / "text.txt"),
        "training": {"workers": 4, "gradient_checkpointing": True},
    }  # fmt: skip


def plan(
    content: dict[str, Any], cluster: str = CLUSTER, tokens: float | None = 1e9, price: float | None = None
) -> Plan:
    return plan_job(Job.model_validate(content), cluster, None, tokens, price)


def test_the_slowest_stage_sets_the_pace_and_the_hours(content: dict[str, Any]) -> None:
    found = plan(content, price=2.5)
    rates = {stage.stage: stage.tokens_per_second for stage in found.stages}
    assert found.tokens_per_second == min(rates.values()) == rates[found.bottleneck]
    assert found.hours == pytest.approx(1e9 / found.tokens_per_second / 3600)
    assert found.gpu_hours == pytest.approx(6 * found.hours)  # two score and four train
    assert found.cost == pytest.approx(2.5 * found.gpu_hours)
    assert not found.problems


def test_with_as_many_actors_as_are_enough_the_training_sets_the_pace(content: dict[str, Any]) -> None:
    found = plan({**content, "training": {"workers": 6, "gradient_checkpointing": False}})
    enough = {stage.stage: stage.enough for stage in found.stages}
    assert found.bottleneck.startswith("score")
    for name in ("target", "sources"):
        entry = content[name] if name == "target" else content[name][0]
        content[name] = {"model": entry, "replicas": enough[f"score {name.removesuffix('s')}"]}
    content["sources"] = [content["sources"]]
    content["alignment"] = {"replicas": enough["align"]}
    better = plan({**content, "training": {"workers": 6}}, f"2x{CLUSTER}")
    assert better.bottleneck == "train"


def test_stages_grow_as_far_as_they_may_and_there_is_room(content: dict[str, Any]) -> None:
    content["sources"] = [{"model": content["sources"][0], "replicas": [1, 4]}]
    small, large = (plan(content, f"{{gpus: {gpus}, cpus: 32, memory: 1TB}}") for gpus in (6, 12))
    scoring = [next(s for s in found.stages if s.stage == "score source") for found in (small, large)]
    assert [stage.most for stage in scoring] == [4, 4]
    assert scoring[0].actors == 1
    assert small.tokens_per_second <= large.tokens_per_second


def test_a_cluster_that_is_too_small_is_told_with_the_mend(content: dict[str, Any]) -> None:
    [problem] = plan(content, "{gpus: 4, cpus: 32, memory: 1TB}").problems
    assert "need 6 and the cluster has 4; lower" in problem


def test_a_gpu_that_is_too_small_is_told_with_the_mend(content: dict[str, Any]) -> None:
    problems = plan(content, "{gpus: 8, gpu: A10G, cpus: 32, memory: 1TB}").problems
    assert any(p.startswith("train: needs ") and "raise training.zero_stage" in p for p in problems)


def test_log_probabilities_must_fit_beside_what_vllm_takes(content: dict[str, Any]) -> None:
    content["sources"] = [{"model": content["sources"][0], "max_batched_tokens": 32768}]
    [problem] = plan(content).problems
    assert problem.startswith("score source: log-probabilities take up to 12.6 GB, and vLLM leaves 8.0")


def test_the_hosts_memory_is_counted(content: dict[str, Any]) -> None:
    [problem] = plan(content, "{gpus: 8, cpus: 32, memory: 4GB}").problems
    assert problem.startswith("all processes together need")


def test_the_text_is_measured_where_it_lies_here(content: dict[str, Any]) -> None:
    assert plan(content, tokens=None).tokens == pytest.approx(16000 / 4)
    content["data"] = "/nowhere/text"
    assert plan(content, tokens=None).hours is None


def test_later_epochs_from_a_cache_are_not_scored_again(content: dict[str, Any], tmp_path: Path) -> None:
    content["training"]["workers"] = 6
    content["data"] = {"train": content["data"], "epochs": 3}
    again = plan(content)
    content["data"]["cache"] = str(tmp_path / "cache")
    cached = plan(content)
    assert again.bottleneck != "train"
    assert cached.hours is not None
    assert again.hours is not None
    assert cached.hours < again.hours


@pytest.mark.parametrize(("tokens", "cluster", "field"), [(0, CLUSTER, "--tokens"), (1, "nonsense", "--cluster")])
def test_what_cannot_be_meant_is_refused(content: dict[str, Any], tokens: float, cluster: str, field: str) -> None:
    with pytest.raises(JobError, match=f"^{field}: "):
        plan(content, cluster, tokens)


def test_tables_say_what_is_estimated_and_whether_it_fits(content: dict[str, Any]) -> None:
    console = Console(width=120, record=True, quiet=False, file=Path(os.devnull).open("w"))  # noqa: SIM115
    print_plan(plan(content, price=2), console)
    text = console.export_text()
    assert text.count("estimated") >= 3
    assert "6,738,415,616" in text
    assert text.rstrip().endswith("fits")


def test_the_papers_job_is_planned_at_once_without_hub_or_torch() -> None:
    code = "import sys; from pta_ray.cli import app; app(standalone_mode=False); assert 'torch' not in sys.modules"
    command = [sys.executable, "-c", code, "plan", "jobs/paper.yaml", "--tokens", "1e9", "--json"]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    result = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "HF_HUB_OFFLINE": "1"})
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)
    assert [model["parameters"] for model in found["models"]] == [6_738_415_616, 6_738_415_616, 6_649_286_656]
    assert found["estimated"]
    assert found["fits"]
    # Of the processor: others may have it in between. The hub has a second to answer.
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 2
