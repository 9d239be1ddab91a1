"""From a job file's settings to a published result: the run around the stream."""

import hashlib
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import ray
from ray.exceptions import RayError
from ray.train import TrainingFailedError
from rich.console import Console
from rich.table import Table

from pta_ray import pipeline
from pta_ray.board import Snapshot
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
from pta_ray.cached_epochs import later_epochs
from pta_ray.checkpoint import fingerprint, local_checkpoint
from pta_ray.config import Job
from pta_ray.errors import JobError, StreamError, one_line, root_cause
from pta_ray.evaluation.bits_per_byte import BitsPerByte, from_counts
from pta_ray.evaluation.fidelity import fidelity_from_counts
from pta_ray.growing_cache import begin_cache, drop_doubles, end_growth
from pta_ray.job_models import check_context, load_model_tokenizer, load_tokenizers
from pta_ray.operators import bottleneck, operators
from pta_ray.placement import Placement, check_fit, place
from pta_ray.reports.progress import ProgressDisplay
from pta_ray.reports.tables import bits_table, fidelity_table
from pta_ray.result import (
    QUARANTINE,
    checkpoints_directory,
    describe,
    fingerprints,
    staging_directory,
    write_quarantine,
)
from pta_ray.run_report.write import REPORT, write_report
from pta_ray.session import noise_to_file, ray_session
from pta_ray.telemetry import Telemetry
from pta_ray.text.reading import ReadPlan, plan_reads
from pta_ray.tokenizers.byte_tokenizer import ByteTokenizer
from pta_ray.training.checkpoints import CheckpointStore
from pta_ray.training.manifest import check_settings, check_target, check_text
from pta_ray.versions import versions
from pta_ray.watchdog import Watchdog

_LOGS = "fuse.log", QUARANTINE


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
    quarantine: str
    """Of the one that names what was set aside."""
    placing: Callable[[bool], Placement]
    """What every stage reserves, without GPUs or with them."""


def run_fuse(job: Job, address: str | None, resume: bool) -> None:
    """Runs a checked job to its end.

    Raises:
        JobError: it cannot run as written.
        StreamError: it failed on the way.
    """
    begin = time.monotonic()
    text, tokenizers = plan_reads(job.data), load_tokenizers(job)
    made_from = {"target": _target_fingerprint(job), "text": text.fingerprint}
    prepared = Prepared(job, text, tokenizers, made_from, Path(job.output), *_LOGS, partial(place, job))
    step = _step_to_go_on_from(prepared, resume)
    with _started(prepared, address) as (run, display):
        display.phase(f"fusing {_sources(job)} into {job.target.name}{step}")
        if job.data.cache:
            begin_cache(job, goes_on=bool(CheckpointStore(run.checkpoints).steps()))
        pipeline.fuse(run)
        if job.data.cache:
            _finish_cache(run)
        snapshot = _describe(run, None, begin)
    _report_fused(job, snapshot, begin)


def run_fuse_from_cache(job: Job, address: str | None, resume: bool, cache: Cache) -> None:
    """Trains a checked job's target from a cache whose settings agree with the job's. Raises as `run_fuse`."""
    begin = time.monotonic()
    target = job.target
    tokenizers = [load_model_tokenizer("target.model", target)]
    made_from = {"target": _target_fingerprint(job), "text": _cache_fingerprint(cache)}
    check_target_of_cache(cache, job, made_from["target"], tokenizers[0].table.fingerprint)
    placing = partial(place_from_cache, job, cache)
    prepared = Prepared(job, _plan_held_out(job), tokenizers, made_from, Path(job.output), *_LOGS, placing)
    step = _step_to_go_on_from(prepared, resume)
    with _started(prepared, address) as (run, display):
        display.phase(f"fusing {_sources(job)} into {target.name} from {cache.directory}{step}")
        pipeline.fuse_from_cache(run, cache)
        _check_all_learned(run, cache)
        snapshot = _describe(run, cache, begin)
    _report_fused(job, snapshot, begin)


def run_align(job: Job, address: str | None, output: str) -> None:
    """Runs a checked job up to the fused stream and keeps all of that, every epoch, as a Parquet cache. Raises as
    `run_fuse`."""
    begin = time.monotonic()
    job = job.model_copy(update={"data": job.data.model_copy(update={"cache": ""})})
    text, tokenizers = plan_reads(job.data), load_tokenizers(job)
    placing = partial(place_align, job, output)
    prepared = Prepared(job, text, tokenizers, {}, Path(output), "_align.log", f"_{QUARANTINE}", placing)
    with _started(prepared, address) as (run, display):
        display.phase(f"aligning {_sources(job)} with {job.target.name}")
        pipeline.align(run)
        snapshot = run.telemetry.snapshot()
        num_rows = _describe_cache(run, run.staging, snapshot)
    _report(snapshot, f"{output} holds {num_rows} fused windows", begin)


