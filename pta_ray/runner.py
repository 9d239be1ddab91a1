"""From a job file's settings to a published result: the run around the stream."""

import hashlib
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import ray
from ray.exceptions import RayError
from ray.train import TrainingFailedError
from rich.console import Console
from rich.table import Table

from pta_ray import pipeline
from pta_ray.cache import (
    Cache,
    Description,
    count_rows,
    data_files,
    place_align,
    place_from_cache,
    write_description,
)
from pta_ray.cache import (
    check_target as check_target_of_cache,
)
from pta_ray.checkpoint import check_vocabulary, fingerprint, local_checkpoint, max_positions
from pta_ray.config import Job, ServedModel
from pta_ray.errors import JobError, StreamError, one_line, root_cause
from pta_ray.evaluation.bits_per_byte import from_counts
from pta_ray.evaluation.fidelity import fidelity_from_counts
from pta_ray.placement import Placement, check_fit, place
from pta_ray.reports.progress import ProgressDisplay
from pta_ray.reports.tables import bits_table, fidelity_table
from pta_ray.result import checkpoints_directory, describe, fingerprints, staging_directory
from pta_ray.session import noise_to_file, ray_session
from pta_ray.telemetry import Snapshot, Telemetry
from pta_ray.text.reading import ReadPlan, plan_reads
from pta_ray.tokenizers.byte_tokenizer import ByteTokenizer
from pta_ray.tokenizers.loading import UnsupportedTokenizerError, load_tokenizer
from pta_ray.training.checkpoints import CheckpointStore
from pta_ray.training.manifest import check_settings, check_target, check_text
from pta_ray.versions import versions


@dataclass(frozen=True)
class Prepared:
    """What is known of a job before Ray is there."""

    job: Job
    text: ReadPlan
    tokenizers: list[ByteTokenizer]
    made_from: dict[str, str]
    """Fingerprints of the target and the text."""
    output: Path
    log: str
    """The name of the file in the output that takes the libraries' noise."""
    placing: Callable[[bool], Placement]
    """What every stage reserves, without GPUs or with them."""


def run_fuse(job: Job, address: str | None, resume: bool) -> None:
    """Runs a checked job to its end.

    Raises:
        JobError: it cannot run as written.
        StreamError: it failed on the way.
    """
    begin = time.monotonic()
    text, tokenizers = plan_reads(job.data), _load_tokenizers(job.models)
    made_from = {"target": _target_fingerprint(job), "text": text.fingerprint}
    prepared = Prepared(job, text, tokenizers, made_from, Path(job.output), "fuse.log", partial(place, job))
    step = _step_to_go_on_from(prepared, resume)
    with _started(prepared, address) as (run, display):
        display.phase(f"fusing {_sources(job)} into {job.target.name}{step}")
        pipeline.fuse(run)
        snapshot = _evaluate_and_describe(run, display, None, begin)
    _report_fused(job, snapshot, begin)


def run_fuse_from_cache(job: Job, address: str | None, resume: bool, cache: Cache) -> None:
    """Trains a checked job's target from a cache whose settings agree with the job's. Raises as `run_fuse`."""
    begin = time.monotonic()
    target = job.target
    tokenizers = _load_tokenizers([target])
    made_from = {"target": _target_fingerprint(job), "text": _cache_fingerprint(cache)}
    check_target_of_cache(cache, job, made_from["target"], tokenizers[0].table.fingerprint)
    placing = partial(place_from_cache, job, cache)
    prepared = Prepared(job, _plan_held_out(job), tokenizers, made_from, Path(job.output), "fuse.log", placing)
    step = _step_to_go_on_from(prepared, resume)
    with _started(prepared, address) as (run, display):
        display.phase(f"fusing {_sources(job)} into {target.name} from {cache.directory}{step}")
        pipeline.fuse_from_cache(run, cache)
        _check_all_learned(run, cache)
        snapshot = _evaluate_and_describe(run, display, cache, begin)
    _report_fused(job, snapshot, begin)


def run_align(job: Job, address: str | None, output: str) -> None:
    """Runs a checked job up to the fused stream and keeps that as a Parquet cache. Raises as `run_fuse`."""
    begin = time.monotonic()
    text, tokenizers = plan_reads(job.data), _load_tokenizers(job.models)
    placing = partial(place_align, job, output)
    with _started(Prepared(job, text, tokenizers, {}, Path(output), "_align.log", placing), address) as (run, display):
        display.phase(f"aligning {_sources(job)} with {job.target.name}")
        pipeline.align(run)
        snapshot = run.telemetry.snapshot()
        num_rows = _describe_cache(run, snapshot)
    _report(snapshot, f"{output} holds {num_rows} fused windows", begin)


@contextmanager
def _started(prepared: Prepared, address: str | None) -> Iterator[tuple[pipeline.Run, ProgressDisplay]]:
    """Ray, the display and a staging directory around a stream; what is staged becomes the output if all goes well."""
    job = prepared.job
    _check_context(job)
    with (
        staging_directory(prepared.output) as staging,
        noise_to_file(staging / prepared.log) as console,
        ray_session(address, prepared.placing(False).most_cpus) as resources,
    ):
        placement = prepared.placing("GPU" in resources)
        check_fit(placement, resources.get("CPU", 0), resources.get("GPU", 0))
        telemetry = Telemetry.start()
        with ProgressDisplay(console, telemetry) as display:
            try:
                run = pipeline.Run(
                    job, placement, prepared.tokenizers, prepared.text, staging.resolve(),
                    checkpoints_directory(job), prepared.made_from, telemetry,
                )  # fmt: skip
                yield run, display
            except (TrainingFailedError, RayError) as error:
                raise _explain(error, staging) from error


