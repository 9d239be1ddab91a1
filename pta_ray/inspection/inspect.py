"""From what the models of a job say along a text to an inspection. Pure: no Ray, no engine, no file."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from pta_ray.alignment.align import align, explain, method_of
from pta_ray.alignment.vocabularies import Vocabularies, prepare_vocabularies
from pta_ray.config import Alignment
from pta_ray.distributions import Scores, SparseDistribution, own_distribution
from pta_ray.evaluation.bits_per_byte import bits_and_bytes
from pta_ray.fusion.min_ce import compare
from pta_ray.inspection.boundaries import Work, boundary
from pta_ray.inspection.groups import lines_of
from pta_ray.inspection.model import Claim, Contest, Inspection, SourceView, WindowView
from pta_ray.pages.labels import LabelBook
from pta_ray.text.windows import Window
from pta_ray.tokenizers.byte_table import ByteTable
from pta_ray.tokenizers.byte_tokenizer import ByteTokenizer

_COMPARED = ("pta", "mined", "exact")


@dataclass(frozen=True)
class Reading:
    """A model, and what it says along each window of a text."""

    name: str
    tokenizer: ByteTokenizer
    scores: list[Scores]


def inspect(
    settings: Alignment,
    target: Reading,
    sources: Sequence[Reading],
    windows: Sequence[Window],
    left_out: Sequence[str],
    simulated: Sequence[str],
) -> Inspection:
    """Aligns every source along every window and keeps all that led there. See `Inspection` for the last two."""
    book = LabelBook()
    vocabularies = [prepare_vocabularies(source.tokenizer.table, target.tokenizer.table) for source in sources]
    views = [_Window(book, settings, target, window, n).view(sources, vocabularies) for n, window in enumerate(windows)]
    return Inspection(
        target=target.name, sources=[source.name for source in sources], left_out=list(left_out),
        simulated=list(simulated), method=settings.method, settings=_settings(settings), labels=book.labels,
        windows=views,
    )  # fmt: skip


class _Window:
    """One window, and the fold over its sources."""

    def __init__(self, book: LabelBook, settings: Alignment, target: Reading, window: Window, n: int) -> None:
        self._book, self._settings, self._window, self._n = book, settings, window, n
        self._target, self._scores = target, target.scores[n]
        self._ends_T = target.tokenizer.boundaries(self._scores.ids_L, window.text)
        self._holder, self._best = target.name, own_distribution(self._scores)
        self._claims = [self._claim(target, self._best, None)]

    def view(self, sources: Sequence[Reading], vocabularies: Sequence[Vocabularies]) -> WindowView:
        """With every source, in the order of the fold."""
        views = [self._source(source, of) for source, of in zip(sources, vocabularies, strict=True)]
        bits_M = -self._scores.next_log_probs_M.astype(float) / math.log(2)
        return WindowView(
            start=self._window.start,
            num_bytes=len(self._window.text),
            tokens=self._book.of_sequence(self._target.tokenizer.table, self._scores.ids_L),
            ends=None if self._ends_T is None else self._ends_T.tolist(),
            bits=[round(bits, 3) + 0.0 for bits in bits_M.tolist()],  # no -0
            claims=self._claims,
            winner=self._holder,
            sources=views,
        )

    def _source(self, source: Reading, vocabularies: Vocabularies) -> SourceView:
        scores, text = source.scores[self._n], self._window.text
        ends_S = source.tokenizer.boundaries(scores.ids_L, text)
        arguments = vocabularies, text, scores, ends_S, self._scores, self._ends_T
        methods = dict.fromkeys([self._settings.method, *_COMPARED])
        aligned = {
            method: align(self._settings.model_copy(update={"method": method}), *arguments) for method in methods
        }
        chosen = aligned[self._settings.method]
        self._contend(source, chosen.distribution)
        moved = explain(self._settings, vocabularies, chosen, self._scores)
        work = Work(
            self._settings, vocabularies, text, self._scores, self._ends_T, len(scores.ids_L), ends_S, aligned, moved
        )
        return SourceView(
            tokens=self._book.of_sequence(source.tokenizer.table, scores.ids_L),
            by_bytes=ends_S is not None and self._ends_T is not None,
            lines=lines_of(self._book, text, chosen.pairing, ends_S, self._ends_T),
            boundaries=[boundary(self._book, work, m) for m in range(len(self._scores.next_log_probs_M))],
        )

    def _contend(self, source: Reading, distribution: SparseDistribution) -> None:
        """Lets a source try for the window."""
        found = compare(self._best, distribution)
        contest = Contest(
            holder=self._holder,
            num_boundaries=int(found.is_compared_M.sum()),
            num_bytes=_num_bytes(self._target.tokenizer.table, self._scores.next_ids_M[found.is_compared_M].tolist()),
            holder_bits=found.best_nats / math.log(2),
            bits=found.challenger_nats / math.log(2),
            wins=found.challenger_wins,
        )
        self._claims.append(self._claim(source, distribution, contest))
        if found.challenger_wins:
            self._holder, self._best = source.name, distribution

    def _claim(self, model: Reading, distribution: SparseDistribution, contest: Contest | None) -> Claim:
        bits, num_bytes = bits_and_bytes(model.scores[self._n], model.tokenizer, self._window.text)
        return Claim(
            name=model.name,
            bits_per_byte=bits / max(num_bytes, 1),
            num_bytes=num_bytes,
            num_spoken=int((distribution.confidence_M > 0).sum()),
            contest=contest,
            reason=_reason(contest),
        )


def _reason(contest: Contest | None) -> str:
    """What came of a claim, and why."""
    if contest is None:
        return "holds the window at first: the target as it is, which a source has to beat"
    if contest.num_boundaries == 0:
        return f"never speaks where {contest.holder} does, and so {contest.holder} keeps the window"
    num_bytes = max(contest.num_bytes, 1)
    outcome = "takes the window from" if contest.wins else "does not take the window from"
    figures = f"{contest.bits / num_bytes:.3f} bits per byte against {contest.holder_bits / num_bytes:.3f}"
    where = f"over the {contest.num_boundaries} boundaries ({contest.num_bytes} bytes) where both speak"
    return f"{outcome} {contest.holder}: {figures}, {where}"


def _num_bytes(table: ByteTable, ids: list[int]) -> int:
    return int(table.lengths_V[ids].sum())


def _settings(settings: Alignment) -> str:
    """What the alignment is set to, as its method has it."""
    method = method_of(settings)
    pull = "balanced" if math.isinf(method.rho) else f"rho {method.rho:g}"
    told = f"{settings.method}, {method.cost} cost, epsilon {settings.epsilon:g}, {pull}, top {settings.top_k}"
    return f"{told}, learned as intervals" if settings.targets == "intervals" else told
