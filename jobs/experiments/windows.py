"""The windows of the text and what every model says about them, scored once for all arms.

`<folder>/scores/<set>/windows.parquet` holds a row per window, and `<model>.parquet` beside it what a model says about
it, in the columns of the stream and with its precision.
"""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from jobs.experiments.models import TARGET
from jobs.experiments.text import DOMAINS
from pta_ray.columns import read_scores, scores_column, struct_column
from pta_ray.distributions import Scores
from pta_ray.sources.transformers_engine import TransformersEngine
from pta_ray.text.windows import cut
from pta_ray.tokenizers.byte_tokenizer import ByteTokenizer
from pta_ray.tokenizers.loading import load_tokenizer

WINDOW_TOKENS = 256
MOST_CANDIDATES = 64
"""Per position; arms with fewer take the first."""

_BATCHED_TOKENS = 2048


@dataclass(frozen=True)
class Window:
    """A piece of a document."""

    domain: str
    document: str
    text: bytes
    ends_document: bool


@dataclass(frozen=True)
class TextSet:
    """The windows of one set of documents (`fuse` or `held_out`) and what the models say about them."""

    folder: Path
    name: str

    @cached_property
    def windows(self) -> list[Window]:
        """In the order of the domains and documents."""
        return [Window(**row) for row in pq.read_table(self._path("windows")).to_pylist()]

    def tokenizer(self, model: str) -> ByteTokenizer:
        """Of one of the models."""
        return load_tokenizer(str(self.folder / "models" / model), trust_remote_code=False)

    def scores(self, model: str, top_k: int = MOST_CANDIDATES) -> list[Scores]:
        """What a model says about each window."""
        found = read_scores(struct_column(pq.read_table(self._path(model)), "scores"))
        return [
            Scores(s.ids_L, s.next_log_probs_M, s.top_ids_MK[:, :top_k], s.top_log_probs_MK[:, :top_k]) for s in found
        ]

    def cut(self) -> None:
        """Cuts the documents into windows, unless that has been done."""
        path, tokenizer, windows = self._path("windows"), self.tokenizer(TARGET), []
        if path.exists():
            return
        for domain in DOMAINS:
            with (self.folder / "data" / self.name / f"{domain}.jsonl").open(encoding="utf-8") as lines:
                for document in map(json.loads, lines):
                    pieces = cut(document["text"], tokenizer, WINDOW_TOKENS)
                    windows += [vars(Window(domain, document["id"], p.text, p.ends_document)) for p in pieces]
        self._write("windows", pa.Table.from_pylist(windows))

    def score(self, model: str) -> None:
        """Has a model score the windows, unless it has."""
        if self._path(model).exists():
            return
        tokenizer, checkpoint = self.tokenizer(model), self.folder / "models" / model
        encoded = tokenizer.encode([window.text.decode() for window in self.windows])
        longest = 4 * WINDOW_TOKENS
        sequences = [
            tokenizer.sequence(ids, window.ends_document, longest)
            for ids, window in zip(encoded, self.windows, strict=True)
        ]
        engine = TransformersEngine(str(checkpoint), longest, _BATCHED_TOKENS, trust_remote_code=False)
        self._write(model, pa.table({"scores": scores_column(engine.score(sequences, MOST_CANDIDATES))}))

    def _path(self, name: str) -> Path:
        return self.folder / "scores" / self.name / f"{name}.parquet"

    def _write(self, name: str, table: pa.Table) -> None:
        path = self._path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(".unfinished")
        pq.write_table(table, unfinished)
        unfinished.rename(path)
