import subprocess
import sys

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from pta_ray.columns import (
    SCORED_SCHEMA,
    Fused,
    fused_column,
    fused_rows,
    read_fused,
    read_scores,
    scores_column,
    scores_of,
    sound,
    struct_column,
    windows_of,
    with_scores,
)
from pta_ray.distributions import (
    FusedRow,
    FusedTargets,
    IntervalTargets,
    Scores,
    SparseDistribution,
    own_distribution,
)
from tests.unit.in_process import make_windows

MOST_BYTES = 100  # per position, with ten candidates


def make_scores(length: int, k: int, seed: int) -> Scores:
    rng = np.random.default_rng(seed)
    log_probs = -np.sort(rng.uniform(0.5, 9, (length - 1, k))).astype(np.float32)
    return Scores(
        rng.integers(0, 99, length).astype(np.int32), -rng.uniform(0, 9, length - 1).astype(np.float32),
        rng.integers(0, 99, (length - 1, k)).astype(np.int32), log_probs,
    )  # fmt: skip


def test_scores_survive_the_columns() -> None:
    scores = [make_scores(length, 3, seed) for seed, length in enumerate([5, 2, 9])]
    for before, after in zip(scores, read_scores(scores_column(scores)), strict=True):
        np.testing.assert_array_equal(after.ids_L, before.ids_L)
        np.testing.assert_array_equal(after.next_log_probs_M, before.next_log_probs_M)
        np.testing.assert_array_equal(after.top_ids_MK, before.top_ids_MK)
        np.testing.assert_allclose(after.top_log_probs_MK, before.top_log_probs_MK, rtol=1e-3)


def test_a_slice_of_a_column_reads_its_own_rows() -> None:
    scores = [make_scores(length, 3, seed) for seed, length in enumerate([5, 2, 9])]
    table = pa.table({"s": scores_column(scores)}).slice(1, 1)
    [read] = read_scores(table.column("s").combine_chunks())
    np.testing.assert_array_equal(read.ids_L, scores[1].ids_L)


def test_scores_without_candidates_survive() -> None:
    [read] = read_scores(scores_column([make_scores(4, 0, 0)]))
    assert read.top_ids_MK.shape == (3, 0)


@st.composite
def scored_stream(draw: st.DrawFn) -> tuple[list[int], list[list[int]], set[tuple[int, int]], bool]:
    """Lengths of blocks, groups of models, which windows a model has nothing to say about, and whether Ray puts blocks
    together between two groups."""
    lengths = draw(st.lists(st.integers(0, 4), min_size=1, max_size=3))
    sizes = draw(st.lists(st.integers(1, 3), min_size=1, max_size=3))
    firsts = [sum(sizes[:i]) for i in range(len(sizes))]
    groups = [list(range(first, first + size)) for first, size in zip(firsts, sizes, strict=True)]
    places = st.tuples(st.integers(0, max(sum(lengths) - 1, 0)), st.integers(0, sum(sizes) - 1))
    return lengths, groups, draw(st.sets(places, max_size=6)), draw(st.booleans())


@settings(max_examples=40)
@given(scored_stream())
def test_what_models_say_stays_with_its_window(case: tuple[list[int], list[list[int]], set, bool]) -> None:
    lengths, groups, silent, is_joined = case
    firsts = [sum(lengths[:i]) for i in range(len(lengths))]
    blocks = [make_windows(length, first_row=first) for first, length in zip(firsts, lengths, strict=True)]
    before = pa.concat_tables(blocks)
    for group in groups:
        blocks = [pa.concat_tables(blocks)] if is_joined else blocks
        for model in group:
            blocks = [with_scores(block, model, said(block, model, silent)) for block in blocks]
    block = pa.concat_tables(blocks)
    assert block.schema == SCORED_SCHEMA
    windows, aside = windows_of(block), {row for row, _ in silent}
    assert windows.drop("text").equals(before.drop("text"))
    kept = [row for row in range(sum(lengths)) if row not in aside]
    assert sound(windows).column("row").to_pylist() == kept
    assert sound(windows).column("text").to_pylist() == [b"0:%d" % row for row in kept]
    for model in (model for group in groups for model in group):
        assert [found.ids_L.tolist() for found in scores_of(block, model)] == [
            said_about(row, model).ids_L.tolist() for row in kept
        ]


def said_about(row: int, model: int) -> Scores:
    return make_scores(2 + (row + model) % 3, 1, 100 * row + model)


def said(block: pa.Table, model: int, silent: set[tuple[int, int]]) -> list[Scores | None]:
    rows = sound(windows_of(block)).column("row").to_pylist()
    return [None if (row, model) in silent else said_about(row, model) for row in rows]


def test_nothing_is_left_of_what_was_said_about_a_window_that_was_set_aside() -> None:
    block = with_scores(make_windows(2), 0, [make_scores(5, 1, 0), make_scores(7, 1, 1)])
    block = with_scores(block, 1, [None, make_scores(6, 1, 2)])
    assert block.column("row").to_pylist() == [0, 1, 1, 1]
    assert block.column("model").to_pylist() == [None, None, 0, 1]


