"""What a checkpoint says of itself, and whether a job may go on from it.

Nothing heavy is imported here, so that a job that does not suit its checkpoint is refused at once.
"""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from pta_ray.agreement import check_agreement
from pta_ray.config import Job
from pta_ray.errors import JobError

START_OVER = "remove the checkpoints to start over"
"""The other way out, wherever a checkpoint does not fit."""

# Settings of the training that only say how it runs: all others decide what is learned.
_RUNNING = {
    "workers", "cpus", "gpus", "zero_stage", "offload_optimizer", "offload_parameters", "micro_batch_windows",
    "gradient_checkpointing", "positions_per_chunk", "checkpoints", "trackers", "max_bad_windows", "validation",
}  # fmt: skip


class Manifest(BaseModel):
    """What a checkpoint says of itself."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal[2] = 2
    step: int
    """Optimizer steps taken."""
    progress: float
    """Share of the run's text that was learned from."""
    num_workers: int
    """That wrote it; any other number can go on from it."""
    job: Job
    """With every default filled in."""
    packages: dict[str, str]
    """Versions, by name."""
    target: str
    """SHA-256 of the starting checkpoint, as of `checkpoint.fingerprint`."""
    text: str
    """Fingerprint of the reading plan."""
    state: dict[str, Any]
    """What else the training wants back, as JSON: losses, counts, the best validation so far."""
    num_windows: int
    """Windows that were learned from."""
    files: dict[str, int] = {}
    """Size in bytes, by name, of all other files."""


def check_settings(manifest: Manifest, job: Job) -> None:
    """Refuses a job whose target would learn something else than the one that the checkpoint is of.

    How models and training are run may differ: other machines may go on with it.

    Raises:
        JobError: names the first field that differs, and what it has to be.
    """
    # What is read depends on whether there is a cache for the later epochs.
    exclude = {"training": _RUNNING, "data": {"max_failed_share"}}
    check_agreement(manifest.job, job, exclude, "the checkpoint", START_OVER)
    for made, model in zip(manifest.job.models, job.models, strict=True):
        # What is made up must not pass for real in the end.
        if "simulated" in {made.engine, model.engine} and made.engine != model.engine:
            problem = f"of {model.name} is {model.engine}, and the checkpoint was made with {made.engine}"
            raise JobError("engine", f"{problem}; set it to that, or {START_OVER}")


def check_target(manifest: Manifest, sha256: str) -> None:
    """Refuses another target than the one that the run started from.

    Args:
        sha256: fingerprint of the job's target, as of `checkpoint.fingerprint`.

    Raises:
        JobError: it differs.
    """
    if sha256 != manifest.target:
        problem = f"its files ({sha256[:12]}) are not those that the checkpoint started from ({manifest.target[:12]})"
        raise JobError("target.model", f"{problem}; put back {manifest.job.target.model} as it was, or {START_OVER}")


def check_text(manifest: Manifest, fingerprint: str) -> None:
    """Refuses other text than the checkpoint's: rows would not be those that its ledger tells of.

    Args:
        fingerprint: of the job's reading plan.

    Raises:
        JobError: it differs.
    """
    if fingerprint != manifest.text:
        problem = "the files are not those that the checkpoint was made from"
        raise JobError("data.train", f"{problem}; put those back as they were, or {START_OVER}")
