"""Speed and fidelity of the alignment, on real distributions along real text (see tests/fixtures), one core, warm.

Long sequences are made of the fixture's windows, one behind the other. SmolLM2 (49,152 tokens) is the source and the
demo's target (4,096) the target. All ratios are of one run.
"""

import cProfile
import pstats
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import ot
import torch

from pta_ray import alignment
from pta_ray.alignment.align import align
from pta_ray.alignment.candidates import target_candidates
from pta_ray.alignment.conditioning import condition
from pta_ray.alignment.cost import COSTS
from pta_ray.alignment.pairing import pair_boundaries
from pta_ray.alignment.pinning import pin
from pta_ray.alignment.transport import transport
from pta_ray.alignment.vocabularies import Vocabularies, prepare_vocabularies
from pta_ray.config import Alignment
from pta_ray.distributions import Scores
from pta_ray.evaluation.fidelity import Fidelity, measure_fidelity
from pta_ray.tokenizers.byte_table import Role
from tests.fixtures.load import Fixture, load_fixture
from tests.oracles.textbook import textbook_align
from tests.real_vocabularies import sentencepiece_processor, sentencepiece_table

SOURCE, TARGET = "smollm2", "target"
ARMS = {
    "pta": Alignment(),
    "pta-paper": Alignment(method="pta-paper"),
    "mined": Alignment(method="mined"),
    "exact": Alignment(method="exact"),
    "pta, prefix cost": Alignment(cost="prefix"),
    "pta, edit cost": Alignment(cost="edit"),
}
LENGTH, REPEATS = 2048, 9
EPSILON = 0.05  # of the transport problems that POT solves too


@dataclass(frozen=True)
class Sequence:
    """Two models' scores along one text."""

    text: bytes
    source: Scores
    ends_S: npt.NDArray[np.int64]
    target: Scores
    ends_T: npt.NDArray[np.int64]

    @property
    def arguments(self) -> tuple[bytes, Scores, npt.NDArray[np.int64], Scores, npt.NDArray[np.int64]]:
        """Of `align`, behind the settings and the vocabularies."""
        return self.text, self.source, self.ends_S, self.target, self.ends_T


def measure() -> dict[str, Any]:
    """All figures; those of a name with `_seconds` in seconds, shares and ratios plain."""
    torch.set_num_threads(1)
    fixture = load_fixture()
    models = fixture.models
    vocabularies = prepare_vocabularies(models[SOURCE].table, models[TARGET].table)
    long = sequence(fixture, LENGTH)
    return {
        **measure_speed(vocabularies, long),
        **measure_textbook(vocabularies, long),
        **measure_transport(vocabularies, long),
        "length_exponent": length_exponent(fixture, vocabularies),
        "coverage": coverage(fixture),
        **measure_methods(fixture),
    }


def sequence(fixture: Fixture, length: int) -> Sequence:
    """The fixture's windows behind one another, over again if need be, cut at a number of target positions."""
    models = [fixture.models[name] for name in (SOURCE, TARGET)]
    parts: list[list[Scores]] = [[], []]
    ends: list[list[npt.NDArray[np.int64]]] = [[np.zeros(1, np.int64)], [np.zeros(1, np.int64)]]
    text, num_positions, i = b"", 0, 0
    while num_positions < length:
        for model, scores, e in zip(models, parts, ends, strict=True):
            s = model.scores[i]
            body = len(s.ids_L) - (model.table.roles_V[s.ids_L[-1]] == Role.EOS)
            scores.append(cut(s, body))
            e.append(model.ends[i][1:body] + len(text))
        num_positions += len(parts[1][-1].ids_L) - 1
        text += fixture.windows[i].text
        i = (i + 1) % len(fixture.windows)
    (source, target), (ends_S, ends_T) = map(joined, parts), map(np.concatenate, ends)
    return Sequence(text, source, ends_S, cut(target, length + 1), ends_T[: length + 1])


def cut(scores: Scores, length: int) -> Scores:
    """The first tokens of a sequence."""
    m = length - 1
    return Scores(
        scores.ids_L[:length], scores.next_log_probs_M[:m], scores.top_ids_MK[:m], scores.top_log_probs_MK[:m]
    )