def _evaluate_and_describe(run: pipeline.Run, display: ProgressDisplay, cache: Cache | None, begin: float) -> Snapshot:
    if run.job.data.held_out:
        display.phase("measuring bits per byte on the held-out text")
        pipeline.evaluate(run)
    snapshot = run.telemetry.snapshot()
    describe(run.staging, run.job, cache, from_counts(snapshot.counts), snapshot, time.monotonic() - begin)
    return snapshot


def _describe_cache(run: pipeline.Run, snapshot: Snapshot) -> int:
    """Finishes a cache whose rows are written, and returns how many these are."""
    num_rows = count_rows(data_files(run.staging))
    if not num_rows:
        raise StreamError(f"the training text came to no window at all (log: {run.staging})")
    description = Description(
        job=run.job,
        packages=versions(),
        models=fingerprints(run.job),
        target_tokenizer=run.tokenizers[0].table.fingerprint,
        counts=dict(snapshot.counts),
        num_set_aside=len(snapshot.set_aside),
        num_rows=num_rows,
    )
    write_description(run.staging, description)
    return num_rows


def _step_to_go_on_from(prepared: Prepared, resume: bool) -> str:
    """Looks for a checkpoint and says in words where the training begins.

    Raises:
        JobError: there is a checkpoint and nobody asked for it; or it is damaged, or of another job.
    """
    directory = checkpoints_directory(prepared.job)
    newest = CheckpointStore(directory).newest()
    if newest is None:
        return ", from the beginning: there is no checkpoint yet" if resume else ""
    if not resume:
        problem = f"{directory} holds a checkpoint at step {newest.step} of a run that did not end"
        raise JobError("output", f"{problem}; go on from it with --resume, or remove the directory")
    check_settings(newest.manifest, prepared.job)
    check_target(newest.manifest, prepared.made_from["target"])
    check_text(newest.manifest, prepared.made_from["text"])
    return f", from step {newest.step} on"


def _check_all_learned(run: pipeline.Run, cache: Cache) -> None:
    outcome, num_rows = run.telemetry.snapshot().outcome, cache.description.num_rows
    if outcome["num_windows"] != num_rows and not outcome["stopped_early"]:
        problem = f"the target learned from {outcome['num_windows']} of the {num_rows} windows in {cache.directory}"
        raise StreamError(problem)


def _target_fingerprint(job: Job) -> str:
    return fingerprint(local_checkpoint(job.target.model))


def _cache_fingerprint(cache: Cache) -> str:
    return hashlib.sha256(cache.description.model_dump_json().encode()).hexdigest()


def _report_fused(job: Job, snapshot: Snapshot, begin: float) -> None:
    bits_per_byte = from_counts(snapshot.counts)
    tables = [bits_table(bits_per_byte, job.target.name)] if bits_per_byte else []
    _report(snapshot, f"{job.output} holds the fused checkpoint", begin, tables)


def _report(snapshot: Snapshot, outcome: str, begin: float, tables: Iterable[Table] = ()) -> None:
    console = Console()
    for line in snapshot.set_aside[:5]:
        console.print(f"set aside: {line}", highlight=False, soft_wrap=True)
    console.print(fidelity_table(fidelity_from_counts(snapshot.counts)), *tables, sep="\n")
    console.print(f"{outcome} ({time.monotonic() - begin:.0f} s)", highlight=False)


def _sources(job: Job) -> str:
    return ", ".join(model.name for model in job.sources)


def _plan_held_out(job: Job) -> ReadPlan:
    """Reads no training text, which need not be there any more when its rows are in a cache."""
    return plan_reads(job.data.model_copy(update={"train": []}))


def _load_tokenizers(models: list[ServedModel]) -> list[ByteTokenizer]:
    """Those of the target and of the sources that follow it, each fit for its model."""
    tokenizers = []
    for i, model in enumerate(models):
        field = "target.model" if i == 0 else f"sources.{i - 1}.model"
        try:
            checkpoint = local_checkpoint(model.model)
            tokenizers.append(load_tokenizer(checkpoint, model.trust_remote_code))
            check_vocabulary(field, checkpoint, tokenizers[-1].highest_id + 1, model.trust_remote_code)
        except UnsupportedTokenizerError as error:
            raise JobError(field, f"the tokenizer of {model.model} cannot be aligned: {error}") from None
        except (OSError, ValueError) as error:
            raise JobError(field, f"cannot load {model.model}: {str(error).splitlines()[0]}") from None
    return tokenizers


def _check_context(job: Job) -> None:
    """Refuses windows that the target cannot read to their end; sources that cannot fall silent there."""
    target = job.target
    longest = max_positions(local_checkpoint(target.model), target.trust_remote_code) - 1
    if job.data.window_tokens > longest:
        raise JobError("data.window_tokens", f"{target.name} reads {longest} tokens at most; choose that or less")


def _explain(error: BaseException, staging: Path) -> Exception:
    """The cause at the bottom of a distributed failure, in one line."""
    root = root_cause(error)
    if isinstance(root, JobError | StreamError):
        return root
    logs = Path(ray._private.worker._global_node.get_logs_dir_path())
    return StreamError(f"{one_line(root)} (logs: {staging}, {logs})")