@contextmanager
def _started(prepared: Prepared, address: str | None) -> Iterator[tuple[pipeline.Run, ProgressDisplay]]:
    """Ray, the display and a staging directory around a stream; what is staged becomes the output if all goes well."""
    job = prepared.job
    check_context(job)
    with (
        staging_directory(prepared.output) as staging,
        noise_to_file(staging / prepared.log) as console,
        ray_session(address, prepared.placing(False).local_cpus) as hosts,
    ):
        placement = prepared.placing(any(host.get("GPU") for host in hosts))
        check_fit(placement, hosts)
        telemetry = Telemetry.start(job.data.max_failed_share, prepared.output.name, operators(placement, job.models))
        with Watchdog(telemetry), ProgressDisplay(console, telemetry) as display:
            try:
                run = pipeline.Run(
                    job, placement, prepared.tokenizers, prepared.text, staging.resolve(),
                    checkpoints_directory(job), prepared.made_from, telemetry,
                )  # fmt: skip
                yield run, display
            except (TrainingFailedError, RayError) as error:
                raise explain(error, staging) from error
            finally:
                with suppress(RayError):
                    write_quarantine(staging / prepared.quarantine, telemetry.snapshot())


def _describe(run: pipeline.Run, cache: Cache | None, begin: float) -> Snapshot:
    snapshot = run.telemetry.snapshot()
    describe(run.staging, run.job, cache, _bits_per_byte(snapshot), snapshot, time.monotonic() - begin)
    return snapshot


def _bits_per_byte(snapshot: Snapshot) -> BitsPerByte:
    """Of the models, which was counted in the stream, and of the result, which the training has measured."""
    fused = snapshot.outcome["bits_per_byte"]
    return {**from_counts(snapshot.counts), **({"fused": fused} if fused else {})}


def _finish_cache(run: pipeline.Run) -> None:
    """Makes what the run has kept on its way a cache like any other, unless it came to its end in the first epoch."""
    snapshot, directory = run.telemetry.snapshot(), Path(run.job.data.cache)
    newest = CheckpointStore(run.checkpoints).newest()
    if newest and snapshot.outcome["stopped_early"] and run.text.left(newest.ledger()):
        return
    drop_doubles(directory)
    _describe_cache(run, directory, snapshot)
    end_growth(directory)


def _describe_cache(run: pipeline.Run, directory: Path, snapshot: Snapshot) -> int:
    """Finishes a cache whose rows are written, and returns how many these are."""
    num_rows = count_rows(data_files(directory))
    if not num_rows:
        raise StreamError(f"the training text came to no window at all (log: {run.staging})")
    description = Description(
        job=run.job,
        packages=versions(),
        models=fingerprints(run.job),
        target_tokenizer=run.tokenizers[0].table.fingerprint,
        counts={name: count for name, count in snapshot.counts.items() if not name.startswith("won/")},
        num_set_aside=len(snapshot.set_aside),
        num_rows=num_rows,
    )
    write_description(directory, description)
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
    outcome, later = run.telemetry.snapshot().outcome, later_epochs(cache)
    num_windows = cache.description.num_rows * (later.num_epochs if later else 1)
    if outcome["num_windows"] != num_windows and not outcome["stopped_early"]:
        problem = f"the target learned from {outcome['num_windows']} of the {num_windows} windows in {cache.directory}"
        raise StreamError(problem)


def _target_fingerprint(job: Job) -> str:
    return fingerprint(local_checkpoint(job.target.model))


def _cache_fingerprint(cache: Cache) -> str:
    return hashlib.sha256(cache.description.model_dump_json().encode()).hexdigest()


def _report_fused(job: Job, snapshot: Snapshot, begin: float) -> None:
    _write_report(Path(job.output))
    bits_per_byte = _bits_per_byte(snapshot)
    tables = [bits_table(bits_per_byte, job.target.name)] if bits_per_byte else []
    _report(snapshot, f"{job.output} holds the fused checkpoint", begin, tables)


def _write_report(output: Path) -> None:
    """Writes the report of a run, whose result is in its place by now: whatever goes wrong, that stays."""
    try:
        write_report(output, output / REPORT)
    except Exception as error:
        Console().print(f"no {REPORT}: {one_line(error)}", highlight=False, markup=False, soft_wrap=True)


def _report(snapshot: Snapshot, outcome: str, begin: float, tables: Iterable[Table] = ()) -> None:
    console = Console()
    for found in snapshot.set_aside[:5]:
        console.print(f"set aside: {found}", highlight=False, soft_wrap=True)
    console.print(fidelity_table(fidelity_from_counts(snapshot.counts)), *tables, sep="\n")
    if limit := bottleneck(snapshot):
        console.print(str(limit), highlight=False, soft_wrap=True)
    console.print(f"{outcome} ({time.monotonic() - begin:.0f} s)", highlight=False)


def _sources(job: Job) -> str:
    return ", ".join(model.name for model in job.sources)


def _plan_held_out(job: Job) -> ReadPlan:
    """Reads no training text, which need not be there any more when its rows are in a cache."""
    return plan_reads(job.data.model_copy(update={"train": []}))


def explain(error: BaseException, log: Path) -> Exception:
    """The cause at the bottom of a distributed failure, in one line; `log` is where the libraries' noise went."""
    root = root_cause(error)
    if isinstance(root, JobError | StreamError):
        return root
    logs = Path(ray._private.worker._global_node.get_logs_dir_path())
    return StreamError(f"{one_line(root)} (logs: {log}, {logs})")
