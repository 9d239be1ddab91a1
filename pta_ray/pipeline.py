"""The stream, top to bottom:

read -> window -> score(target, frozen) -> score(sources) -> align, fold -> train shards -> checkpoint -> evaluation
                                                                       |    ^
                                                                       v    |
                                                                    Parquet cache
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ray
from ray import train
from ray.data import ActorPoolStrategy, DataContext, Dataset, ExecutionResources
from ray.train.torch import TorchTrainer

from pta_ray.cache import Cache
from pta_ray.columns import scores_name
from pta_ray.config import Job, ServedModel
from pta_ray.evaluation.bits_per_byte import BitCounter
from pta_ray.fusion.fuser import Fuser
from pta_ray.placement import Actors, Placement
from pta_ray.sources.scorer import Scorer, ScoringTask
from pta_ray.telemetry import Telemetry
from pta_ray.text.reading import ReadPlan, WindowReader
from pta_ray.tokenizers.byte_tokenizer import ByteTokenizer
from pta_ray.training.setup import TrainingTask, UnevenShards

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
    telemetry: Telemetry


def fuse(run: Run) -> None:
    """Streams the text through the models into the target; leaves the fused checkpoint in `run.staging`."""
    train_target(run, fused_windows(run))


def align(run: Run) -> None:
    """Streams the text through the models into Parquet files in `run.staging`."""
    write_cache(run, fused_windows(run))


def fuse_from_cache(run: Run, cache: Cache) -> None:
    """Streams the rows of a cache into the target; leaves the fused checkpoint in `run.staging`."""
    train_target(run, read_cache(run, cache))


def evaluate(run: Run) -> None:
    """Counts the bits of the fused checkpoint on the held-out text; those of the others were counted in the stream."""
    fused = run.job.target.model_copy(update={"model": str(run.staging), "name": "fused"})
    tokenizer, place = run.tokenizers[0], replace(run.placement.scoring[0], stage="evaluate fused")
    stream = windows(run, run.text.held_out)
    stream = score(run, stream, 0, fused, tokenizer, place, top_k=0)
    stream = _actors(stream, BitCounter, (fused.name, tokenizer, run.telemetry), run.placement.alignment)
    stream.count()


def fused_windows(run: Run) -> Dataset:
    """The text with what the target is to learn from it. Held-out text is measured on the way and ends here."""
    job, placement = run.job, run.placement
    stream = windows(run, run.text)
    for i, model in enumerate(job.models):
        stream = score(run, stream, i, model, run.tokenizers[i], placement.scoring[i], job.alignment.top_k)
    return align_and_fold(run, stream)


def windows(run: Run, text: ReadPlan) -> Dataset:
    """Windows of the text, in the plan's order."""
    configure_streaming()
    reader = WindowReader(text, run.tokenizers[0], run.job.data.window_tokens, run.telemetry)
    # from_items, unlike range, runs no task of its own, which would ask for a whole CPU more.
    tasks = ray.data.from_items([{"id": i} for i in range(len(text.tasks))], override_num_blocks=len(text.tasks))
    return tasks.map_batches(reader, batch_size=1, batch_format="pyarrow", num_cpus=run.placement.reading.cpus)


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


def read_cache(run: Run, cache: Cache) -> Dataset:
    """The fused stream as it was written: the same rows in the same order, a block for each file."""
    configure_streaming()
    paths = [str(path) for path in cache.files]
    return ray.data.read_parquet(
        paths, partitioning=None, override_num_blocks=len(paths), num_cpus=run.placement.reading.cpus
    )


def train_target(run: Run, stream: Dataset) -> None:
    """Fine-tunes the target on the fused stream."""
    place = run.placement.training
    target = run.job.target
    task = TrainingTask(
        run.job.training, run.job.alignment.top_k + 1, target.model, target.trust_remote_code, str(run.staging),
        run.telemetry,
    )  # fmt: skip

    def train_worker() -> None:
        # Imported by the workers only: Ray Train's own actors unpickle this function too.
        from pta_ray.training import worker

        worker.train_worker(task)

    TorchTrainer(
        train_worker,
        scaling_config=train.ScalingConfig(
            num_workers=place.count,
            use_gpu=place.gpus > 0,
            resources_per_worker={"CPU": place.cpus} | ({"GPU": place.gpus} if place.gpus else {}),
        ),
        datasets={"fused": stream},
        dataset_config=UnevenShards(),
        run_config=train.RunConfig(name="training", storage_path=str(run.staging / ".ray")),
    ).fit()


def configure_streaming() -> None:
    """Settings of every data stream of this process."""
    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
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
