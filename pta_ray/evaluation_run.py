"""The run of `pta-ray evaluate`: from models and text or tasks to tables, a JSON file and a plot."""

import json
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError
from rich.console import Console

from pta_ray.board import Snapshot
from pta_ray.checkpoint import fingerprint, local_checkpoint, max_positions
from pta_ray.config import ServedModel
from pta_ray.errors import JobError, StreamError
from pta_ray.evaluation.bootstrap import CONFIDENCE, NUM_SAMPLES, Estimates, compare
from pta_ray.evaluation.document_bits import DocumentBits, by_document
from pta_ray.evaluation.harness import SuiteResult, run_harness
from pta_ray.evaluation.settings import Evaluation
from pta_ray.evaluation.task_suites import TaskSuites
from pta_ray.evaluation_stream import EvaluationRun, window_bits
from pta_ray.job_models import load_model_tokenizer
from pta_ray.operators import operators
from pta_ray.placement import Resources, in_passes, place_evaluation
from pta_ray.reports.progress import ProgressDisplay
from pta_ray.reports.tables import estimates_table, suites_table
from pta_ray.runner import explain
from pta_ray.session import noise_to_file, ray_session
from pta_ray.telemetry import Telemetry
from pta_ray.text.reading import plan_evaluation
from pta_ray.tokenizers.byte_tokenizer import ByteTokenizer
from pta_ray.versions import versions
from pta_ray.watchdog import Watchdog

_MAX_FAILED_SHARE = 0.05  # of the text
_MORE_TOKENS = 3  # of a window than bytes, at most: start token, a space of the tokenizer's own, EOS


@dataclass(frozen=True)
class Measured:
    """What came out of a comparison on text."""

    documents: dict[str, DocumentBits]
    models: dict[str, Estimates]
    differences: dict[str, Estimates]
    """From the first model, of the others."""
    snapshot: Snapshot


Scores = dict[str, dict[str, SuiteResult]]
"""By model, then by suite."""


def run_evaluation(
    settings: Evaluation,
    suites: TaskSuites | None,
    run_generated_code: bool,
    files: tuple[Path | None, Path | None],
    address: str | None,
) -> None:
    """Compares checked models on text, on tasks, or on both.

    Args:
        run_generated_code: whether programs that a model has written may run, in a sandbox.
        files: the JSON file and the plot to write.

    Raises:
        JobError: it cannot run as written.
        StreamError: it failed on the way.
    """
    begin = time.monotonic()
    readers = [_reader(model, i, settings) for i, model in enumerate(settings.models)] if settings.data else []
    cpus = place_evaluation(settings.models, has_gpus=False).local_cpus
    with _log_file() as log, noise_to_file(log) as console, ray_session(address, cpus) as hosts:
        try:
            measured = _measure(settings, readers, hosts, console) if settings.data else None
            scores = _score(settings, suites, run_generated_code, hosts, console) if suites else {}
        except RayError as error:
            raise explain(error, log) from error
    json_file, plot_file = files
    if json_file:
        content = _content(settings, measured, suites, scores, time.monotonic() - begin)
        json_file.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    if plot_file and measured:
        _plot(plot_file, measured)
    _report(measured, suites, scores)
    written = " and ".join(str(path) for path in files if path)
    Console().print(f"{written or 'done'} ({time.monotonic() - begin:.0f} s)", highlight=False)


def _reader(model: ServedModel, i: int, settings: Evaluation) -> tuple[ByteTokenizer, int]:
    """As `EvaluationRun.readers` has it."""
    tokenizer = load_model_tokenizer(f"models.{i}.model", model)
    longest = max_positions(local_checkpoint(model.model), model.trust_remote_code) - 1
    return tokenizer, min(longest, settings.window_bytes + _MORE_TOKENS)


@contextmanager
def _log_file() -> Iterator[Path]:
    """Takes the libraries' noise; stays only when a run has failed."""
    with tempfile.NamedTemporaryFile(prefix="pta-ray-evaluate-", suffix=".log", delete=False) as file:
        log = Path(file.name)
    try:
        yield log
    except (JobError, KeyboardInterrupt):
        log.unlink()
        raise
    log.unlink()


