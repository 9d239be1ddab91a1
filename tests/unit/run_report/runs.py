"""A small run's files, with numbers that are easy to follow."""

import json
from pathlib import Path
from typing import Any

import yaml

from pta_ray.board import SetAside, Snapshot
from pta_ray.config import Job
from pta_ray.result import write_quarantine

JOB: dict[str, Any] = {
    "target": "owner/target",
    "sources": [{"model": "hf://owner/coder"}, {"model": "/home/someone/models/poet", "name": "poet"}],
    "data": {"train": ["/home/someone/code.jsonl", "s3://bucket/prose"], "held_out": ["/home/someone/code.jsonl"]},
}
METRICS: dict[str, Any] = {
    "bits_per_byte": {
        "coder": {"code": 1.5, "prose": 4.0},
        "fused": {"code": 1.75, "prose": 2.75},
        "poet": {"code": 3.0, "prose": 1.25},
        "target": {"code": 2.0, "prose": 3.0},
    },
    "alignment": {
        "coder": {
            "coverage": 0.75, "information_kept": 0.5, "next_byte_divergence_bits": 0.125, "next_byte_agreement": 0.9,
        },
        "poet": {
            "coverage": 0.0, "information_kept": None, "next_byte_divergence_bits": None, "next_byte_agreement": None,
        },
    },
    "seconds": 5400.0,
    "stages": {
        name: {
            "rows": 80, "tokens": 9000, "tokens_per_second": speed, "busy_share": share, "failures": 0, "processes": 2,
        }
        for name, speed, share in (("score coder", 600.0, 0.75), ("score poet", 300.0, 0.5), ("train", 900.0, 0.25))
    },
    "bottleneck": {
        "operator": "score coder, poet", "busy_share": 0.625, "windows_per_second": 4.0,
        "remedy": "more replicas of coder, poet",
    },
    "counts": {"won/code/coder": 30, "won/code/target": 10, "won/prose/poet": 3, "bits/target/code": 7.0},
    "set_aside": [],
    "training": {
        "steps": 4, "best_step": 2, "num_windows": 43, "set_aside": [],
        "losses": [[1, 4.0], [2, 3.0], [3, 2.5], [4, 2.25]],
        "learning_rates": [[1, 1e-4], [2, 2e-4], [3, 1e-4], [4, 5e-5]],
        "validations": [[2, {"code": 1.75, "prose": 2.75}], [4, {"code": 1.8, "prose": 2.8}]],
        "bits_per_byte": {"code": 1.75, "prose": 2.75},
        "representations": {
            "tokens": [" the", "\n", "</script><b>", "x", "\\xe6", "一"], "groups": [0, 1, 2, 3, 4, 5] * 4,
            "before": {"compactness": 0.8, "variance_share": 0.5, "points": [[i / 10, 1 - i / 10] for i in range(24)]},
            "after": {"compactness": 0.625, "variance_share": 0.25, "points": [[1 - i / 9, i / 9] for i in range(24)]},
        },
    },
}  # fmt: skip
SET_ASIDE = [SetAside(f"code:{i}:0", "score coder", "not finite", 0.125) for i in range(4)]
SET_ASIDE.append(SetAside("prose:7", "read", "<b>bad</b> JSON", 0.0))


def write_run(folder: Path, set_aside: list[SetAside] | None = None, **changes: Any) -> Path:
    """What a fuse leaves, but for the weights.

    Args:
        changes: sections of metrics.json, `training` by its fields.
    """
    folder.mkdir(parents=True, exist_ok=True)
    metrics = {**METRICS, **changes, "training": {**METRICS["training"], **changes.get("training", {})}}
    (folder / "metrics.json").write_text(json.dumps(metrics))
    models = {name: {"model": "?", "sha256": name[0] * 64} for name in ("target", "coder", "poet")}
    fusion = {"packages": {"pta-ray": "9.8.7", "torch": "1.2.3"}, "models": models}
    (folder / "fusion.json").write_text(json.dumps(fusion))
    (folder / "job.yaml").write_text(yaml.safe_dump(Job.model_validate(JOB).model_dump(mode="json")))
    write_quarantine(folder / "quarantine.parquet", Snapshot(set_aside=SET_ASIDE if set_aside is None else set_aside))
    return folder
