"""Bits per byte of a checkpoint on held-out text, from its files alone, without the code of the training."""

from collections import Counter
from functools import partial
from pathlib import Path

import pyarrow as pa

from pta_ray.board import SetAside
from pta_ray.evaluation.bits_per_byte import bit_counts, from_counts
from pta_ray.job_file import load_job
from pta_ray.ledger import Ledger
from pta_ray.sources.transformers_engine import TransformersEngine
from pta_ray.text.reading import ReadPlan, WindowReader, plan_reads
from pta_ray.text.windows import cut
from pta_ray.tokenizers.byte_tokenizer import ByteTokenizer
from pta_ray.tokenizers.loading import load_tokenizer


class NoReports:
    """Takes what the reader sets aside."""

    def set_aside(self, found: SetAside) -> None:
        """Nothing comes of it."""

    def ended(self, stage: str, windows: pa.Table, seconds: float) -> None:
        """Nothing comes of it either."""


def evaluated(plan: ReadPlan, tokenizer: ByteTokenizer, checkpoint: str, max_tokens: int) -> dict[str, float]:
    """Bits per byte by domain."""
    cutter = partial(cut, tokenizer=tokenizer, max_tokens=max_tokens)
    reader = WindowReader(plan.held_out, cutter, NoReports(), Ledger())  # type: ignore[arg-type]
    tasks = range(len(plan.held_out.tasks))
    rows = pa.concat_tables([table for i in tasks for table in reader(pa.table({"id": [i]}))]).to_pylist()
    texts = [row["text"] for row in rows]
    ids = zip(tokenizer.encode([text.decode() for text in texts]), rows, strict=True)
    sequences = [tokenizer.sequence(ids_L, row["ends_document"], max_tokens) for ids_L, row in ids]
    scores = TransformersEngine(checkpoint, max_tokens, 4096, False).score(sequences, 1)
    counts: Counter[str] = Counter()
    for row, score in zip(rows, scores, strict=True):
        counts.update(bit_counts("model", row["domain"], score, tokenizer, row["text"]))
    return from_counts(counts)["model"]


def of_result(folder: Path) -> dict[str, float]:
    """The same of what a run has left, on the held-out text that its job names."""
    job = load_job(folder / "job.yaml", [])
    tokenizer = load_tokenizer(str(folder), trust_remote_code=False)
    return evaluated(plan_reads(job.data), tokenizer, str(folder), job.data.window_tokens)
