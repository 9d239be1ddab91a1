"""The stream that compares models: read -> window -> score(models) -> count bits."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import pyarrow as pa

from pta_ray.evaluation.document_bits import WINDOW_BITS_SCHEMA, BitsOfWindows
from pta_ray.evaluation.settings import Evaluation
from pta_ray.ledger import Ledger
from pta_ray.operators import scoring_stage
from pta_ray.pipeline import configure_blocks, read_tasks, score, through_actors, windows_that_fit
from pta_ray.placement import Placement
from pta_ray.sources.scorer import ScoringTask
from pta_ray.telemetry import Telemetry
from pta_ray.text.reading import ReadPlan, WindowReader
from pta_ray.text.windows import cut_for_all
from pta_ray.tokenizers.byte_tokenizer import ByteTokenizer

_BYTES_PER_POSITION = 8  # of one model's scores: a token and its probability


@dataclass(frozen=True)
class EvaluationRun:
    """A comparison that has been checked and may run."""

    settings: Evaluation
    readers: list[tuple[ByteTokenizer, int]]
    """Of each model its tokenizer, and the most tokens that it reads, start token and EOS included."""
    text: ReadPlan
    passes: Sequence[Placement]
    """Streams that follow each other, each with some of the models."""
    telemetry: Telemetry


def window_bits(run: EvaluationRun) -> pa.Table:
    """The bits of every window under every model, as `WINDOW_BITS_SCHEMA` has them. Every pass reads the same
    windows."""
    tables = [table for placement in run.passes for table in _one_pass(run, placement)]
    return pa.concat_tables([WINDOW_BITS_SCHEMA.empty_table(), *tables])


def _one_pass(run: EvaluationRun, placement: Placement) -> Iterator[pa.Table]:
    models, most_bytes = run.settings.models, run.settings.window_bytes
    scored_bytes = len(models) * most_bytes * _BYTES_PER_POSITION
    windows_in_block = windows_that_fit(scored_bytes)
    configure_blocks(windows_in_block * scored_bytes)
    cutter = partial(cut_for_all, readers=run.readers, max_bytes=most_bytes)
    reader = WindowReader(run.text, cutter, run.telemetry, Ledger())
    stream = read_tasks(reader, range(len(run.text.tasks)), placement.reading.cpus, windows_in_block)
    for place in placement.scoring:
        stream = score(stream, [_task(run, i) for i in place.models], place, run.telemetry)
    scored = {i: (models[i].name, run.readers[i][0]) for place in placement.scoring for i in place.models}
    stream = through_actors(stream, BitsOfWindows, (scored, run.telemetry), placement.alignment)
    yield from stream.iter_batches(batch_size=None, batch_format="pyarrow")


def _task(run: EvaluationRun, i: int) -> ScoringTask:
    model, (tokenizer, max_tokens) = run.settings.models[i], run.readers[i]
    return ScoringTask(i, model, tokenizer, 0, max_tokens, scoring_stage(model))
