"""The scoring stage: a block of windows in, the same block with what some models say about them out."""

import ctypes
import logging
import math
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import pyarrow as pa
import ray

from pta_ray.attempts import attempt
from pta_ray.checkpoint import local_checkpoint
from pta_ray.columns import sound, windows_of, with_scores
from pta_ray.config import ServedModel
from pta_ray.distributions import Scores
from pta_ray.errors import JobError
from pta_ray.sources.engine import is_out_of_memory, load_engine
from pta_ray.sources.reading import score_texts
from pta_ray.telemetry import Telemetry, Work
from pta_ray.tokenizers.byte_tokenizer import ByteTokenizer

BLOCKS_IN_ACTOR = 2
"""With which a scorer is called at the same time."""


@dataclass(frozen=True)
class ScoringTask:
    """Which model scores, and what is kept of what it says."""

    model: int
    """Its place among the models of the job: 0 for the target, then the sources."""
    settings: ServedModel
    tokenizer: ByteTokenizer
    top_k: int
    max_tokens: int
    """The longest sequence; the model's own limit may be lower, then the rest of a window stays unscored."""
    stage: str
    """What telemetry calls it."""


class Scorer:
    """Callable of the scoring actors; holds the engines of one or several models, which take turns.

    It may be called with several blocks at the same time. Engines know nothing of that, since one thread does all they
    do; but they need not wait while a block is packed and sent off, and the next one received.
    """

    def __init__(self, tasks: Sequence[ScoringTask], telemetry: Telemetry) -> None:
        self._tasks = tasks
        if ray.is_initialized():
            os.environ["OMP_NUM_THREADS"] = str(_threads_of_this_actor())  # read when an engine imports torch
        self._engines = ThreadPoolExecutor(1, "engines")
        self._models = self._engines.submit(lambda: [_Model(task, telemetry) for task in tasks]).result()

    def __call__(self, block: pa.Table) -> pa.Table:
        """Adds the rows of scores to a block of windows, in which other models' rows may be already."""
        found = self._engines.submit(self._score, sound(windows_of(block))).result()
        for task, scores in zip(self._tasks, found, strict=True):
            block = with_scores(block, task.model, scores)
        _return_memory()
        return block

    def _score(self, windows: pa.Table) -> list[list[Scores | None]]:
        """What each model says about the windows that the models before it have left."""
        found = []
        for model in self._models:
            scores = model.score(windows)
            windows = windows.filter(pa.array([of_window is not None for of_window in scores], pa.bool_()))
            found.append(scores)
        return found


class _Model:
    """One engine and its task."""

    def __init__(self, task: ScoringTask, telemetry: Telemetry) -> None:
        settings = task.settings
        self._batched_tokens = telemetry.batched_tokens(task.stage, settings.max_batched_tokens)
        settings = settings.model_copy(update={"max_batched_tokens": self._batched_tokens})
        self._task = task
        self._telemetry = telemetry
        checkpoint = local_checkpoint(settings.model)
        with self._in_memory():
            self._engine = load_engine(settings, checkpoint, task.max_tokens, task.top_k, task.tokenizer.table.size)

    def score(self, windows: pa.Table) -> list[Scores | None]:
        """What the model says about sound windows; None for those that are to be set aside."""
        task, work_on = self._task, partial(self._work_on, windows)
        return attempt(self._telemetry, task.stage, task.settings.timeout_seconds, windows, work_on)

    def _work_on(self, windows: pa.Table, numbers: Sequence[int], work: Work) -> list[Scores]:
        tokenizer = self._task.tokenizer
        chosen = windows.take(pa.array(numbers))
        texts, ends = chosen.column("text").to_pylist(), chosen.column("ends_document").to_pylist()
        with self._in_memory():
            scores = score_texts(self._engine, tokenizer, texts, ends, self._task.top_k)
        work.done(tokens=sum(len(s.ids_L) for s in scores))
        return scores

    @contextmanager
    def _in_memory(self) -> Iterator[None]:
        """Ends the process when the engine runs out of memory: only a new one is sure to have all of it. The next
        engine takes fewer tokens at once, and what was under way is tried again.

        Raises:
            JobError: it takes hardly any already.
        """
        try:
            yield
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            logging.getLogger(__name__).exception("out of memory with %d tokens at once", self._batched_tokens)
            if self._telemetry.ran_out_of_memory(self._task.stage, self._batched_tokens):
                os._exit(1)
            problem = f"{self._task.settings.name} runs out of memory with {self._batched_tokens} tokens at once"
            mend = "give it more memory, or lower data.window_tokens"
            raise JobError("max_batched_tokens", f"{problem}; {mend}") from None


def _threads_of_this_actor() -> int:
    context = ray.get_runtime_context()
    reserved, here = context.get_assigned_resources().get("CPU", 1.0), context.get_node_id()
    [host] = (node["Resources"]["CPU"] for node in ray.nodes() if node["NodeID"] == here)
    return num_threads(reserved, host, os.cpu_count() or 1)


def num_threads(reserved: float, host_cpus: float, num_cores: int) -> int:
    """An actor's part of the cores of its host. On a small machine of its own Ray is told of more CPUs than there are
    cores, and threads that wait for each other within a step suffer most where they are too many."""
    return math.ceil(reserved * min(num_cores / host_cpus, 1.0))


def _return_memory() -> None:
    """Gives what the engine has freed back to the system; the C library keeps it, and fragments it, otherwise."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's
    if trim is not None:
        trim(0)
