"""The stream, top to bottom:

read -> window -> skip what is learned -> score(target, frozen) -> score(sources) -> align, fold -> train -> checkpoint
                          ^                                                              |    ^       |
                          |                                                              v    |       |
                          |                                                         Parquet cache     |
                        ledger  <---------------------------------------------------------------------+
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import ray
from ray.data import ActorPoolStrategy, DataContext, Dataset, ExecutionResources

from pta_ray.cache import Cache, without_set_aside
from pta_ray.cached_epochs import LaterEpochs, later_epochs
from pta_ray.config import Job
from pta_ray.fusion.fuser import Fuser
from pta_ray.growing_cache import Keeping
from pta_ray.ledger import Ledger, without_learned
from pta_ray.operators import scoring_stage
from pta_ray.placement import NOT_ON_TRAINING_HOSTS, Actors, Placement
from pta_ray.sources.scorer import BLOCKS_IN_ACTOR, Scorer, ScoringTask
from pta_ray.telemetry import Telemetry
from pta_ray.text.reading import ReadPlan, WindowReader
from pta_ray.text.windows import cut
from pta_ray.tokenizers.byte_tokenizer import ByteTokenizer
from pta_ray.training.elastic import FusedStream, train_through_failures
from pta_ray.training.setup import TrainingTask

_FEWEST_WINDOWS_PER_BLOCK, _MOST_WINDOWS_PER_BLOCK = 4, 32
_BLOCK_BYTES = 32 << 20
_IN_FLIGHT_BYTES = 256 << 20  # of blocks between the stages; bounds memory whatever the length of the text
_BLOCKS_IN_FLIGHT = 8  # at least


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
    data = run.job.data
    later = LaterEpochs(data.cache, data.epochs, data.seed, len(run.text.tasks)) if data.cache else None
    train_target(run, partial(fused_windows, run), later)


def align(run: Run) -> None:
    """Streams the text through the models into Parquet files in `run.staging`."""
    write_cache(run, fused_windows(run, Ledger()))


def fuse_from_cache(run: Run, cache: Cache) -> None:
    """Streams the rows of a cache into the target; leaves the fused checkpoint in `run.staging`."""
    train_target(run, partial(read_cache, run, cache), later_epochs(cache), cache.description.counts)


def fused_windows(run: Run, learned: Ledger) -> Dataset:
    """The text with what the target is to learn from it, kept in `data.cache` if there is one. Held-out text is
    measured on the way and ends here."""
    if not run.text.left(learned):
        return ray.data.from_items([])  # and no engine is started
    stream = windows(run, run.text, learned)
    for place in run.placement.scoring:
        stream = score(stream, [scoring_task(run, i) for i in place.models], place, run.telemetry)
    return align_and_fold(run, stream)


def windows(run: Run, text: ReadPlan, learned: Ledger) -> Dataset:
    """Windows of the text, in the plan's order, but for those that were learned from."""
    configure_streaming(run.job)
    cutter = partial(cut, tokenizer=run.tokenizers[0], max_tokens=run.job.data.window_tokens)
    reader = WindowReader(text, cutter, run.telemetry, learned)
    return read_tasks(reader, text.left(learned), run.placement.reading.cpus, windows_per_block(run.job))


def read_tasks(reader: WindowReader, tasks: Sequence[int], cpus: float, windows_in_block: int) -> Dataset:
    """The windows of some reading tasks, in blocks of so many."""
    # from_items, unlike range, runs no task of its own, which would ask for a whole CPU more.
    rows = ray.data.from_items([{"id": i} for i in tasks], override_num_blocks=max(len(tasks), 1))
    stream = rows.map_batches(reader, batch_size=1, batch_format="pyarrow", num_cpus=cpus)
    return stream.repartition(target_num_rows_per_block=windows_in_block)


def score(stream: Dataset, tasks: Sequence[ScoringTask], place: Actors, telemetry: Telemetry) -> Dataset:
    """Adds what some models, which share their actors, say about every window."""
    return through_actors(stream, Scorer, (tasks, telemetry), place, num_calls=BLOCKS_IN_ACTOR)


def scoring_task(run: Run, i: int) -> ScoringTask:
    """What is asked of a model of the job."""
    model, tokens = run.job.models[i], run.job.data.window_tokens
    # Another tokenizer may need more tokens for a window than the target's; twice as many covers all but odd text.
    most = tokens if i == 0 else 2 * tokens
    return ScoringTask(i, model, run.tokenizers[i], run.job.alignment.top_k, most, scoring_stage(model))


