"""One model reads a text in a process of its own, on this machine and without Ray. Loads nothing of the alignment: vLLM
does not start in a process that has loaded numba's compiler."""

import multiprocessing
import os
import tempfile
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

from pta_ray.checkpoint import local_checkpoint
from pta_ray.config import ServedModel
from pta_ray.distributions import Scores
from pta_ray.errors import JobError, StreamError, one_line
from pta_ray.sources.engine import load_engine
from pta_ray.sources.reading import score_texts
from pta_ray.text.windows import Window
from pta_ray.tokenizers.byte_tokenizer import ByteTokenizer


def score_in_new_process(
    model: ServedModel, tokenizer: ByteTokenizer, windows: Sequence[Window], max_tokens: int, top_k: int
) -> list[Scores]:
    """What a model says along each window. With its process ends what it takes of the memory, on GPUs too.

    Raises:
        StreamError: it failed; names the file with what its engine printed.
    """
    with tempfile.NamedTemporaryFile(prefix="pta-ray-inspect-", suffix=".log", delete=False) as log:
        path = Path(log.name)
    context = multiprocessing.get_context("spawn")
    try:
        with ProcessPoolExecutor(1, mp_context=context, initializer=_print_to, initargs=(path,)) as process:
            scores = process.submit(_score, model, tokenizer, windows, max_tokens, top_k).result()
    except Exception as error:
        if isinstance(error, JobError):
            raise
        reason = "its process has ended" if isinstance(error, BrokenProcessPool) else one_line(error)
        raise StreamError(f"{model.name} cannot read the text: {reason} (log: {path})") from None
    path.unlink()
    return scores


def _print_to(path: Path) -> None:
    """Sends what this process prints to a file."""
    file = os.open(path, os.O_WRONLY | os.O_APPEND)
    os.dup2(file, 1)
    os.dup2(file, 2)


def _score(
    model: ServedModel, tokenizer: ByteTokenizer, windows: Sequence[Window], max_tokens: int, top_k: int
) -> list[Scores]:
    engine = load_engine(model, local_checkpoint(model.model), max_tokens, top_k, tokenizer.table.size)
    texts, ends = [window.text for window in windows], [window.ends_document for window in windows]
    return score_texts(engine, tokenizer, texts, ends, top_k)
