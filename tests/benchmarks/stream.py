"""What the stream costs beside the work of its stages, with engines that only take their time.

All models of a job are simulated, and paced so that every scoring stage, of one model or of eight, is busy for the same
time with a block of windows: all stages are equally slow, and none of them gets faster or slower as sources are added.
What the sources say is made up, but what is done with it is real: it is sent on, aligned and folded. Alignment is
measured elsewhere; here it must not be the slowest stage, also on two cores. So `method: exact` is used, and a block
takes so long to score that these are far from busy: 32 sources cost them 3 s.
"""

import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pyarrow.compute as pc
from ray.data import Dataset

from pta_ray import pipeline
from pta_ray.board import StageCounts
from pta_ray.checkpoint import cache_directory
from pta_ray.columns import sound, windows_of
from pta_ray.config import Job, ServedModel
from pta_ray.fusion.fuser import Fuser
from pta_ray.ledger import Ledger
from pta_ray.operators import scoring_stage
from pta_ray.placement import Actors, place
from pta_ray.session import ray_session
from pta_ray.sources.scorer import Scorer, ScoringTask
from pta_ray.telemetry import Telemetry
from pta_ray.text.reading import WindowReader, plan_reads
from pta_ray.text.windows import cut
from pta_ray.tokenizers.loading import load_tokenizer
from tests.benchmarks.own_telemetry import OwnTelemetry
from tests.conftest import in_new_process

NUM_SOURCES = (1, 2, 4, 8, 16, 32)
OVERLAPPED = (1, 4, 16)  # sources, of those
WINDOW_TOKENS, NUM_BLOCKS = 64, 16
STAGE_SECONDS = 4.0  # of a block, on each scoring stage
STARTUP_SECONDS = 12.0  # of a scoring actor: the alignment actors are there before it

MANY_WINDOWS, FIRST_WINDOWS, SHORTEST = 100_000, 5_000, 16
CPUS = 0.1  # of a simulated model: it sleeps
DEMO = cache_directory() / "test-demo"


def measure() -> dict[str, Any]:
    """The figures of `overlap`, `payload` and `memory_growth`."""
    command = [sys.executable, "-m", "jobs.demo.make_demo", "--output", str(DEMO), "--scale", "0.02"]
    subprocess.run(command, check=True)
    by_sources = {n: in_new_process(overlap, n) for n in NUM_SOURCES}
    of_rows = in_new_process(payload)
    efficiency = {n: by_sources[n]["overlap_efficiency"] for n in OVERLAPPED}
    rates = {n: found["rows_per_second"] for n, found in by_sources.items()}
    return {
        "by_sources": {n: {**by_sources[n], **of_rows[n]} for n in NUM_SOURCES},
        **{f"overlap_efficiency_{n}_sources": share for n, share in efficiency.items()},
        "overlap_efficiency": min(efficiency.values()),
        "rows_per_second_32_sources_over_1_source": rates[32] / rates[1],
        "payload_bytes_per_position": max(max(sizes.values()) for sizes in of_rows.values()),
        **in_new_process(memory_growth),
    }


def overlap(num_sources: int) -> dict[str, float]:
    """Streams some blocks to the driver: first through one scoring stage alone, all being equally slow, then through
    all of them and the alignment. Both times count in the steady state, from when the first block has come out until
    the last one has.

    Returns:
        overlap_efficiency: seconds a window of the stage alone, over those of the whole stream.
        engine_share: seconds that the engines of a stage pretend to take for a window, over those of the whole stream;
            beside what the stages wait for, this leaves out what they do: tokenizing, packing columns, reporting.
        rows_per_second: of the whole stream.
        driver_mib: memory that the driver has for itself at the end; its threads execute the stream.
        align_busy_share: of the alignment actors' time.
    """
    job = simulated_job(num_sources, WINDOW_TOKENS, STAGE_SECONDS, STARTUP_SECONDS)
    with ray_session(None, place(job, has_gpus=False).local_cpus):
        run = run_of(job, Telemetry.start(max_failed_share=0.0))
        [alone, *_] = run.placement.scoring
        seconds_alone = seconds_per_row(scored_tables(run, alone))
        run = run_of(job, Telemetry.start(max_failed_share=0.0))
        seconds = seconds_per_row(fused_tables(run))
        stages = run.telemetry.snapshot().stages
        own = psutil.Process().memory_full_info().uss
    return {
        "overlap_efficiency": seconds_alone / seconds,
        "engine_share": engine_seconds_per_row([job.models[i] for i in alone.models], stages) / seconds,
        "rows_per_second": 1 / seconds,
        "driver_mib": own / (1 << 20),
        "align_busy_share": stages["align"].busy_share,
    }


def seconds_per_row(tables: Iterable[pa.Table]) -> float:
    """Of all blocks but the first, from when that is there."""
    num_rows, begin = 0, 0.0
    for number, table in enumerate(islice(tables, NUM_BLOCKS)):
        num_rows += table.num_rows if number else 0
        begin = begin or time.perf_counter()
    return (time.perf_counter() - begin) / num_rows


def engine_seconds_per_row(models: Sequence[ServedModel], stages: Mapping[str, StageCounts]) -> float:
    """What the models of a stage together pretend to take for a window."""
    found = [(stages[scoring_stage(model)], model.simulated.tokens_per_second) for model in models]
    return sum(counts.tokens / counts.rows / pace for counts, pace in found)


def payload() -> dict[int, dict[str, float]]:
    """By number of sources: bytes per position of a row of scores and of a row of the fused stream, in one block."""
    return {n: payload_of(run_of(simulated_job(n, WINDOW_TOKENS, 1e-6), OwnTelemetry())) for n in NUM_SOURCES}