def _measure(
    settings: Evaluation, readers: list[tuple[ByteTokenizer, int]], hosts: Sequence[Resources], console: Console
) -> Measured:
    """Bits per byte on the text."""
    names = [model.name for model in settings.models]
    placement = place_evaluation(settings.models, _has_gpus(hosts))
    passes = in_passes(placement, hosts)
    telemetry = Telemetry.start(_MAX_FAILED_SHARE, "evaluate", operators(placement, settings.models))
    with Watchdog(telemetry), ProgressDisplay(console, telemetry) as display:
        display.phase(f"measuring bits per byte of {', '.join(names)}")
        run = EvaluationRun(settings, readers, plan_evaluation(settings.data), passes, telemetry)
        documents = by_document(window_bits(run), len(names))
        snapshot = telemetry.snapshot()
    if not documents:
        raise StreamError("the text came to no window that all models could read")
    found = compare(documents)
    models = dict(zip(names, found.models, strict=True))
    return Measured(documents, models, dict(zip(names[1:], found.differences, strict=True)), snapshot)


def _score(
    settings: Evaluation, suites: TaskSuites, run_generated_code: bool, hosts: Sequence[Resources], console: Console
) -> Scores:
    """What lm-evaluation-harness says of each model, on as many hosts as there is room on."""
    console.print(f"running {', '.join(suite.name for suite in suites.suites)}", highlight=False)
    pending = {}
    for model in settings.models:
        [actors] = place_evaluation([model], _has_gpus(hosts)).scoring
        task = ray.remote(num_cpus=actors.cpus, num_gpus=actors.gpus + actors.spread_gpus, max_retries=0)(run_harness)
        pending[model.name] = task.remote(model, suites, run_generated_code)
    return dict(zip(pending, ray.get(list(pending.values())), strict=True))


def _has_gpus(hosts: Sequence[Resources]) -> bool:
    return any(host.get("GPU") for host in hosts)


def _plot(path: Path, measured: Measured) -> None:
    from pta_ray.reports.plot import plot_estimates  # not at the top: of an extra

    panels = {"bits per byte": measured.models}
    if measured.differences:
        panels[f"difference from {next(iter(measured.models))}"] = measured.differences
    plot_estimates(path, panels)


def _report(measured: Measured | None, suites: TaskSuites | None, scores: Scores) -> None:
    console = Console()
    if measured:
        for found in measured.snapshot.set_aside[:5]:
            console.print(f"set aside: {found}", highlight=False, soft_wrap=True)
        level = f"{CONFIDENCE:.0%} confidence intervals over documents"
        console.print(estimates_table(f"bits per byte (lower is better; {level})", measured.models))
        if measured.differences:
            first = next(iter(measured.models))
            title = f"difference from {first} on the same documents (below 0 is better)"
            console.print(estimates_table(title, measured.differences))
    if suites:
        console.print(suites_table(suites, scores))


def _content(
    settings: Evaluation, measured: Measured | None, suites: TaskSuites | None, scores: Scores, seconds: float
) -> dict[str, Any]:
    """Everything, as JSON has it."""
    models = {
        model.name: {**model.model_dump(mode="json"), "sha256": fingerprint(local_checkpoint(model.model))}
        for model in settings.models
    }
    content: dict[str, Any] = {"packages": versions(), "models": models, "seconds": seconds}
    if measured:
        texts = {
            domain: {
                "documents": len(found.bytes_D),
                "windows": found.num_windows,
                "bytes": int(found.bytes_D.sum()),
            }
            for domain, found in measured.documents.items()
        }
        content |= {
            "data": [source.model_dump(mode="json") for source in settings.data],
            "window_bytes": settings.window_bytes,
            "confidence": CONFIDENCE,
            "bootstrap_samples": NUM_SAMPLES,
            "text": texts,
            "bits_per_byte": {name: asdict(found) for name, found in measured.models.items()},
            "differences": {
                "from": settings.models[0].name,
                "models": {name: asdict(found) for name, found in measured.differences.items()},
            },
            "set_aside": [found._asdict() for found in measured.snapshot.set_aside],
        }
    if suites:
        content["suites"] = suites.model_dump(mode="json")
        content["scores"] = {
            name: {suite: asdict(result) for suite, result in found.items()} for name, found in scores.items()
        }
    return content
