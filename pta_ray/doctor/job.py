"""Is everything there that a job names, within reach, and is there room for what it writes?

What `pta-ray fuse` looks at before it loads anything, but all of it; and what it would only learn on the way.
"""

import math
import tempfile
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import psutil
from safetensors import SafetensorError, safe_open

from pta_ray.config import Job
from pta_ray.doctor.finding import Finding, Severity, error, ok, refused, warning
from pta_ray.doctor.machine import GB, existing_parent
from pta_ray.doctor.remote import check_remote, is_remote
from pta_ray.errors import JobError, first_line, one_line
from pta_ray.placement import Resources, check_fit, place
from pta_ray.preflight import Check, fuse_checks
from pta_ray.result import checkpoints_directory
from pta_ray.training.checkpoints import CheckpointStore

_RESULT_BYTES = 4  # of a parameter: float32 on CPUs, half of that on GPUs
_CHECKPOINT_BYTES = 12  # of a parameter: its weight and two moments of the optimizer, in float32


def find_job(job: Job, hosts: Sequence[Resources]) -> Iterator[Finding]:
    """Of a job that is to run on these hosts, if any are known."""
    names = ["target", *(f"sources.{i}" for i in range(len(job.sources)))]
    models = {f"{name}.model": model.model for name, model in zip(names, job.models, strict=True)}
    remote = {field: model for field, model in models.items() if is_remote(model)}
    for check in fuse_checks(job, simulated=False):
        found = try_check(check)
        if found.severity is not Severity.OK or check.field not in remote:
            yield found
    for field, model in remote.items():
        yield try_check(Check(field, partial(check_remote, field, model)))
    yield check_unfinished(job)
    for field, directory in _written(job):
        if "://" not in directory:
            yield check_writable(field, Path(directory))
    if Path(job.target.model).is_dir():
        yield _check_disk(job)
    if hosts:
        yield check_room(job, hosts)


def _written(job: Job) -> Iterator[tuple[str, str]]:
    """Where a run writes to."""
    yield "output", job.output
    if job.data.cache:
        yield "data.cache", job.data.cache
    if job.training.checkpoints.directory:
        yield "training.checkpoints.directory", job.training.checkpoints.directory


def try_check(check: Check) -> Finding:
    """What comes of one check, whatever it meets with."""
    try:
        check.run()
    except JobError as refusal:
        return refused(refusal)
    except Exception as unexpected:  # a library's own: the other checks go on
        return error(check.field, one_line(unexpected), f"see to what {check.field} names, or change it")
    return ok(check.field, "as it should be")


def check_unfinished(job: Job) -> Finding:
    """There is no checkpoint of an interrupted run, from which `pta-ray fuse` goes on only if it is asked to."""
    try:
        newest = CheckpointStore(checkpoints_directory(job)).newest()
    except JobError as refusal:
        return refused(refusal)
    if newest is None:
        return ok("checkpoints", "none yet: the training begins at the beginning")
    detail = f"{checkpoints_directory(job)} holds one at step {newest.step} of a run that did not end"
    return warning("checkpoints", detail, "go on from it with --resume, or remove the directory")


def check_writable(field: str, directory: Path) -> Finding:
    """A file can be made where a run writes to, which leaves nothing behind."""
    parent = existing_parent(directory)
    try:
        with tempfile.TemporaryFile(dir=parent) as file:
            file.write(b"pta-ray")
    except OSError as problem:
        mend = f"change the owner or the mode of {parent}, or choose another directory"
        return error(field, f"cannot write to {parent} ({problem.strerror})", mend)
    return ok(field, f"{parent} can be written to")


def check_room(job: Job, hosts: Sequence[Resources]) -> Finding:
    """All stages can run at the same time."""
    has_gpus = any(host.get("GPU") for host in hosts)
    placement = place(job, has_gpus)
    try:
        check_fit(placement, hosts)
    except JobError as refusal:
        return refused(refusal)
    return ok("placement", f"all stages together need {placement.cpus:g} CPUs and {placement.gpus:g} GPUs")


def _check_disk(job: Job) -> Finding:
    try:
        num_parameters = count_parameters(Path(job.target.model))
    except (OSError, SafetensorError) as problem:
        detail = f"the weights in {job.target.model} cannot be read ({first_line(problem)})"
        return error("target.model", detail, "get the files again: they are damaged or not complete")
    return check_disk_for(job, num_parameters, psutil.disk_usage(str(existing_parent(Path(job.output)))).free)


def check_disk_for(job: Job, num_parameters: int, free: float) -> Finding:
    """The disk of the output has room for the result and, if they lie there, the checkpoints.

    Args:
        num_parameters: of the target.
        free: bytes.
    """
    needed = num_parameters * _RESULT_BYTES
    checkpoints = job.training.checkpoints
    if not checkpoints.directory and not job.training.lora:
        # The oldest goes when a new one is complete, and the best one stays besides.
        num_kept = checkpoints.keep_last + 1 + bool(job.training.validation)
        needed += num_parameters * _CHECKPOINT_BYTES * num_kept
    detail = f"{free / GB:.1f} GB free, and the run writes up to {needed / GB:.1f}"
    if free >= needed:
        return ok("disk of the output", detail)
    mend = "free some, choose another output, or put the checkpoints elsewhere (training.checkpoints.directory)"
    return warning("disk of the output", detail, mend)


def count_parameters(checkpoint: Path) -> int:
    """Of a model, from the headers of its weights.

    Raises:
        OSError, SafetensorError: a file cannot be read.
    """
    total = 0
    for path in checkpoint.glob("*.safetensors"):
        with safe_open(path, framework="np") as tensors:
            total += sum(math.prod(tensors.get_slice(name).get_shape()) for name in tensors.keys())  # noqa: SIM118
    return total
