"""The baseline of the stream: a plain loop that does a job's work in one process, one thing after the other, without a
Ray session: `python -m tests.benchmarks.single_process JOB.yaml OUTPUT`.

It calls what the stream's actors and training worker call, on the same windows in the same order, and so ends with the
same weights. What it lacks is Ray, and that anything goes on at the same time. vLLM does not start in a process that
has loaded numba's compiler: tokenizers, which compile when they are checked, are loaded in a fork, alignment is
imported behind the engines, and the fused checkpoint is measured with transformers, which starts sooner anyway.
"""

import json
import multiprocessing
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path

os.environ |= {"DS_ACCELERATOR": "cpu", "LOCAL_RANK": "0"}  # read when deepspeed is imported, and when it starts

import psutil
import pyarrow as pa
import torch
import torch.distributed as dist

from pta_ray.checkpoint import local_checkpoint
from pta_ray.columns import scores_of
from pta_ray.config import Job
from pta_ray.evaluation.bits_per_byte import BitsPerByte, bit_counts, from_counts
from pta_ray.job_file import load_job
from pta_ray.ledger import Ledger
from pta_ray.sources.scorer import Scorer, ScoringTask
from pta_ray.text.reading import ReadPlan, WindowReader, plan_reads
from pta_ray.text.windows import cut
from pta_ray.tokenizers.loading import load_tokenizer
from pta_ray.training.engine import start_engine
from pta_ray.training.export import export
from pta_ray.training.feed import num_passes
from pta_ray.training.setup import TrainingTask
from pta_ray.training.student import Student, load_target
from pta_ray.training.trainer import Trainer
from tests.benchmarks.own_telemetry import OwnTelemetry

BLOCK_WINDOWS = 32  # as in the stream, with windows as short as the demo's


class Loop:
    """Everything that a job needs, in one process, and the seconds that each phase has taken."""

    def __init__(self, job: Job, output: Path) -> None:
        self._job, self._output = job, output
        self._telemetry = OwnTelemetry()
        self.seconds: Counter[str] = Counter()
        self._text = plan_reads(job.data)
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("fork")) as fork:
            loading = [fork.submit(load_tokenizer, local_checkpoint(m.model), False) for m in job.models]
            self._tokenizers = [loaded.result() for loaded in loading]
        tokens, top_k = job.data.window_tokens, job.alignment.top_k
        self._score = Scorer(
            [
                ScoringTask(i, model, tokenizer, top_k, tokens if i == 0 else 2 * tokens, model.name)
                for i, (model, tokenizer) in enumerate(zip(job.models, self._tokenizers, strict=True))
            ],
            self._telemetry,
        )
        from pta_ray.fusion.fuser import Fuser

        names = [model.name for model in job.models]
        self._fuse = Fuser(job.alignment, job.fusion.choice, names, self._tokenizers, self._telemetry)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Times a part of the work."""
        begin = time.perf_counter()
        yield
        self.seconds[name] += time.perf_counter() - begin

    def train(self) -> list[tuple[int, float]]:
        """Learns from all windows and writes the checkpoint. Returns the losses by step."""
        job, settings = self._job, self._job.training
        checkpoint, passes = (
            local_checkpoint(job.target.model),
            num_passes(settings.batch_windows, settings.micro_batch_windows, 1),
        )
        torch.manual_seed(job.data.seed)
        student = Student(load_target(checkpoint, torch.float32, False).train(), settings, None)
        # The process group is that of vLLM's engines, which have initialized one of this process alone.
        engine = start_engine(student, settings, passes, use_cuda=False)
        made_from = {"target": "", "text": ""}
        staging, checkpoints = str(self._output), str(self._output / "checkpoints")
        task = TrainingTask(
            job, self._tokenizers[0], self._text.held_out, staging, checkpoints, made_from, self._telemetry
        )  # fmt: skip
        with closing(Trainer(engine, task, dist.new_group(backend="gloo"))) as trainer:
            trainer.start_tracking()
            trainer.fit(self._steps(settings.batch_windows))
        export(engine, checkpoint, None, False, self._output)
        return trainer.progress.losses

    def _steps(self, batch_windows: int) -> Iterator[pa.Table]:
        """The fused rows of each step."""
        waiting: list[pa.Table] = []
        for windows in self._blocks(self._text):
            with self.phase("scoring"):
                block = self._score(windows)
            with self.phase("alignment"):
                rows = pa.concat_tables([*waiting, self._fuse(block)])
            for first in range(0, rows.num_rows - batch_windows + 1, batch_windows):
                yield rows.slice(first, batch_windows)
            waiting = [rows.slice(rows.num_rows // batch_windows * batch_windows)]
        if waiting[0].num_rows:
            yield waiting[0]

    def _blocks(self, text: ReadPlan) -> Iterator[pa.Table]:
        """Windows, as many as the stream scores together."""
        job = self._job
        cutter = partial(cut, tokenizer=self._tokenizers[0], max_tokens=job.data.window_tokens)
        reader = WindowReader(text, cutter, self._telemetry, Ledger())
        for table in reader(pa.table({"id": range(len(text.tasks))})):
            for first in range(0, table.num_rows, BLOCK_WINDOWS):
                yield table.slice(first, BLOCK_WINDOWS)

    def evaluate(self) -> None:
        """Measures the fused checkpoint on the held-out text."""
        job, tokenizer = self._job, self._tokenizers[0]
        fused = job.target.model_copy(update={"model": str(self._output), "name": "fused", "engine": "transformers"})
        score = Scorer([ScoringTask(0, fused, tokenizer, 0, job.data.window_tokens, "fused")], self._telemetry)
        for windows in self._blocks(self._text.held_out):
            rows = windows.select(["domain", "text"]).to_pylist()
            for row, scores in zip(rows, scores_of(score(windows), 0), strict=True):
                self._telemetry.count(bit_counts("fused", row["domain"], scores, tokenizer, row["text"]))

    def bits_per_byte(self) -> BitsPerByte:
        """Of all models, as measured so far."""
        return from_counts(self._telemetry.counts)


def main() -> None:
    """Writes the phases' seconds and what came out to `metrics.json`."""
    output = Path(sys.argv[2])
    output.mkdir(parents=True)
    loop = Loop(load_job(Path(sys.argv[1]), []), output)
    started = time.time() - psutil.Process().create_time()
    with loop.phase("train"):
        losses = loop.train()
    with loop.phase("evaluation"):
        loop.evaluate()
    seconds = {"start_up": started, **loop.seconds}
    seconds["training"] = seconds.pop("train") - seconds["scoring"] - seconds["alignment"]
    metrics = {"seconds": seconds, "losses": losses, "bits_per_byte": loop.bits_per_byte()}
    (output / "metrics.json").write_text(json.dumps(metrics))


if __name__ == "__main__":
    main()
