"""lm-evaluation-harness on a model, in a process of its own: that process asks for all of a model's memory, changes
settings of the libraries that it loads, and may have to be shut in.

`python -m pta_ray.evaluation.harness DIRECTORY` is that process: it reads request.json there and writes results.json.
"""

import json
import math
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pta_ray.checkpoint import local_checkpoint
from pta_ray.config import ServedModel
from pta_ray.errors import StreamError
from pta_ray.evaluation.sandbox import sandboxed
from pta_ray.evaluation.task_suites import Suite, TaskSuites

_REQUEST, _RESULTS, _LOG = "request.json", "results.json", "harness.log"
_LAST_LINES = 3  # of a log, in an error
_BATCH = 8  # sequences at once, of the transformers backend


@dataclass(frozen=True)
class SuiteResult:
    """What a model reached in a suite."""

    score: float | None
    """The mean over the tasks, in the suite's unit; None for one that was left out."""
    stderr: float | None
    """Its standard error, from those of the tasks, where the harness tells these."""
    metric: str
    tasks: dict[str, float]
    """By task, as the harness reports it."""
    left_out: str = ""
    """Why there is no score."""


def run_harness(model: ServedModel, suites: TaskSuites, run_generated_code: bool) -> dict[str, SuiteResult]:
    """Results of a model by suite. Programs that it writes run in the sandbox, or not at all.

    Raises:
        StreamError: the harness has failed; ends in the last lines of its log.
    """
    results = {}
    possible = []
    for suite in suites.suites:
        if suite.unavailable or (suite.runs_code and not run_generated_code):
            why = suite.unavailable or "it runs programs that the model writes (--run-generated-code)"
            results[suite.name] = SuiteResult(None, None, suite.metric, {}, why)
        else:
            possible.append(suite)
    for runs_code in (False, True):
        chosen = [suite for suite in possible if suite.runs_code == runs_code]
        if chosen:
            found = _run(model, suites.model_copy(update={"suites": chosen}), runs_code)
            results.update({suite.name: suite_result(suite, found[suite.name]) for suite in chosen})
    return {suite.name: results[suite.name] for suite in suites.suites}


def _run(model: ServedModel, suites: TaskSuites, runs_code: bool) -> dict[str, Any]:
    """The harness's own results by suite and task."""
    with tempfile.TemporaryDirectory(prefix="pta-ray-harness-") as name:
        folder = Path(name)
        checkpoint = str(Path(local_checkpoint(model.model)).absolute())
        request = {
            "model": model.model_copy(update={"model": checkpoint}).model_dump(mode="json"),
            "suites": suites.model_dump(mode="json"),
            "runs_code": runs_code,
        }
        (folder / _REQUEST).write_text(json.dumps(request), encoding="utf-8")
        command = [sys.executable, "-m", "pta_ray.evaluation.harness", name]
        if runs_code:
            command = sandboxed(command, folder, _readable(checkpoint, suites), _code_variables())
        with (folder / _LOG).open("wb") as log:
            failed = subprocess.run(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL).returncode
        if failed:
            lines = (folder / _LOG).read_text(errors="replace").split("\n")
            last = " | ".join([line.strip() for line in lines if line.strip()][-_LAST_LINES:])
            raise StreamError(f"lm-evaluation-harness has failed on {model.name}: {last}")
        results: dict[str, Any] = json.loads((folder / _RESULTS).read_text(encoding="utf-8"))
        return results


def _readable(checkpoint: str, suites: TaskSuites) -> list[Path]:
    """What the harness reads: packages, weights, tasks, data sets that have been downloaded before."""
    from huggingface_hub.constants import HF_HOME

    package = Path(__file__).parents[1]
    own = [Path(sys.prefix), Path(sys.base_prefix), package.parent, Path(checkpoint).resolve(), Path(HF_HOME)]
    return [path for path in [*own, Path(suites.include_path)] if path.is_absolute() and path.exists()]


def _code_variables() -> dict[str, str]:
    from huggingface_hub.constants import HF_HOME

    return {"HF_HOME": HF_HOME, "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_ALLOW_CODE_EVAL": "1"}


def suite_result(suite: Suite, results: Mapping[str, Mapping[str, Any]]) -> SuiteResult:
    """The figure of a suite: the mean of its tasks' metric.

    Args:
        results: the harness's, by task: `metric,filter` and `metric_stderr,filter`.

    Raises:
        StreamError: a task has no such metric; names those that it has.
    """
    metric = suite.metric or _metrics(results[suite.tasks[0]])[0]
    for task in suite.tasks:
        if metric not in results[task]:
            there = ", ".join(_metrics(results[task]))
            raise StreamError(f"{task} of {suite.name} has no metric {metric!r}; it has: {there}")
    tasks = {task: float(results[task][metric]) for task in suite.tasks}
    errors = [results[task].get(metric.replace(",", "_stderr,", 1)) for task in suite.tasks]
    known = [float(error) for error in errors if isinstance(error, int | float)]
    stderr = suite.scale * math.hypot(*known) / len(tasks) if len(known) == len(tasks) else None
    return SuiteResult(suite.scale * sum(tasks.values()) / len(tasks), stderr, metric, tasks)


def _metrics(result: Mapping[str, Any]) -> list[str]:
    return [key for key in result if "," in key and "_stderr," not in key]


def main(folder: Path) -> None:
    """Loads the model once and runs every suite with it."""
    from lm_eval import simple_evaluate
    from lm_eval.api.registry import get_model
    from lm_eval.tasks import TaskManager

    request = json.loads((folder / _REQUEST).read_text(encoding="utf-8"))
    served = ServedModel.model_validate(request["model"])
    suites = TaskSuites.model_validate(request["suites"])
    backend, arguments = _backend(served)
    model = get_model(backend)(**arguments)
    manager = TaskManager(include_path=suites.include_path or None)
    results = {}
    for suite in suites.suites:
        found = simple_evaluate(
            model=model,
            tasks=suite.tasks,
            num_fewshot=suite.num_fewshot,
            task_manager=manager,
            log_samples=False,
            confirm_run_unsafe_code=request["runs_code"],
        )
        results[suite.name] = {**found["results"], **found.get("groups", {})}
    (folder / _RESULTS).write_text(json.dumps(results, default=str), encoding="utf-8")


def _backend(model: ServedModel) -> tuple[str, dict[str, Any]]:
    """The harness's name for an engine, and what it starts it with."""
    import torch

    device, dtype = ("cuda", "auto") if torch.cuda.is_available() else ("cpu", "float32")
    common = {"pretrained": model.model, "dtype": dtype, "trust_remote_code": model.trust_remote_code}
    if model.engine == "transformers":
        return "hf", {**common, "device": device, "batch_size": _BATCH}
    parallel = {"tensor_parallel_size": model.tensor_parallel, "max_num_batched_tokens": model.max_batched_tokens}
    return "vllm", {**common, **parallel, "batch_size": "auto"}


if __name__ == "__main__":
    main(Path(sys.argv[1]))
