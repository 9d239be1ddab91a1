"""The directory that a run leaves: an ordinary checkpoint, and beside its files what made it.

config.json, model*.safetensors, tokenizer*, generation_config.json    loads in transformers and vLLM as it is
README.md       the model card: sources, text, settings, what was measured
job.yaml        the job with every default filled in
fusion.json     package versions, the fingerprints of all models, and the cache that was trained from, if one was
metrics.json    bits per byte, losses, what each stage did and which of them set the pace, who won which windows
report.html     all of that to look at, on one page
quarantine.parquet  a row per window or document that the run went on without, where there are any
tensorboard/    the training's scalars; wandb/ and mlruns/ where those were asked for
fuse.log        what the libraries logged
"""

import json
import math
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from pta_ray.board import Snapshot
from pta_ray.cache import Cache
from pta_ray.checkpoint import fingerprint, local_checkpoint
from pta_ray.config import Job
from pta_ray.errors import JobError
from pta_ray.evaluation.bits_per_byte import BitsPerByte
from pta_ray.evaluation.fidelity import fidelity_from_counts
from pta_ray.operators import bottleneck_figures, stage_figures
from pta_ray.preflight import simulated_models
from pta_ray.reports.model_card import Trained, model_card
from pta_ray.versions import versions

CHECKPOINTS = "checkpoints"
QUARANTINE = "quarantine.parquet"
QUARANTINE_SCHEMA = pa.schema(
    [
        ("window_id", pa.string()),  # or that of a document that could not be read
        ("stage", pa.string()),
        ("reason", pa.string()),
        ("share", pa.float64()),  # of the training text; null where nobody knows
    ]
)

_NOT_FINITE = "targets or loss are not finite"


def staging_path(output: Path) -> Path:
    """Where the result of a run is put together."""
    return output.with_name(f"{output.name}.partial")


def checkpoints_directory(job: Job) -> str:
    """Where the checkpoints of a run lie, a directory or a URI."""
    default = staging_path(Path(job.output).absolute()) / CHECKPOINTS
    return job.training.checkpoints.directory or str(default)


@contextmanager
def staging_directory(output: Path) -> Iterator[Path]:
    """A directory beside the output in which a result is put together, and which becomes the output in one step.

    A run that fails or is killed leaves the staging directory, with its log and its checkpoints; the next run of the
    job goes on in it, or starts over where there is no checkpoint. A job that is refused leaves it as it was.
    """
    staging = staging_path(output)
    is_new = not staging.is_dir()
    if not (staging / CHECKPOINTS).is_dir():
        shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True, exist_ok=True)
    try:
        yield staging
    except JobError:
        if is_new and not (staging / CHECKPOINTS).is_dir():
            shutil.rmtree(staging)
        raise
    for name in (".ray", CHECKPOINTS):
        shutil.rmtree(staging / name, ignore_errors=True)
    if output.is_dir():
        output.rmdir()  # empty, or the job would have been refused
    staging.rename(output)


def describe(
    staging: Path, job: Job, cache: Cache | None, bits_per_byte: BitsPerByte, snapshot: Snapshot, seconds: float
) -> None:
    """Writes what made the checkpoint beside it: the job, and the cache where the rows came from one."""
    settings = job.model_dump(mode="json")
    (staging / "job.yaml").write_text(yaml.safe_dump(settings, sort_keys=False), encoding="utf-8")
    models = cache.description.models if cache else fingerprints(job)
    simulated = simulated_models(job, cache)
    made_up = {"simulated": simulated} if simulated else {}
    fusion: dict[str, Any] = {**made_up, "packages": versions(), "models": models}
    if cache:
        made = cache.description
        fusion["cache"] = {"directory": str(cache.directory), "num_rows": made.num_rows, "packages": made.packages}
    _write_json(staging / "fusion.json", fusion)
    outcome = snapshot.outcome
    trained = Trained(outcome["steps"], outcome["best_step"], len(outcome["set_aside"]))
    card = model_card(job, models, versions(), bits_per_byte, snapshot.counts, trained, simulated)
    (staging / "README.md").write_text(card, encoding="utf-8")
    metrics = {
        **made_up,
        "bits_per_byte": bits_per_byte,
        "alignment": {
            # What was asked of no position is not a number, which JSON has no word for.
            source: {name: None if math.isnan(figure) else figure for name, figure in found.figures.items()}
            for source, found in fidelity_from_counts(snapshot.counts).items()
        },
        "seconds": seconds,
        "stages": stage_figures(snapshot),
        "bottleneck": bottleneck_figures(snapshot),
        "counts": dict(snapshot.counts),
        "set_aside": snapshot.set_aside,
        "training": snapshot.outcome,
    }
    _write_json(staging / "metrics.json", metrics)


def write_quarantine(path: Path, snapshot: Snapshot) -> None:
    """Writes what the run went on without, in the columns of `QUARANTINE_SCHEMA`; no file where there is nothing."""
    trained = snapshot.outcome.get("set_aside", [])
    found: list[tuple[str, str, str, float | None]]
    found = [(one.what, one.stage, one.reason, one.share) for one in snapshot.set_aside]
    found += [(what, "train", _NOT_FINITE, None) for what in trained]
    path.unlink(missing_ok=True)
    if found:
        columns = [list(column) for column in zip(*found, strict=True)]
        pq.write_table(pa.table(columns, schema=QUARANTINE_SCHEMA), path)


def fingerprints(job: Job) -> dict[str, dict[str, str]]:
    """Where every model lies and the SHA-256 of its files, by name."""
    return {m.name: {"model": m.model, "sha256": fingerprint(local_checkpoint(m.model))} for m in job.models}


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
