"""Speed of the alignment, and what it keeps, on the demo's models and held-out text."""

import json
import time
from pathlib import Path

import numpy as np

from pta_ray.alignment.align import align
from pta_ray.config import Alignment
from pta_ray.distributions import Scores
from pta_ray.sources.transformers_engine import TransformersEngine
from pta_ray.tokenizers.byte_tokenizer import ByteTokenizer
from pta_ray.tokenizers.loading import load_tokenizer

DEMO = Path("~/.cache/pta-ray/demo").expanduser()
NUM_TEXTS, CHARACTERS, REPEATS = 24, 900, 5


def measure() -> dict[str, float]:
    """Target positions a second on one core, warm, and information kept: the source's own cross-entropy on the text
    over that of the aligned distributions, per source."""
    texts = some_texts()
    target_tokenizer, target = scored("target", texts)
    figures = {}
    for name in ("python", "translations"):
        tokenizer, source = scored(name, texts)
        seconds = []
        for _ in range(REPEATS + 1):
            begin = time.perf_counter()
            aligned = [
                align(Alignment(), text.encode(), tokenizer, s, target_tokenizer, t)
                for text, s, t in zip(texts, source, target, strict=True)
            ]
            seconds.append(time.perf_counter() - begin)
        found = [(a.distribution, s) for a, s in zip(aligned, source, strict=True) if a is not None]
        num_positions = sum(len(distribution.confidence_M) for distribution, _ in found)
        kept = sum(-float(s.next_log_probs_M.sum()) for _, s in found)
        nats = sum(-float(np.log(d.probs_MK[d.confidence_M > 0, 0]).sum()) for d, _ in found)
        figures[f"positions_per_second_{name}"] = num_positions / float(np.median(seconds[1:]))
        figures[f"information_kept_{name}"] = kept / nats
        figures[f"coverage_{name}"] = sum(float((d.confidence_M > 0).sum()) for d, _ in found) / num_positions
    return figures


def some_texts() -> list[str]:
    """The beginnings of held-out documents of every domain."""
    lines = [line for path in sorted((DEMO / "data" / "held_out").glob("*.jsonl")) for line in path.open()]
    texts = [json.loads(line)["text"][:CHARACTERS] for line in lines]
    return texts[:: max(1, len(texts) // NUM_TEXTS)]


def scored(name: str, texts: list[str]) -> tuple[ByteTokenizer, list[Scores]]:
    """A model's tokenizer, and what it says about the texts."""
    checkpoint = str(DEMO / "models" / name)
    tokenizer = load_tokenizer(checkpoint, trust_remote_code=False)
    engine = TransformersEngine(checkpoint, 1024, 2048, trust_remote_code=False)
    sequences = [tokenizer.sequence(ids, True, 1024) for ids in tokenizer.encode(texts)]
    return tokenizer, engine.score(sequences, Alignment().top_k)