def joined(parts: list[Scores]) -> Scores:
    """Sequences behind one another, with the start token of the first."""
    return Scores(
        np.concatenate([parts[0].ids_L[:1], *(s.ids_L[1:] for s in parts)]),
        np.concatenate([s.next_log_probs_M for s in parts]),
        np.concatenate([s.top_ids_MK for s in parts]),
        np.concatenate([s.top_log_probs_MK for s in parts]),
    )


def seconds(function: Callable[[], object], repeats: int = REPEATS) -> float:
    """The median time of a call, after one that is not counted."""
    function()
    times = []
    for _ in range(repeats):
        begin = time.perf_counter()
        function()
        times.append(time.perf_counter() - begin)
    return float(np.median(times))


def measure_speed(vocabularies: Vocabularies, long: Sequence) -> dict[str, float]:
    """Positions a second of the whole alignment, and what share of the time its costliest steps take."""
    align(Alignment(), vocabularies, *long.arguments)
    profile = cProfile.Profile()
    profile.enable()
    for _ in range(REPEATS):
        align(Alignment(), vocabularies, *long.arguments)
    profile.disable()
    rows = pstats.Stats(profile).stats.items()  # type: ignore[attr-defined]
    times = {function: row[3] for (file, _, function), row in rows if file.startswith(alignment.__path__[0])}
    steps = ("condition", "pin", "target_candidates", "_costs", "transport", "keep_top")
    return {
        "positions_per_second": LENGTH / seconds(lambda: align(Alignment(), vocabularies, *long.arguments)),
        "edit_positions_per_second": LENGTH
        / seconds(lambda: align(Alignment(cost="edit"), vocabularies, *long.arguments)),
        **{f"time_share_{step.strip('_')}": times[step] / times["align"] for step in steps},
    }


def measure_textbook(vocabularies: Vocabularies, long: Sequence) -> dict[str, float]:
    """The published algorithm, written plainly, on the same sequence."""
    source, target = long.source, long.target
    read_S = long.ends_S[:-1] <= long.ends_T[-1]
    begin = time.perf_counter()
    textbook_align(
        vocabularies.source, source.ids_L[:-1][read_S], source.top_ids_MK[read_S], source.top_log_probs_MK[read_S],
        vocabularies.target, target.ids_L, target.top_ids_MK, target.top_log_probs_MK, Alignment().epsilon,
    )  # fmt: skip
    textbook = time.perf_counter() - begin
    own = seconds(lambda: align(Alignment(), vocabularies, *long.arguments))
    return {"textbook_positions_per_second": LENGTH / textbook, "speedup_over_textbook": textbook / own}


def measure_transport(vocabularies: Vocabularies, long: Sequence) -> dict[str, float]:
    """Balanced problems of 10 x 10 at edit cost, from the same real distributions, against POT's batched solver:
    problems a second at the same tolerance, and the marginal errors that both reach."""
    last_T = pair_boundaries(long.ends_S, long.ends_T)
    source = condition(
        vocabularies.source, long.text, long.ends_S, long.ends_T, last_T, long.source.next_ids_M,
        long.source.next_log_probs_M, long.source.top_ids_MK, long.source.top_log_probs_MK,
    )  # fmt: skip
    candidates = target_candidates(vocabularies, source, source.probs_TC[:-1], long.target, "none")
    cost_MCY = COSTS["edit"](vocabularies, source, source.probs_TC[:-1], candidates)
    whole_M = ((source.probs_TC[:-1] > 0).sum(1) >= 10) & ((candidates.probs_MY > 0).sum(1) >= 10)
    cost, p, q = (a[whole_M] for a in (cost_MCY, source.probs_TC[:-1], candidates.probs_MY))
    rows, columns = np.argsort(-p, 1, kind="stable")[:, :10], np.argsort(-q, 1, kind="stable")[:, :10]
    cost = np.take_along_axis(np.take_along_axis(cost, rows[:, :, None], 1), columns[:, None], 2)
    p, q = (np.take_along_axis(a, i, 1) for a, i in ((p, rows), (q, columns)))
    p, q = (a / a.sum(1, keepdims=True) for a in (p, q))
    figures: dict[str, float] = {"transport_problems": len(p)}
    batches = [slice(i, i + 256) for i in range(0, len(p), 256)]
    as_torch = [[torch.from_numpy(a[batch]) for a in (cost, p, q)] for batch in batches]

    def by_pot() -> list[torch.Tensor]:
        return [ot.solve_batch(c, EPSILON, a, b, tol=1e-4, max_iter=500).plan for c, a, b in as_torch]

    def by_ours() -> npt.NDArray[np.float32]:
        return transport(cost, p, q, EPSILON, np.inf, max_iterations=500, with_plans=True).plan_MCY

    pot_seconds, own_seconds = seconds(by_pot, 3), seconds(by_ours)
    for name, plans in (("pot", torch.cat(by_pot()).numpy()), ("own", by_ours())):
        missed_M = np.abs(plans.sum(2) - p).sum(1) + np.abs(plans.sum(1) - q).sum(1)
        figures[f"transport_marginal_error_{name}"] = float(missed_M.mean())
        figures[f"transport_worst_marginal_error_{name}"] = float(missed_M.max())
    return figures | {
        "transport_problems_per_second": len(p) / own_seconds,
        "transport_over_pot": pot_seconds / own_seconds,
    }


