"""The alignment stage: a batch of scored windows in, a batch of fused windows out.

Held-out windows travel in the same stream, so that no engine has to start a second time for them. They end here: what
the models say about them is counted as bits.
"""

from collections import Counter
from collections.abc import Iterator
from functools import partial

import pyarrow as pa
import pyarrow.compute as pc

from pta_ray.alignment.align import align
from pta_ray.alignment.intervals import interval_targets, token_intervals
from pta_ray.alignment.vocabularies import prepare_vocabularies
from pta_ray.columns import KEPT_OF_WINDOW, fused_column, read_scores, scores_name, struct_column
from pta_ray.config import Alignment
from pta_ray.distributions import FusedTargets, Scores, own_distribution
from pta_ray.evaluation.bits_per_byte import bit_counts
from pta_ray.evaluation.fidelity import fidelity_counts, measure_fidelity
from pta_ray.fusion.min_ce import Candidate, better
from pta_ray.telemetry import Telemetry
from pta_ray.tokenizers.byte_tokenizer import ByteTokenizer


class Fuser:
    """Callable of the alignment actors: tokenizer tables and compiled kernels stay warm between batches."""

    def __init__(
        self, settings: Alignment, names: list[str], tokenizers: list[ByteTokenizer], telemetry: Telemetry
    ) -> None:
        """`names` and `tokenizers` are those of the target, then of the sources, in the order of the score columns."""
        self._settings = settings
        self._names = names
        self._tokenizers = tokenizers
        self._vocabularies = [prepare_vocabularies(t.table, tokenizers[0].table) for t in tokenizers[1:]]
        self._telemetry = telemetry

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Replaces the text and the score columns of a batch by the columns `winner` and `fused`, and takes held-out
        windows out."""
        counts: Counter[str] = Counter()
        with self._telemetry.timed("align") as work:
            tokens = pc.sum(pc.list_value_length(pc.struct_field(batch.column(scores_name(0)), "ids"))).as_py()
            work.done(rows=batch.num_rows, tokens=tokens or 0, counts=counts)
            self._measure(batch.filter(batch.column("held_out")), counts)
            batch = batch.filter(pc.invert(batch.column("held_out")))
            scores = self._scores(batch)
            fused = [
                self._fuse(text, [s[row] for s in scores], row == 0, counts)
                for row, text in enumerate(batch.column("text").to_pylist())
            ]
        winners = pa.array([name for name, _ in fused], pa.string())
        column = fused_column([s.ids_L for s in scores[0]], [targets for _, targets in fused])
        return batch.select(KEPT_OF_WINDOW).append_column("winner", winners).append_column("fused", column)

    def _scores(self, batch: pa.Table) -> list[list[Scores]]:
        return [read_scores(struct_column(batch, scores_name(i))) for i in range(len(self._names))]

    def _measure(self, batch: pa.Table, counts: Counter[str]) -> None:
        for name, tokenizer, scores in zip(self._names, self._tokenizers, self._scores(batch), strict=True):
            for (text, domain), score in zip(_texts_and_domains(batch), scores, strict=True):
                counts.update(bit_counts(name, domain, score, tokenizer, text))

    def _fuse(
        self, text: bytes, scores: list[Scores], is_sample: bool, counts: Counter[str]
    ) -> tuple[str, FusedTargets]:
        """The best candidate for a window and what it teaches. Fidelity, which takes longer than alignment, is measured
        on samples."""
        target, ends_T = scores[0], self._tokenizers[0].boundaries(scores[0].ids_L, text)
        own = own_distribution(target)
        best = Candidate(self._names[0], own, partial(token_intervals, self._tokenizers[0].table, own))
        for i, vocabularies in enumerate(self._vocabularies, start=1):
            name, ends_S = self._names[i], self._tokenizers[i].boundaries(scores[i].ids_L, text)
            aligned = align(self._settings, vocabularies, text, scores[i], ends_S, target, ends_T)
            counts[f"not_exact/{name}"] += ends_S is None or ends_T is None
            counts[f"positions/{name}"] += len(aligned.distribution.confidence_M)
            counts[f"spoken/{name}"] += int((aligned.distribution.confidence_M > 0).sum())
            counts[f"unconverged/{name}"] += aligned.num_unconverged
            if is_sample:
                found = measure_fidelity(vocabularies.source, aligned.source, vocabularies.target, aligned.distribution)
                counts.update(fidelity_counts(name, found))
            intervals = partial(
                interval_targets, vocabularies, aligned.source, aligned.pinned, aligned.distribution.confidence_M,
                target.next_ids_M,
            )  # fmt: skip
            best = better(best, Candidate(name, aligned.distribution, intervals))
        return best.name, best.intervals() if self._settings.targets == "intervals" else best.distribution


def _texts_and_domains(batch: pa.Table) -> Iterator[tuple[bytes, str]]:
    return zip(batch.column("text").to_pylist(), batch.column("domain").to_pylist(), strict=True)
