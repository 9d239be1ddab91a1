"""The alignment stage on real distributions along real texts, without Ray."""

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pytest
from tokenizers import Tokenizer, models

from pta_ray.alignment.align import align
from pta_ray.columns import WINDOW_SCHEMA, read_fused, scores_column, scores_name, struct_column
from pta_ray.config import Alignment
from pta_ray.distributions import FusedTargets, IntervalTargets, SparseDistribution, own_distribution
from pta_ray.fusion.fuser import Fuser
from pta_ray.tokenizers.byte_tokenizer import ByteTokenizer
from tests.fixtures.load import Fixture, load_fixture
from tests.unit.alignment import toy

NAMES = ["target", "python", "translations"]
ENGLISH, FRENCH, JAPANESE, PYTHON = 7, 12, 20, 32
LEARNED = [FRENCH, ENGLISH, JAPANESE]


@dataclass
class Reports:
    """Takes what the stage reports."""

    rows: int = 0
    tokens: int = 0
    counts: Mapping[str, float] = field(default_factory=Counter)

    @contextmanager
    def timed(self, stage: str) -> Iterator["Reports"]:
        yield self

    def done(self, rows: int, tokens: int, counts: Mapping[str, float]) -> None:
        self.rows, self.tokens, self.counts = rows, tokens, counts


@pytest.fixture(scope="module")
def fixture() -> Fixture:
    return load_fixture()


def make_batch(fixture: Fixture, learned: list[int], held_out: list[int]) -> pa.Table:
    windows = [fixture.windows[i] for i in [*learned, *held_out]]
    rows = np.arange(len(windows), dtype=np.int32)
    batch = pa.table(
        [
            [f"{w.language}/{i}" for i, w in enumerate(windows)], [w.language for w in windows],
            [w.text for w in windows], [True] * len(windows), rows / 10, rows >= len(learned), rows + 40, rows + 7,
            rows == 1,
        ],
        schema=WINDOW_SCHEMA,
    )  # fmt: skip
    for i, name in enumerate(NAMES):
        scores = [fixture.models[name].scores[window] for window in [*learned, *held_out]]
        batch = batch.append_column(scores_name(i), scores_column(scores))
    return batch


def fuse(fixture: Fixture, settings: Alignment, learned: list[int], held_out: list[int]) -> tuple[pa.Table, Reports]:
    # The fixture holds what the tokenizers made of the texts, and their tables: nothing is left to tokenize.
    tokenizers = [
        ByteTokenizer(Tokenizer(models.BPE()), fixture.models[name].table, fixture.models[name].start_id, True, False)
        for name in NAMES
    ]
    reports = Reports()
    fuser = Fuser(settings, NAMES, tokenizers, reports)  # type: ignore[arg-type]
    return fuser(make_batch(fixture, learned, held_out)), reports


def best_reader(fixture: Fixture, window: int) -> str:
    """The model that gives a text the highest probability by the chain rule over its own tokens."""
    return max(NAMES, key=lambda name: float(fixture.models[name].scores[window].next_log_probs_M.sum()))


def distribution(fixture: Fixture, name: str, window: int) -> SparseDistribution:
    """What a model says along a window in the target's tokens."""
    model, target = fixture.models[name], fixture.models["target"]
    if name == "target":
        return own_distribution(target.scores[window])
    return align(
        Alignment(), toy.vocabularies(model.table, target.table), fixture.windows[window].text, model.scores[window],
        model.ends[window], target.scores[window], target.ends[window],
    ).distribution  # fmt: skip


def targets(table: pa.Table) -> list[FusedTargets]:
    return [fused for _, fused in read_fused(struct_column(table, "fused"))]


def test_a_row_tells_where_it_comes_from_and_who_won(fixture: Fixture) -> None:
    table, reports = fuse(fixture, Alignment(), LEARNED, [PYTHON])
    assert table.column_names == ["window_id", "domain", "task", "row", "ends_task", "share", "winner", "fused"]
    assert table.column("window_id").to_pylist() == ["french/0", "english/1", "japanese/2"]
    assert table.column("domain").to_pylist() == ["french", "english", "japanese"]
    assert table.column("task").to_pylist() == [40, 41, 42] and table.column("row").to_pylist() == [7, 8, 9]
    assert table.column("ends_task").to_pylist() == [False, True, False]
    winners = [best_reader(fixture, window) for window in LEARNED]
    assert table.column("winner").to_pylist() == winners and set(winners) == set(NAMES)
    assert reports.rows == 4 and reports.tokens == sum(
        len(fixture.models["target"].scores[window].ids_L) for window in [*LEARNED, PYTHON]
    )


