import subprocess
import sys

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from pta_ray.columns import fused_column, read_fused, read_scores, scores_column
from pta_ray.distributions import FusedTargets, IntervalTargets, Scores, SparseDistribution, own_distribution


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


def test_fused_rows_stay_small() -> None:
    fused = [own_distribution(make_scores(200, 10, seed)) for seed in range(3)]
    column = fused_column([np.arange(200, dtype=np.int32)] * 3, fused)
    assert column.nbytes / (3 * 199) <= 73  # bytes a position at k = 10: 11 ids and probabilities and two more numbers


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
    before = [make_targets(*row) for row in rows]
    ids = [np.arange(length, dtype=np.int32) for length, _, _ in rows]
    first = data.draw(st.integers(0, len(rows)))
    read = read_fused(fused_column(ids, before)[first:])
    assert [len(ids_L) for ids_L, _ in read] == [length for length, _, _ in rows[first:]]
    for (_, after), expected in zip(read, before[first:], strict=True):
        assert type(after) is type(expected)
        for array, expected_array in zip(values(after), values(expected), strict=True):
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
