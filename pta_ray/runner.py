"""From a job file's settings to a published result: the run around the stream."""

import time
from pathlib import Path

import ray
from ray.exceptions import RayError
from ray.train import TrainingFailedError
from rich.console import Console

from pta_ray import pipeline
from pta_ray.checkpoint import local_checkpoint, max_positions
from pta_ray.config import Job
from pta_ray.errors import JobError, StreamError
from pta_ray.evaluation.bits_per_byte import from_counts
from pta_ray.placement import check_fit, place
from pta_ray.reports.progress import ProgressDisplay
from pta_ray.reports.tables import bits_table
from pta_ray.result import describe, staging_directory
from pta_ray.session import noise_to_file, ray_session
from pta_ray.telemetry import Telemetry
from pta_ray.text.reading import plan_reads
from pta_ray.tokenizers.byte_tokenizer import ByteTokenizer
from pta_ray.tokenizers.loading import UnsupportedTokenizerError, load_tokenizer


def run_fuse(job: Job, address: str | None) -> None:
    """Runs a checked job to its end.

    Raises:
        JobError: it cannot run as written.
        StreamError: it failed on the way.
    """
    begin = time.monotonic()
    text = plan_reads(job.data)
    tokenizers = _load_tokenizers(job)
    _check_context(job)
    with (
        staging_directory(Path(job.output)) as staging,
        noise_to_file(staging / "fuse.log") as console,
        ray_session(address, place(job, has_gpus=False).cpus) as resources,
    ):
        placement = place(job, has_gpus="GPU" in resources)
        check_fit(placement, resources.get("CPU", 0), resources.get("GPU", 0))
        telemetry = Telemetry.start()
        run = pipeline.Run(job, placement, tokenizers, text, staging.resolve(), telemetry)
        with ProgressDisplay(console, telemetry) as display:
            try:
                display.phase(f"fusing {', '.join(m.name for m in job.sources)} into {job.target.name}")
                pipeline.fuse(run)
                if job.data.held_out:
                    display.phase("measuring bits per byte on the held-out text")
                    pipeline.evaluate(run)
                snapshot = telemetry.snapshot()
            except (TrainingFailedError, RayError) as error:
                raise _explain(error, staging) from error
        bits_per_byte = from_counts(snapshot.counts)
        describe(staging, job, bits_per_byte, snapshot, time.monotonic() - begin)
    console = Console()
    for line in snapshot.set_aside[:5]:
        console.print(f"set aside: {line}", highlight=False, soft_wrap=True)
    if bits_per_byte:
        console.print(bits_table(bits_per_byte, job.target.name))
    console.print(f"{job.output} holds the fused checkpoint ({time.monotonic() - begin:.0f} s)", highlight=False)


def _load_tokenizers(job: Job) -> list[ByteTokenizer]:
    tokenizers = []
    for i, model in enumerate(job.models):
        field = "target.model" if i == 0 else f"sources.{i - 1}.model"
        try:
            tokenizers.append(load_tokenizer(local_checkpoint(model.model), model.trust_remote_code))
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
    causes = [error]
    while (cause := getattr(causes[-1], "cause", None) or causes[-1].__cause__) is not None and cause not in causes:
        causes.append(cause)
    root = next((cause for cause in causes if isinstance(cause, JobError)), causes[-1])
    if isinstance(root, JobError):
        return root
    lines = [line for line in str(root).splitlines() if line.strip()]
    logs = Path(ray._private.worker._global_node.get_logs_dir_path())
    return StreamError(f"{type(root).__name__}: {lines[-1] if lines else 'no message'} (logs: {staging}, {logs})")
