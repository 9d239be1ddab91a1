"""The stream, top to bottom:

read -> window -> skip what is learned -> score(target, frozen) -> score(sources) -> align, fold -> train -> evaluation
                          ^                                                              |    ^       |
                          |                                                              v    |       v
                        ledger  <---------------------------------------------------  Parquet cache  checkpoints
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import ray
from ray.data import ActorPoolStrategy, DataContext, Dataset, ExecutionResources

from pta_ray.cache import Cache
from pta_ray.columns import scores_name
from pta_ray.config import Job, ServedModel
from pta_ray.evaluation.bits_per_byte import BitCounter
from pta_ray.fusion.fuser import Fuser
from pta_ray.ledger import Ledger, without_learned
from pta_ray.placement import Actors, Placement
from pta_ray.sources.scorer import Scorer, ScoringTask
from pta_ray.telemetry import Telemetry
from pta_ray.text.reading import ReadPlan, WindowReader
from pta_ray.tokenizers.byte_tokenizer import ByteTokenizer
from pta_ray.training.elastic import FusedStream, train_through_failures
from pta_ray.training.setup import TrainingTask

_WINDOWS_PER_BATCH = 32  # one call of a scoring or alignment actor
_IN_FLIGHT_BYTES = 256 << 20  # of scored windows between the stages; bounds memory whatever the length of the text


@dataclass(frozen=True)
class Run:
    """A job that has been checked and may run."""

    job: Job
    placement: Placement
    tokenizers: list[ByteTokenizer]
    """Of the target, then of the sources."""
    text: ReadPlan
    staging: Path
    """Where the result is put together before it is published."""
    checkpoints: str
    """Where the training's checkpoints lie."""
    made_from: dict[str, str]
    """Fingerprints of the target and the text, which a checkpoint must agree with."""
    telemetry: Telemetry


def fuse(run: Run) -> None:
    """Streams the text through the models into the target; leaves the fused checkpoint in `run.staging`."""
    train_target(run, partial(fused_windows, run))


def align(run: Run) -> None:
    """Streams the text through the models into Parquet files in `run.staging`."""
    write_cache(run, fused_windows(run, Ledger()))


def fuse_from_cache(run: Run, cache: Cache) -> None:
    """Streams the rows of a cache into the target; leaves the fused checkpoint in `run.staging`."""
    train_target(run, partial(read_cache, run, cache), cache.description.counts)


def evaluate(run: Run) -> None:
    """Counts the bits of the fused checkpoint on the held-out text; those of the others were counted in the stream."""
    fused = run.job.target.model_copy(update={"model": str(run.staging), "name": "fused"})
    tokenizer, place = run.tokenizers[0], replace(run.placement.scoring[0], stage="evaluate fused")
    stream = windows(run, run.text.held_out, Ledger())
    stream = score(run, stream, 0, fused, tokenizer, place, top_k=0)
    stream = _actors(stream, BitCounter, (fused.name, tokenizer, run.telemetry), run.placement.alignment)
    stream.count()


def fused_windows(run: Run, learned: Ledger) -> Dataset:
    """The text with what the target is to learn from it. Held-out text is measured on the way and ends here."""
    job, placement = run.job, run.placement
    stream = windows(run, run.text, learned)
    for i, model in enumerate(job.models):
        stream = score(run, stream, i, model, run.tokenizers[i], placement.scoring[i], job.alignment.top_k)
    return align_and_fold(run, stream)


def windows(run: Run, text: ReadPlan, learned: Ledger) -> Dataset:
    """Windows of the text, in the plan's order, but for those that were learned from."""
    configure_streaming()
    reader = WindowReader(text, run.tokenizers[0], run.job.data.window_tokens, run.telemetry, learned)
    # Nothing is learned before all held-out text, which comes first, has been measured.
    first = text.num_held_out if learned.num_windows else 0
    tasks = [i for i in range(first, len(text.tasks)) if not learned.is_done(i)]
    # from_items, unlike range, runs no task of its own, which would ask for a whole CPU more.
    rows = ray.data.from_items([{"id": i} for i in tasks], override_num_blocks=max(len(tasks), 1))
    return rows.map_batches(reader, batch_size=1, batch_format="pyarrow", num_cpus=run.placement.reading.cpus)


def score(
    run: Run, stream: Dataset, i: int, model: ServedModel, tokenizer: ByteTokenizer, place: Actors, top_k: int
) -> Dataset:
    """Adds what one model says about every window."""
    # Another tokenizer may need more tokens for a window than the target's; twice as many covers all but odd text.
    max_tokens = run.job.data.window_tokens * (1 if tokenizer is run.tokenizers[0] else 2)
    task = ScoringTask(model, tokenizer, scores_name(i), top_k, max_tokens, place.stage)
    return _actors(stream, Scorer, (task, run.telemetry), place)


def align_and_fold(run: Run, stream: Dataset) -> Dataset:
    """Replaces what the models say by the fused distribution."""
    names = [model.name for model in run.job.models]
    return _actors(stream, Fuser, (run.job.alignment, names, run.tokenizers, run.telemetry), run.placement.alignment)


def write_cache(run: Run, stream: Dataset) -> None:
    """Writes the fused stream, a file for each of its blocks."""
    stream.write_parquet(
        str(run.staging), compression="zstd", ray_remote_args={"num_cpus": run.placement.training.cpus}
    )


def read_cache(run: Run, cache: Cache, learned: Ledger) -> Dataset:
    """The fused stream as it was written, but for what was learned from: the same rows in the same order, a block for
    each file."""
    configure_streaming()
    paths = [str(path) for path in cache.files]
    rows = ray.data.read_parquet(
        paths, partitioning=None, override_num_blocks=len(paths), num_cpus=run.placement.reading.cpus
    )
    skip = partial(without_learned, learned)
    return rows.map_batches(skip, batch_size=None, batch_format="pyarrow", num_cpus=run.placement.reading.cpus)


def train_target(run: Run, stream: FusedStream, counts: Mapping[str, float] | None = None) -> None:
    """Fine-tunes the target on the fused stream, which is started again from the newest checkpoint when training is.

    Args:
        counts: what was measured before, of a cache.
    """
    job = run.job
    task = TrainingTask(
        job, run.tokenizers[0], run.text.held_out, str(run.staging), run.checkpoints, run.made_from, run.telemetry
    )  # fmt: skip
    train_through_failures(task, run.placement, stream, counts or {})


def configure_streaming() -> None:
    """Settings of every data stream of this process."""
    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.raise_original_map_exception = True
    context.execution_options.preserve_order = True
    context.execution_options.resource_limits = ExecutionResources(object_store_memory=_IN_FLIGHT_BYTES)


def _actors(stream: Dataset, stage: Callable[..., Any], arguments: tuple[Any, ...], place: Actors) -> Dataset:
    """Maps a stream through a pool of actors that each hold one instance of a stage."""
    return stream.map_batches(
        stage,
        fn_constructor_args=arguments,
        batch_size=_WINDOWS_PER_BATCH,
        batch_format="pyarrow",
        compute=ActorPoolStrategy(size=place.count),
        num_cpus=place.cpus,
        num_gpus=place.gpus or None,
    )
