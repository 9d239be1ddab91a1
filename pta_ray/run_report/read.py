"""Reads a report's numbers from the files that a run has left."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from pydantic import ValidationError

from pta_ray.config import Job
from pta_ray.errors import JobError
from pta_ray.job_file import load_job
from pta_ray.pages.labels import label_of
from pta_ray.reports.job_facts import settings, shown
from pta_ray.run_report.model import Curve, Model, Report, Representations, SetAside, Stage

_MOST_POINTS = 500  # of a curve: more than a screen can tell apart only make the page heavy
_MOST_REASONS, _MOST_IDS = 50, 3


def read_run(folder: Path) -> Report:
    """Reads the output of `pta-ray fuse`.

    Raises:
        JobError: the directory holds no such output, or one that cannot be read.
    """
    metrics, fusion = _read_json(folder / "metrics.json"), _read_json(folder / "fusion.json")
    job = load_job(folder / "job.yaml", [])
    try:
        return _report(folder, job, metrics, fusion)
    except (KeyError, TypeError, AttributeError, ValidationError):
        raise JobError("RUN", f"{folder}/metrics.json or fusion.json is not as `pta-ray fuse` writes them") from None


def _report(folder: Path, job: Job, metrics: dict[str, Any], fusion: dict[str, Any]) -> Report:
    training, simulated = metrics["training"], metrics.get("simulated", [])
    set_aside = _set_aside(folder / "quarantine.parquet")
    return Report(
        name=folder.absolute().name,
        target=job.target.name,
        models=_models(job, fusion["models"], simulated),
        simulated=simulated,
        text=_text(job),
        settings=[(name, str(value)) for name, value in settings(job)],
        packages=list(fusion["packages"].items()),
        cache=shown(fusion["cache"]["directory"]) if "cache" in fusion else "",
        seconds=metrics["seconds"],
        steps=training["steps"],
        best_step=training["best_step"],
        num_windows=training["num_windows"],
        losses=thinned(training["losses"]),
        learning_rates=thinned(training.get("learning_rates", [])),
        bits_curves=_bits_curves(metrics, job.target.name),
        bits_per_byte=metrics["bits_per_byte"],
        won=_won(metrics["counts"]),
        alignment=metrics["alignment"],
        stages=[Stage(name=name, **figures) for name, figures in metrics["stages"].items()],
        bottleneck=metrics["bottleneck"],
        num_set_aside=sum(group.number for group in set_aside),
        set_aside=set_aside[:_MOST_REASONS],
        representations=_representations(training.get("representations")),
    )


def thinned(points: Sequence[Sequence[float]], most: int = _MOST_POINTS) -> Curve:
    """At most so many points: each the mean of some that follow one another. What is not finite is left out."""
    known = [(step, value) for step, value in points if math.isfinite(value)]
    size = -(-len(known) // most) or 1
    parts = [known[first : first + size] for first in range(0, len(known), size)]
    return [(fmean(step for step, _ in part), fmean(value for _, value in part)) for part in parts]


def _models(job: Job, models: Mapping[str, Mapping[str, str]], simulated: Sequence[str]) -> list[Model]:
    roles = ["target, and teacher as it was", *["source"] * len(job.sources)]
    return [
        Model(
            name=model.name,
            role=f"{role}, simulated" if model.name in simulated else role,
            place=shown(model.model),
            sha256=models[model.name]["sha256"][:12],
        )
        for role, model in zip(roles, job.models, strict=True)
    ]


def _text(job: Job) -> list[tuple[str, str, str]]:
    uses = {"learned from": job.data.train, "held out": job.data.held_out}
    return [(use, source.domain, shown(source.path)) for use, sources in uses.items() for source in sources]


def _bits_curves(metrics: Mapping[str, Any], target: str) -> dict[str, Curve]:
    """With what a simulated target has made up, a curve has no starting point."""
    training, measured = metrics["training"], metrics["bits_per_byte"]
    found = [(step, by_domain) for step, by_domain in training["validations"]]
    if not found and "fused" in measured:
        found = [(training["steps"], measured["fused"])]
    if target in measured and target not in metrics.get("simulated", []):
        found.insert(0, (0, measured[target]))
    domains = sorted({domain for _, by_domain in found for domain in by_domain})
    return {domain: thinned([(step, by[domain]) for step, by in found if domain in by]) for domain in domains}


def _won(counts: Mapping[str, float]) -> dict[str, dict[str, int]]:
    won: dict[str, dict[str, int]] = {}
    for key, number in sorted(counts.items()):
        kind, _, place = key.partition("/")
        if kind == "won":
            domain, _, model = place.partition("/")
            won.setdefault(domain, {})[model] = int(number)
    return won


def _set_aside(path: Path) -> list[SetAside]:
    """Everything in a quarantine, by stage and reason; the most frequent first."""
    if not path.exists():
        return []
    import pyarrow.parquet as pq

    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in pq.read_table(path).to_pylist():
        groups.setdefault((row["stage"], row["reason"]), []).append(row)
    found = [
        SetAside(
            stage=stage,
            reason=reason,
            number=len(rows),
            share=None if any(row["share"] is None for row in rows) else sum(row["share"] for row in rows),
            first=[row["window_id"] for row in rows[:_MOST_IDS]],
        )
        for (stage, reason), rows in groups.items()
    ]
    return sorted(found, key=lambda group: -group.number)


def _representations(found: dict[str, Any] | None) -> Representations | None:
    if not found:
        return None
    labels = [label_of(token.encode("utf-8", "surrogateescape")) for token in found["tokens"]]
    return Representations.model_validate({**found, "tokens": labels})


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise JobError("RUN", f"{path.parent} holds no {path.name}: give the output of a finished fuse") from None
    except (OSError, ValueError) as error:
        raise JobError("RUN", f"{path} cannot be read ({error})") from None
    return content