def length_exponent(fixture: Fixture, vocabularies: Vocabularies) -> float:
    """The slope of log time over log length."""
    lengths = [512 << i for i in range(7)]
    times = []
    for length in lengths:
        long = sequence(fixture, length)
        times.append(seconds(lambda long=long: align(Alignment(), vocabularies, *long.arguments)))  # type: ignore[misc]
    return float(np.polyfit(np.log(lengths), np.log(times), 1)[0])


def coverage(fixture: Fixture) -> dict[str, float]:
    """Per language the share of a Llama-like tokenizer's boundaries (SentencePiece, 32,000 tokens) at which the source
    speaks."""
    processor, table, model = sentencepiece_processor(), sentencepiece_table(), fixture.models[SOURCE]
    spoken: dict[str, list[npt.NDArray[np.bool_]]] = {}
    for window, source, ends_S in zip(fixture.windows, model.scores, model.ends, strict=True):
        ids = processor.encode(window.text.decode())
        ends_T = np.concatenate([[0], np.cumsum(table.lengths_V[ids])]) - 1  # it puts a space before a text
        last_T = pair_boundaries(ends_S, ends_T)
        candidates = condition(
            model.table, window.text, ends_S, ends_T, last_T, source.next_ids_M, source.next_log_probs_M,
            source.top_ids_MK, source.top_log_probs_MK,
        )  # fmt: skip
        spoken.setdefault(window.language, []).append(
            pin(model.table, candidates, window.text, ends_T, last_T).spoken_M
        )
    return {language: float(np.concatenate(parts).mean()) for language, parts in spoken.items()}


def measure_methods(fixture: Fixture) -> dict[str, dict[str, float]]:
    """Fidelity of each method, both ways between a large vocabulary and a small one; and of `pta` at other costs."""
    figures: dict[str, dict[str, float]] = {"information_kept": {}, "next_byte_divergence_bits": {}}
    for source, target in ((SOURCE, TARGET), (TARGET, SOURCE)):
        for arm, settings in ARMS.items():
            total = sum(fidelities(fixture, source, target, settings), Fidelity())
            figures["information_kept"][f"{arm}, {source} to {target}"] = total.information_kept
            figures["next_byte_divergence_bits"][f"{arm}, {source} to {target}"] = total.next_byte_divergence_bits
    return figures


def fidelities(fixture: Fixture, source: str, target: str, settings: Alignment) -> list[Fidelity]:
    """Per window."""
    s, t = fixture.models[source], fixture.models[target]
    vocabularies = prepare_vocabularies(s.table, t.table)
    found = []
    for i, window in enumerate(fixture.windows):
        aligned = align(settings, vocabularies, window.text, s.scores[i], s.ends[i], t.scores[i], t.ends[i])
        found.append(measure_fidelity(s.table, aligned.source, t.table, aligned.distribution))
    return found
