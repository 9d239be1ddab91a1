"""The alignment stage on real distributions along real texts, without Ray."""

from dataclasses import replace
from typing import get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from tokenizers import Tokenizer, models

from pta_ray.alignment.align import align
from pta_ray.board import Snapshot
from pta_ray.columns import WINDOW_SCHEMA, read_fused, scores_of, struct_column, windows_of, with_scores
from pta_ray.config import Alignment, Choice
from pta_ray.distributions import FusedTargets, IntervalTargets, SparseDistribution, own_distribution
from pta_ray.fusion.fuser import Fuser
from pta_ray.tokenizers.byte_tokenizer import ByteTokenizer
from tests.fixtures.load import Fixture, load_fixture
from tests.unit.alignment import toy
from tests.unit.in_process import in_process

NAMES = ["target", "python", "translations"]
ENGLISH, FRENCH, JAPANESE, PYTHON = 7, 12, 20, 32
LEARNED = [FRENCH, ENGLISH, JAPANESE]


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
        batch = with_scores(batch, i, [fixture.models[name].scores[window] for window in [*learned, *held_out]])
    return batch


def fuse(fixture: Fixture, settings: Alignment, learned: list[int], held_out: list[int]) -> tuple[pa.Table, Snapshot]:
    return fuse_block(fixture, settings, make_batch(fixture, learned, held_out))


def fuse_block(
    fixture: Fixture, settings: Alignment, block: pa.Table, choice: Choice = "min_ce"
) -> tuple[pa.Table, Snapshot]:  # fmt: skip
    with in_process() as (telemetry, board):
        table = Fuser(settings, choice, NAMES, tokenizers(fixture), telemetry)(block)
    return table, board.snapshot()


def tokenizers(fixture: Fixture) -> list[ByteTokenizer]:
    """The fixture holds what they made of the texts, and their tables: nothing is left to tokenize."""
    return [
        ByteTokenizer(Tokenizer(models.BPE()), fixture.models[name].table, fixture.models[name].start_id, True, False)
        for name in NAMES
    ]


@pytest.mark.parametrize("choice", get_args(Choice))
def test_every_choice_is_made_of_what_the_models_say(fixture: Fixture, choice: Choice) -> None:
    table, _ = fuse_block(fixture, Alignment(), make_batch(fixture, [0, 1], []), choice)
    for n, found in enumerate(targets(table)):
        assert isinstance(found, SparseDistribution)
        said = [distribution(fixture, name, n) for name in NAMES]
        actual_MN = np.stack([np.where(d.confidence_M > 0, d.probs_MK[:, 0], np.nan) for d in said], axis=1)
        low_M, high_M = np.nanmin(actual_MN, axis=1), np.nanmax(actual_MN, axis=1)
        assert ((found.probs_MK[:, 0] >= low_M - 2e-3) & (found.probs_MK[:, 0] <= high_M + 2e-3)).all()
        assert (found.probs_MK.sum(1) <= 1 + 5e-3).all()
        if choice == "position":
            full_M = np.all([d.confidence_M == 1 for d in said], axis=0)
            np.testing.assert_allclose(found.probs_MK[full_M, 0], high_M[full_M], atol=2e-3)


@pytest.mark.parametrize("choice", get_args(Choice))
def test_a_row_tells_what_is_the_targets_own(fixture: Fixture, choice: Choice) -> None:
    table, _ = fuse_block(fixture, Alignment(), make_batch(fixture, LEARNED, []), choice)
    rows = read_fused(struct_column(table, "fused"))
    for window, winner, row in zip(LEARNED, table.column("winner").to_pylist(), rows, strict=True):
        own = distribution(fixture, "target", window)
        assert isinstance(row.targets, SparseDistribution)
        is_same_M = row.targets.probs_MK[:, 0] == own.probs_MK[:, 0].astype(np.float16)
        assert is_same_M[row.is_own_M].all()
        if choice == "min_ce":
            assert (row.is_own_M == (winner == "target")).all()
        if choice == "position":
            assert 0 < row.is_own_M.mean() < 1


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
    return [row.targets for row in read_fused(struct_column(table, "fused"))]


