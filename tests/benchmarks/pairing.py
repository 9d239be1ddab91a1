"""Speed of tokenizing to byte boundaries and of pairing, on real tokenizers: SentencePiece (Mistral v1) and Tekken."""

import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pta_ray.alignment.pairing import pair_boundaries, pair_whole_by_edit_distance
from pta_ray.tokenizers.byte_tokenizer import ByteTokenizer
from pta_ray.tokenizers.loading import load_tokenizer
from tests.unit.tokenizers.test_real_tokenizers import SENTENCEPIECE, TEKKEN, shipped
from tests.unit.tokenizers.texts import LANGUAGES

TEXT_BYTES, REPEATS, BAND = 8_000, 9, 16


def measure() -> dict[str, float]:
    """Positions a second count the target's tokens; the others are ratios and shares."""
    source = load("tokenizer.model", SENTENCEPIECE["v1"])
    target = load("tekken.json", TEKKEN)
    texts = windows()
    over_tokenizers = boundary_encoding(source, target, texts)
    long = "".join(texts)
    (ids_S, ends_S), (ids_T, ends_T) = (sequence(tokenizer, long) for tokenizer in (source, target))
    walk = seconds(lambda: pair_boundaries(ends_S, ends_T))
    programme = seconds(lambda: pair_whole_by_edit_distance(source.table, ids_S, target.table, ids_T, BAND))
    last_T = pair_whole_by_edit_distance(source.table, ids_S, target.table, ids_T, BAND)
    walked_T = pair_boundaries(ends_S, ends_T)
    true_T = (walked_T >= 0) & (ends_S[walked_T] == ends_T)
    return {
        "pairing_positions_per_second": len(ids_T) / walk,
        "boundary_encoding_over_tokenizers": over_tokenizers,
        "programme_crossed_share": float((last_T != walked_T)[true_T].mean()),
        "programme_positions_per_second": len(ids_T) / programme,
    }


def load(name: str, vocabulary: str) -> ByteTokenizer:
    """From a folder that holds the vocabulary file and nothing else."""
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(shipped(vocabulary), Path(folder) / name)
        return load_tokenizer(folder, trust_remote_code=False)


def windows() -> list[str]:
    """Prose and code of several languages, the lines of each window in an order of its own."""
    rng = np.random.default_rng(0)
    lines = [line for text in LANGUAGES.values() for line in text.splitlines()]
    texts = []
    for _ in range(32):
        text = ""
        while len(text.encode()) < TEXT_BYTES:
            text += lines[rng.integers(len(lines))] + "\n"
        texts.append(text)
    return texts


def sequence(tokenizer: ByteTokenizer, text: str) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
    [ids] = tokenizer.encode([text])
    sequence_L = tokenizer.sequence(ids, True, len(ids) + 2)
    ends_L = tokenizer.boundaries(sequence_L, text.encode())
    assert ends_L is not None
    return sequence_L, ends_L


def boundary_encoding(source: ByteTokenizer, target: ByteTokenizer, texts: list[str]) -> float:
    """Time from texts to ids and boundaries, over that of the tokenizers library from texts to encodings.

    Both in turn, so that a busy machine slows them alike; medians over the same repeats.
    """
    own, library = [], []
    data = [text.encode() for text in texts]
    for _ in range(REPEATS):
        own.append(elapsed(lambda: [boundaries(tokenizer, texts, data) for tokenizer in (source, target)]))
        library.append(
            elapsed(lambda: [t.backend.encode_batch_fast(texts, add_special_tokens=False) for t in (source, target)])
        )
    return float(np.median(own) / np.median(library))


def boundaries(tokenizer: ByteTokenizer, texts: list[str], data: list[bytes]) -> None:
    for ids, text in zip(tokenizer.encode(texts), data, strict=True):
        tokenizer.boundaries(tokenizer.sequence(ids, True, len(ids) + 2), text)


def seconds(function: Callable[[], object]) -> float:
    """The median time of a call, after one that is not counted."""
    function()
    return float(np.median([elapsed(function) for _ in range(REPEATS)]))


def elapsed(function: Callable[[], object]) -> float:
    begin = time.perf_counter()
    function()
    return time.perf_counter() - begin
