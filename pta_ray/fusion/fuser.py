"""The alignment stage: a block of scored windows in, a block of fused windows out.

Held-out windows travel in the same stream, so that no engine has to start a second time for them. They end here: what
the models say about them is counted as bits.

Shapes: N windows of a block, S of them sound, C of these chosen.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pta_ray.alignment.align import align
from pta_ray.alignment.vocabularies import prepare_vocabularies
from pta_ray.attempts import attempt
from pta_ray.columns import Fused, fused_rows, scores_of, sound, windows_of
from pta_ray.config import Alignment, Choice
from pta_ray.distributions import Scores
from pta_ray.evaluation.bits_per_byte import bit_counts
from pta_ray.evaluation.fidelity import fidelity_counts, measure_fidelity
from pta_ray.fusion.candidate import Candidate, claim_of_source, claim_of_target
from pta_ray.fusion.choices import CHOICES
from pta_ray.telemetry import Telemetry, Work
from pta_ray.tokenizers.byte_tokenizer import ByteTokenizer

Places = npt.NDArray[np.int64]
Result = TypeVar("Result")

_TIMEOUT_SECONDS = 600.0  # for one block, which takes seconds
_STAGE = "align"


class Fuser:
    """Callable of the alignment actors: tokenizer tables and compiled kernels stay warm between blocks."""

    def __init__(
        self,
        settings: Alignment,
        choice: Choice,
        names: list[str],
        tokenizers: list[ByteTokenizer],
        telemetry: Telemetry,
    ) -> None:
        """`names` and `tokenizers` are those of the target, then of the sources."""
        self._settings = settings
        self._fold = CHOICES[choice]
        self._names = names
        self._tokenizers = tokenizers
        self._vocabularies = [prepare_vocabularies(t.table, tokenizers[0].table) for t in tokenizers[1:]]
        self._telemetry = telemetry

    def __call__(self, block: pa.Table) -> pa.Table:
        """Leaves one row for each window that is learned from."""
        windows = windows_of(block)
        is_held_out_N = windows.column("held_out").to_numpy()
        learned, kept = windows.filter(~is_held_out_N), sound(windows)
        # The rows of scores are those of the windows that are kept, in their order.
        is_measured_S = kept.column("held_out").to_numpy()
        self._attempt(kept, np.flatnonzero(is_measured_S), partial(self._measure, block))
        found = self._attempt(kept, np.flatnonzero(~is_measured_S), partial(self._fuse, block))
        fused = iter(found)
        results = [next(fused) if is_kept else None for is_kept in learned.column("text").is_valid().to_pylist()]
        return fused_rows(learned, results)

    def _attempt(
        self, windows: pa.Table, chosen_C: Places, work_on: Callable[[pa.Table, Places, Work], list[Result]]
    ) -> list[Result | None]:
        def work_on_some(numbers: Sequence[int], work: Work) -> list[Result]:
            return work_on(windows, chosen_C[numbers], work)

        return attempt(self._telemetry, _STAGE, _TIMEOUT_SECONDS, windows.take(chosen_C), work_on_some)

    def _measure(self, block: pa.Table, windows: pa.Table, chosen_C: Places, work: Work) -> list[bool]:
        """Counts the bits of some of the windows under every model."""
        counts: Counter[str] = Counter()
        texts, domains = windows.column("text").to_pylist(), windows.column("domain").to_pylist()
        for i, (name, tokenizer) in enumerate(zip(self._names, self._tokenizers, strict=True)):
            scores = scores_of(block, i)
            for n in chosen_C:
                counts.update(bit_counts(name, domains[n], scores[n], tokenizer, texts[n]))
            if i == 0:
                work.done(_num_tokens(scores, chosen_C), counts=counts)
        return [True] * len(chosen_C)

    def _fuse(self, block: pa.Table, windows: pa.Table, chosen_C: Places, work: Work) -> list[Fused]:
        """What is learned from some of the windows: one source after the other is aligned and folded into what there is
        so far, so that no more than two distributions of a window exist at any time."""
        table, texts = self._tokenizers[0].table, windows.column("text").to_pylist()
        targets = scores_of(block, 0)
        counts: Counter[str] = Counter()
        work.done(_num_tokens(targets, chosen_C), counts=counts)
        best = [claim_of_target(self._names[0], targets[n], table) for n in chosen_C]
        for i in range(1, len(self._names)):
            scores = scores_of(block, i)
            for c, n in enumerate(chosen_C):
                best[c] = self._fold(best[c], self._aligned(i, texts[n], scores[n], targets[n], c == 0, counts))
        as_intervals = self._settings.targets == "intervals"
        return [
            Fused(found.name, found.row(targets[n].ids_L, as_intervals))
            for n, found in zip(chosen_C, best, strict=True)
        ]

    def _aligned(
        self, i: int, text: bytes, scores: Scores, target: Scores, is_sample: bool, counts: Counter[str]
    ) -> Candidate:
        """A source's claim to a window. Fidelity, which takes longer than alignment, is measured on samples."""
        name, vocabularies = self._names[i], self._vocabularies[i - 1]
        ends_S = self._tokenizers[i].boundaries(scores.ids_L, text)
        ends_T = self._tokenizers[0].boundaries(target.ids_L, text)
        aligned = align(self._settings, vocabularies, text, scores, ends_S, target, ends_T)
        distribution = aligned.distribution
        counts[f"not_exact/{name}"] += ends_S is None or ends_T is None
        counts[f"positions/{name}"] += len(distribution.confidence_M)
        counts[f"spoken/{name}"] += int((distribution.confidence_M > 0).sum())
        counts[f"unconverged/{name}"] += aligned.num_unconverged
        if is_sample:
            found = measure_fidelity(vocabularies.source, aligned.source, vocabularies.target, distribution)
            counts.update(fidelity_counts(name, found))
        return claim_of_source(name, aligned, vocabularies, target.next_ids_M)


def _num_tokens(scores: Sequence[Scores], chosen_C: Places) -> int:
    return sum(len(scores[n].ids_L) for n in chosen_C)