def payload_of(run: pipeline.Run) -> dict[str, float]:
    """Without Ray: one block of windows goes through the same callables."""
    job, telemetry, tokens = run.job, run.telemetry, run.job.data.window_tokens
    tasks = [
        ScoringTask(i, model, run.tokenizers[i], job.alignment.top_k, 2 * tokens, f"score {model.name}")
        for i, model in enumerate(job.models)
    ]
    cutter = partial(cut, tokenizer=run.tokenizers[0], max_tokens=tokens)
    read = WindowReader(run.text, cutter, telemetry, Ledger())
    windows = next(read(pa.table({"id": [0]}))).slice(0, pipeline.windows_per_block(job))
    block = Scorer(tasks, telemetry)(windows)
    scored = block.filter(block.column("model").is_valid())
    names = [model.name for model in job.models]
    fused = Fuser(job.alignment, job.fusion.choice, names, run.tokenizers, telemetry)(block)
    assert scored.num_rows == len(job.models) * sound(windows).num_rows
    return {
        "scored_bytes_per_position": bytes_of(scored) / num_positions(scored.column("scores"), "ids"),
        "fused_bytes_per_position": bytes_of(fused) / num_positions(fused.column("fused"), "ids"),
    }


def bytes_of(rows: pa.Table) -> int:
    """Of all their columns."""
    return int(rows.nbytes)


def num_positions(column: pa.ChunkedArray, ids: str) -> int:
    """Positions of some rows of scores or fused distributions: all tokens but the first of each."""
    lengths = pc.list_value_length(pc.struct_field(column, ids))
    return int(pc.sum(pc.subtract(lengths, 1)).as_py())


def memory_growth() -> dict[str, float]:
    """What the driver has for itself behind 100,000 of the shortest windows, over what it has behind the first 5,000,
    in MiB; and the windows a second, of a stream in which the engines take no time."""
    epochs = 1 + MANY_WINDOWS // 6_000  # of a text of about so many
    job = simulated_job(1, SHORTEST, 1e-6, epochs=epochs, domains=("english", "python", "translations"))
    driver, num_windows, first = psutil.Process(), 0, 0
    with ray_session(None, place(job, has_gpus=False).local_cpus):
        run = run_of(job, Telemetry.start(max_failed_share=0.0))
        for table in fused_tables(run):
            num_windows += table.num_rows
            if not first and num_windows >= FIRST_WINDOWS:
                first, first_windows, begin = driver.memory_full_info().uss, num_windows, time.perf_counter()
            if num_windows >= MANY_WINDOWS:
                break
        last, seconds = driver.memory_full_info().uss, time.perf_counter() - begin
    assert num_windows >= MANY_WINDOWS
    rate = (num_windows - first_windows) / seconds
    return {"driver_memory_growth_mb": (last - first) / (1 << 20), "rows_per_second_without_engines": rate}


def simulated_job(
    num_sources: int,
    window_tokens: int,
    stage_seconds: float,
    startup_seconds: float = 0.0,
    epochs: int = 1,
    domains: Sequence[str] = ("python",),
) -> Job:
    """Sources that all have the tokenizer of the demo's, which is not the target's. Every scoring stage takes
    `stage_seconds` for a block and `startup_seconds` to start, whatever the number of its models."""
    models = [_model("target", DEMO / "models" / "target")]
    models += [_model(f"source-{i}", DEMO / "models" / "python") for i in range(num_sources)]
    train = [str(DEMO / "data" / "fuse" / f"{domain}.jsonl") for domain in domains]
    data = {"train": train, "window_tokens": window_tokens, "epochs": epochs}
    content = {"target": models[0], "sources": models[1:], "data": data, "alignment": {"method": "exact"}}
    job = Job.model_validate(content)
    block_tokens = pipeline.windows_per_block(job) * window_tokens
    for stage in place(job, has_gpus=False).scoring:
        for i in stage.models:
            models[i]["simulated"] = {
                "tokens_per_second": len(stage.models) * block_tokens / stage_seconds,
                "startup_seconds": startup_seconds / len(stage.models),
            }
    return Job.model_validate(content)


def _model(name: str, checkpoint: Path) -> dict[str, Any]:
    return {"name": name, "model": str(checkpoint), "engine": "simulated", "cpus": CPUS}


def run_of(job: Job, telemetry: Telemetry) -> pipeline.Run:
    """A job that is ready for the stream. Nothing is staged."""
    loaded = {path: load_tokenizer(path, trust_remote_code=False) for path in {m.model for m in job.models}}
    tokenizers = [loaded[model.model] for model in job.models]
    placement = place(job, has_gpus=False)
    return pipeline.Run(job, placement, tokenizers, plan_reads(job.data), Path(), "", {}, telemetry)


def fused_tables(run: pipeline.Run) -> Iterable[pa.Table]:
    """The blocks of the fused stream, read by this process."""
    return tables_of(pipeline.fused_windows(run, Ledger()))


def scored_tables(run: pipeline.Run, place: Actors) -> Iterable[pa.Table]:
    """The windows of the blocks that one scoring stage makes of the text, read by this process."""
    tasks = [pipeline.scoring_task(run, i) for i in place.models]
    return map(
        windows_of, tables_of(pipeline.score(pipeline.windows(run, run.text, Ledger()), tasks, place, run.telemetry))
    )


def tables_of(stream: Dataset) -> Iterable[pa.Table]:
    """Its blocks."""
    tables: Iterable[pa.Table] = stream.iter_batches(batch_size=None, batch_format="pyarrow")
    return tables