def test_two_tasks_may_have_windows_of_the_same_row() -> None:
    block = pa.concat_tables([make_windows(1, task=task) for task in (3, 4)])
    block = with_scores(block, 0, [make_scores(length, 1, 0) for length in (5, 6)])
    block = with_scores(block, 1, [make_scores(7, 1, 0), None])
    assert [len(found.ids_L) for found in scores_of(block, 0)] == [5]


def scored_bytes(num_models: int) -> float:
    """Bytes per position and model of 32 windows of 200 tokens of four bytes, scored with ten candidates."""
    block = make_windows(32)
    text = pa.array([b"text" * 200] * 32)
    block = block.set_column(block.column_names.index("text"), "text", text)
    for model in range(num_models):
        block = with_scores(block, model, [make_scores(200, 10, 0)] * 32)
    return block.nbytes / (32 * 199 * num_models)


def test_a_scored_row_stays_small_however_many_models_there_are() -> None:
    alone, many = scored_bytes(1), scored_bytes(32)
    assert many <= alone <= MOST_BYTES


@given(st.lists(st.booleans(), max_size=6))
def test_fused_rows_survive_and_those_without_a_result_have_no_winner(is_kept: list[bool]) -> None:
    results = [Fused(f"model {i % 2}", make_row(i + 2, 3, i)) if kept else None for i, kept in enumerate(is_kept)]
    windows = make_windows(len(results))
    table = fused_rows(windows, results)
    assert table.column_names == ["window_id", "domain", "task", "row", "ends_task", "share", "winner", "fused"]
    assert table.drop(["winner", "fused"]).equals(windows.select(table.column_names[:6]))
    assert table.column("winner").to_pylist() == [result and result.winner for result in results]
    assert table.column("fused").is_valid().to_pylist() == is_kept
    there = table.filter(table.column("winner").is_valid())
    read = read_fused(struct_column(there, "fused"))
    assert [row.ids_L.tolist() for row in read] == [result.row.ids_L.tolist() for result in results if result]


def make_row(length: int, top_k: int, seed: int) -> FusedRow:
    """What the target itself says along a window."""
    own = own_distribution(make_scores(length, top_k, seed))
    return FusedRow(np.arange(length, dtype=np.int32), own, np.ones(length - 1, np.bool_))


def test_fused_rows_stay_small() -> None:
    results = [Fused("target", make_row(200, 10, seed)) for seed in range(32)]
    table = fused_rows(make_windows(32), results)
    # At k = 10: 11 ids and probabilities, and two more numbers.
    assert struct_column(table, "fused").nbytes / (32 * 199) <= 73
    assert table.nbytes / (32 * 199) <= MOST_BYTES


def make_targets(length: int, seed: int, of_tokens: bool) -> FusedTargets:
    """Targets along `length` tokens, as many of them a position as the seed has it."""
    rng = np.random.default_rng(seed)
    shape = (length - 1, 1 + seed % 5)
    probs, confidence_M = rng.random(shape, np.float32), rng.random(length - 1, np.float32)
    low = rng.integers(0, 1 << 18, shape).astype(np.int32)
    if of_tokens:
        return SparseDistribution(low, probs, confidence_M)
    return IntervalTargets(low, low + rng.integers(0, 1 << 18, shape).astype(np.int32), probs, confidence_M)


def values(targets: FusedTargets) -> list[np.ndarray]:
    """The arrays of targets, each probability as precise as its column."""
    return [a.astype(np.float16) if a.dtype == np.float32 else a for a in vars(targets).values()]


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(0, 99), st.booleans()), max_size=6), st.data())
def test_targets_of_either_kind_survive_the_columns(rows: list[tuple[int, int, bool]], data: st.DataObject) -> None:
    before = [
        FusedRow(np.arange(row[0], dtype=np.int32), make_targets(*row), np.arange(row[0] - 1) % 3 == 0) for row in rows
    ]
    first = data.draw(st.integers(0, len(rows)))
    read = read_fused(fused_column(before)[first:])
    assert [len(row.ids_L) for row in read] == [length for length, _, _ in rows[first:]]
    for after, expected in zip(read, before[first:], strict=True):
        assert type(after.targets) is type(expected.targets)
        np.testing.assert_array_equal(after.is_own_M, expected.is_own_M)
        for array, expected_array in zip(values(after.targets), values(expected.targets), strict=True):
            np.testing.assert_array_equal(array.ravel(), expected_array.ravel())
            assert len(array) == len(expected_array)


def test_reading_columns_loads_no_compiler() -> None:
    """vLLM cannot start in a process that has loaded numba's compiler, and the scoring actors read columns."""
    command = "import sys, pta_ray.columns, pta_ray.text.reading; sys.exit('numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", command], check=False).returncode == 0


def test_own_distribution_puts_the_actual_token_first_and_once() -> None:
    scores = Scores(
        np.array([0, 7, 3], np.int32), np.log([0.5, 0.1]).astype(np.float32),
        np.array([[7, 2], [4, -1]], np.int32), np.log([[0.5, 0.2], [0.6, 0.1]]).astype(np.float32),
    )  # fmt: skip
    own: SparseDistribution = own_distribution(scores)
    assert own.ids_MK.tolist() == [[7, -1, 2], [3, 4, -1]]
    np.testing.assert_allclose(own.probs_MK, [[0.5, 0, 0.2], [0.1, 0.6, 0]], rtol=1e-5)