def test_what_was_won_is_counted_where_it_is_learned_from(fixture: Fixture) -> None:
    _, reports = fuse(fixture, Alignment(), LEARNED, [PYTHON])
    assert {name.split("/")[0] for name in reports.counts} >= {"bits", "bytes", "positions", "spoken"}
    assert not [name for name in reports.counts if name.startswith("won/")]


def test_a_row_of_tokens_is_the_winners_distribution(fixture: Fixture) -> None:
    table, _ = fuse(fixture, Alignment(), LEARNED, [])
    for window, name, found in zip(LEARNED, table.column("winner").to_pylist(), targets(table), strict=True):
        assert isinstance(found, SparseDistribution)
        expected = distribution(fixture, name, window)
        np.testing.assert_array_equal(found.confidence_M, expected.confidence_M.astype(np.float16))
        np.testing.assert_array_equal(found.probs_MK, expected.probs_MK.astype(np.float16))
        np.testing.assert_array_equal(found.ids_MK, expected.ids_MK)


def test_a_row_of_intervals_has_the_same_winner_and_actual_tokens(fixture: Fixture) -> None:
    tokens, _ = fuse(fixture, Alignment(), LEARNED, [])
    intervals, _ = fuse(fixture, Alignment(targets="intervals"), LEARNED, [])
    assert intervals.drop("fused").equals(tokens.drop("fused"))
    table = fixture.models["target"].table
    for window, of_tokens, of_intervals in zip(LEARNED, targets(tokens), targets(intervals), strict=True):
        assert isinstance(of_tokens, SparseDistribution) and isinstance(of_intervals, IntervalTargets)
        np.testing.assert_array_equal(of_intervals.confidence_M, of_tokens.confidence_M)
        next_ids_M = fixture.models["target"].scores[window].next_ids_M
        told_M = (of_tokens.confidence_M > 0) & (table.lengths_V[next_ids_M] > 0)
        np.testing.assert_array_equal(table.sorted_ids_O[of_intervals.low_MI[told_M, 0]], next_ids_M[told_M])
        np.testing.assert_array_equal(of_intervals.high_MI[told_M, 0], of_intervals.low_MI[told_M, 0] + 1)
        np.testing.assert_array_equal(of_intervals.probs_MI[told_M, 0], of_tokens.probs_MK[told_M, 0])
        assert np.all(of_intervals.low_MI <= of_intervals.high_MI)
        assert of_intervals.high_MI.max() <= len(table.sorted_ids_O)
        assert np.all((of_intervals.probs_MI >= 0) & (of_intervals.probs_MI <= 1))


def test_the_targets_own_intervals_have_the_probabilities_of_its_tokens(fixture: Fixture) -> None:
    [of_tokens] = targets(fuse(fixture, Alignment(), [ENGLISH], [])[0])
    [of_intervals] = targets(fuse(fixture, Alignment(targets="intervals"), [ENGLISH], [])[0])
    table = fixture.models["target"].table
    assert isinstance(of_tokens, SparseDistribution) and isinstance(of_intervals, IntervalTargets)
    for m, (ids_K, probs_K) in enumerate(zip(of_tokens.ids_MK.tolist(), of_tokens.probs_MK.tolist(), strict=True)):
        places = zip(of_intervals.low_MI[m], of_intervals.high_MI[m], of_intervals.probs_MI[m].tolist(), strict=True)
        found = {tuple(table.sorted_ids_O[low:high].tolist()): prob for low, high, prob in places if low < high}
        named = zip(ids_K, probs_K, strict=True)
        assert found == {(i,): prob for i, prob in named if i >= 0 and table.lengths_V[i] > 0}


def test_a_sources_intervals_leave_open_which_of_several_tokens_is_meant(fixture: Fixture) -> None:
    """Wider than one token where it is short, and never with more than all of its mass."""
    [found] = targets(fuse(fixture, Alignment(targets="intervals"), [FRENCH], [])[0])
    assert isinstance(found, IntervalTargets)
    width_MI = found.high_MI - found.low_MI
    assert (width_MI > 1).any(1).mean() > 0.5
    for m in range(len(width_MI)):
        places = list(zip(found.low_MI[m], found.high_MI[m], found.probs_MI[m].tolist(), strict=True))
        outer = [p for p in places if not any(o[0] <= p[0] and p[1] <= o[1] and o[:2] != p[:2] for o in places)]
        assert sum(prob for *_, prob in outer) <= 1 + 1e-2


def test_held_out_windows_alone_leave_no_row(fixture: Fixture) -> None:
    table, reports = fuse(fixture, Alignment(), [], [PYTHON])
    assert table.num_rows == 0 and table.column_names[-2:] == ["winner", "fused"]
    assert reports.counts["bytes/python/python"] == len(fixture.windows[PYTHON].text)