def test_a_row_tells_where_it_comes_from_and_who_won(fixture: Fixture) -> None:
    table, known = fuse(fixture, Alignment(), LEARNED, [PYTHON])
    assert table.column_names == ["window_id", "domain", "task", "row", "ends_task", "share", "winner", "fused"]
    assert table.column("window_id").to_pylist() == ["french/0", "english/1", "japanese/2"]
    assert table.column("domain").to_pylist() == ["french", "english", "japanese"]
    assert table.column("task").to_pylist() == [40, 41, 42] and table.column("row").to_pylist() == [7, 8, 9]
    assert table.column("ends_task").to_pylist() == [False, True, False]
    winners = [best_reader(fixture, window) for window in LEARNED]
    assert table.column("winner").to_pylist() == winners and set(winners) == set(NAMES)
    stage = known.stages["align"]
    assert stage.rows == 4 and stage.tokens == sum(
        len(fixture.models["target"].scores[window].ids_L) for window in [*LEARNED, PYTHON]
    )


def test_what_was_won_is_counted_where_it_is_learned_from(fixture: Fixture) -> None:
    _, known = fuse(fixture, Alignment(), LEARNED, [PYTHON])
    assert {name.split("/")[0] for name in known.counts} >= {"bits", "bytes", "positions", "spoken"}
    assert not [name for name in known.counts if name.startswith("won/")]


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
    table, known = fuse(fixture, Alignment(), [], [PYTHON])
    assert table.num_rows == 0 and table.column_names[-2:] == ["winner", "fused"]
    assert known.counts["bytes/python/python"] == len(fixture.windows[PYTHON].text)


def with_silence(block: pa.Table, model: int, windows: list[int]) -> pa.Table:
    """The block with another model, which has nothing to say about some windows: these are set aside."""
    num = windows_of(block).num_rows
    return with_scores(block, model, [None if i in windows else scores_of(block, 0)[i] for i in range(num)])


def test_windows_that_were_set_aside_leave_a_row_without_a_winner(fixture: Fixture) -> None:
    """Of four windows, of which the last is held out, the second and the last."""
    block = with_silence(make_batch(fixture, LEARNED, [PYTHON]), len(NAMES), [1, 3])
    expected, _ = fuse(fixture, Alignment(), LEARNED, [])
    table, known = fuse_block(fixture, Alignment(), block)
    assert table.drop(["winner", "fused"]).equals(expected.drop(["winner", "fused"]))
    assert table.column("winner").is_valid().to_pylist() == [True, False, True]
    for i in (0, 2):
        assert table.slice(i, 1).equals(expected.slice(i, 1))
    assert known.stages["align"].rows == 2
    assert not [name for name in known.counts if name.startswith("bits/")]


def test_a_block_may_be_set_aside_as_a_whole(fixture: Fixture) -> None:
    block = with_silence(make_batch(fixture, LEARNED, [PYTHON]), len(NAMES), [0, 1, 2, 3])
    table, known = fuse_block(fixture, Alignment(), block)
    assert table.column("row").to_pylist() == [7, 8, 9] and table.column("ends_task").to_pylist() == [
        False,
        True,
        False,
    ]
    assert table.column("winner").null_count == table.column("fused").null_count == 3
    assert known.counts == {}


def test_a_window_that_cannot_be_aligned_is_set_aside_and_the_others_are_not(fixture: Fixture) -> None:
    """A source ends with a token that its tokenizer does not know."""
    block = make_batch(fixture, LEARNED, [])
    of_others = block.filter(pc.fill_null(pc.not_equal(block.column("model"), 2), True))
    french, english, japanese = scores_of(block, 2)
    unknown = replace(english, ids_L=np.append(english.ids_L[:-1], np.int32(1 << 30)))
    block = with_scores(of_others, 2, [french, unknown, japanese])
    table, known = fuse_block(fixture, Alignment(), block)
    expected, counted = fuse(fixture, Alignment(), LEARNED, [])
    assert [(found.what, found.stage) for found in known.set_aside] == [("english/1", "align")]
    assert table.column("winner").is_valid().to_pylist() == [True, False, True]
    for i in (0, 2):
        assert table.slice(i, 1).equals(expected.slice(i, 1))
    assert known.stages["align"].rows == 2 and known.stages["align"].failures == 1 + 3
    assert 0 < known.counts["positions/python"] < counted.counts["positions/python"]


def test_a_block_that_is_fused_again_counts_once(fixture: Fixture) -> None:
    block = make_batch(fixture, LEARNED, [PYTHON])
    once, known = fuse_block(fixture, Alignment(), block)
    with in_process() as (telemetry, board):
        fuser = Fuser(Alignment(), "min_ce", NAMES, tokenizers(fixture), telemetry)
        assert fuser(block).equals(fuser(block)) and fuser(block).equals(once)
    assert board.snapshot().counts == known.counts