def align_and_fold(run: Run, stream: Dataset) -> Dataset:
    """Replaces what the models say by the fused distribution."""
    names = [model.name for model in run.job.models]
    stage, arguments = Fuser, (run.job.alignment, run.job.fusion.choice, names, run.tokenizers, run.telemetry)
    if run.job.data.cache:
        return through_actors(stream, Keeping, (run.job.data.cache, stage, *arguments), run.placement.alignment)
    return through_actors(stream, stage, arguments, run.placement.alignment)


def write_cache(run: Run, stream: Dataset) -> None:
    """Writes the fused stream, a file for each of its blocks, without the windows that were set aside."""
    cpus = run.placement.training.cpus
    rows = stream.map_batches(without_set_aside, batch_size=None, batch_format="pyarrow", num_cpus=cpus)
    rows.write_parquet(str(run.staging), compression="zstd", ray_remote_args={"num_cpus": cpus})


def read_cache(run: Run, cache: Cache, learned: Ledger) -> Dataset:
    """The fused stream as it was written, but for what was learned from: the same rows in the same order, a block for
    each file."""
    configure_streaming(run.job)
    paths = [str(path) for path in cache.files]
    rows = ray.data.read_parquet(
        paths, partitioning=None, override_num_blocks=len(paths), num_cpus=run.placement.reading.cpus
    )
    skip = partial(without_learned, learned)
    return rows.map_batches(skip, batch_size=None, batch_format="pyarrow", num_cpus=run.placement.reading.cpus)


def train_target(
    run: Run, stream: FusedStream, later: LaterEpochs | None, counts: Mapping[str, float] | None = None
) -> None:
    """Fine-tunes the target on the fused stream, which is started again from the newest checkpoint when training is.

    Args:
        later: what it learns from when the stream has ended.
        counts: what was measured before, of a cache.
    """
    job = run.job
    task = TrainingTask(
        job, run.tokenizers[0], run.text.held_out, str(run.staging), run.checkpoints, run.made_from, run.telemetry,
        later,
    )  # fmt: skip
    train_through_failures(task, run.placement, stream, counts or {})


def windows_per_block(job: Job) -> int:
    """How many windows are scored and aligned together: enough to keep an engine busy, so few that a block of them with
    what all models say about them stays small."""
    return windows_that_fit(_bytes_per_window(job))


def windows_that_fit(window_bytes: int) -> int:
    """How many windows make a block, each with what all models say about it in so many bytes."""
    return min(max(_BLOCK_BYTES // window_bytes, _FEWEST_WINDOWS_PER_BLOCK), _MOST_WINDOWS_PER_BLOCK)


def _bytes_per_window(job: Job) -> int:
    """Of the scores of all models: a token and its probability, and the same of the candidates, at half precision."""
    return len(job.models) * job.data.window_tokens * (8 + 6 * job.alignment.top_k)


def configure_streaming(job: Job) -> None:
    """Settings of every data stream of a job in this process."""
    configure_blocks(windows_per_block(job) * _bytes_per_window(job))


def configure_blocks(block_bytes: int) -> None:
    """Settings of every data stream of this process, for blocks of so many bytes."""
    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.raise_original_map_exception = True
    context.execution_options.preserve_order = True
    context.execution_options.label_selector = NOT_ON_TRAINING_HOSTS
    in_flight = max(_IN_FLIGHT_BYTES, _BLOCKS_IN_FLIGHT * block_bytes)
    context.execution_options.resource_limits = ExecutionResources(object_store_memory=in_flight)


def through_actors(
    stream: Dataset, stage: Callable[..., Any], arguments: tuple[Any, ...], place: Actors, num_calls: int = 1
) -> Dataset:  # fmt: skip
    """Maps the blocks of a stream through a pool of actors that each hold one instance of a stage, which is called with
    so many blocks at the same time."""
    return stream.map_batches(
        stage,
        fn_constructor_args=arguments,
        batch_size=None,
        batch_format="pyarrow",
        compute=ActorPoolStrategy(
            min_size=place.count, max_size=max(place.count, place.most), max_concurrent_calls_per_actor=num_calls
        ),
        num_cpus=place.cpus,
        num_gpus=place.gpus or None,
        # As Ray Data has it anyway; but said here it keeps reading out of actors that reserve as much.
        max_restarts=-1,
        max_task_retries=-1,
    )
