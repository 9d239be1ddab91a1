"""The Arrow columns of the stream: fixed flat lists, no Python object per token.

A block starts with a row per window (`WINDOW_SCHEMA`). Scoring adds a row for each window and model (`SCORED_SCHEMA`),
so that a row is as long as its window, however many models there are. Alignment leaves a row per window again: the name
of the `winner` and the `fused` distribution that it gives (`FUSED_TYPE`), together with `KEPT_OF_WINDOW`.

A window that was set aside stays in the stream, so that it is known to be done with: first its text is null, then its
winner and its distribution.
"""

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pta_ray.distributions import FusedRow, FusedTargets, IntervalTargets, Scores, SparseDistribution

WINDOW_SCHEMA = pa.schema(
    [
        ("window_id", pa.string()),  # dataset/document:start byte
        ("domain", pa.string()),
        ("text", pa.binary()),
        ("ends_document", pa.bool_()),
        ("share", pa.float64()),  # of the training text, by size: how far along the run is
        ("held_out", pa.bool_()),  # measured, not learned from
        ("task", pa.int32()),  # the number of the reading task
        ("row", pa.int32()),  # the place among the task's windows, from 0
        ("ends_task", pa.bool_()),  # the last of the task's windows
    ]
)
SCORES_TYPE = pa.struct(
    [
        ("ids", pa.list_(pa.int32())),
        ("next_log_probs", pa.list_(pa.float32())),
        ("top_ids", pa.list_(pa.int32())),
        ("top_log_probs", pa.list_(pa.float16())),
    ]
)
SCORED_SCHEMA = WINDOW_SCHEMA.append(pa.field("model", pa.int16())).append(pa.field("scores", SCORES_TYPE))
"""Rows of windows, and rows of what a model says about one: then task, row, model and scores are all there is."""
KEPT_OF_WINDOW = ["window_id", "domain", "task", "row", "ends_task", "share"]
"""The columns of a window that are left when its text is no longer needed."""
FUSED_TYPE = pa.struct(
    [
        ("ids", pa.list_(pa.int32())),  # the target's own sequence
        ("top_ids", pa.list_(pa.int32())),  # null where the target learns from intervals
        ("low", pa.list_(pa.int32())),  # null where it learns from tokens, as `high`
        ("high", pa.list_(pa.int32())),
        ("probs", pa.list_(pa.float16())),
        ("confidence", pa.list_(pa.float16())),
        ("own", pa.list_(pa.bool_())),  # where it is the target's own belief
    ]
)


def windows_of(block: pa.Table) -> pa.Table:
    """The windows of a block, scored or not, in the columns of `WINDOW_SCHEMA`."""
    if "model" not in block.column_names:
        return block
    return block.filter(block.column("model").is_null()).select(WINDOW_SCHEMA.names)


def sound(windows: pa.Table) -> pa.Table:
    """Without those that were set aside."""
    return windows.filter(windows.column("text").is_valid())


def with_scores(block: pa.Table, model: int, scores: Sequence[Scores | None]) -> pa.Table:
    """Adds what a model says about the sound windows of a block, in their order, and sets aside those that it has None
    for: nothing that was said about them is left.

    Args:
        model: 0 for the target, then the sources in their order.
    """
    windows = windows_of(block)
    kept = windows.column("text").is_valid().to_numpy()
    kept[kept] = [found is not None for found in scores]
    old = SCORED_SCHEMA.empty_table()
    if "model" in block.column_names:
        old = block.filter(block.column("model").is_valid())
    if None in scores:
        text = pc.if_else(pa.array(kept), windows.column("text"), None)
        windows = windows.set_column(WINDOW_SCHEMA.get_field_index("text"), WINDOW_SCHEMA.field("text"), text)
        old = old.filter(pc.is_in(_keys(old), value_set=_keys(windows.filter(kept))))
    rows = windows.filter(kept).select(["task", "row"])
    rows = rows.append_column("model", pa.repeat(pa.scalar(model, pa.int16()), len(rows)))
    rows = rows.append_column("scores", scores_column([found for found in scores if found is not None]))
    return pa.concat_tables([_scored(windows), old, _scored(rows)])


def _keys(rows: pa.Table) -> pa.Array:
    """What tells the windows of some rows apart."""
    tasks_N, rows_N = (rows.column(name).to_numpy().astype(np.int64) for name in ("task", "row"))
    return pa.array(tasks_N << 32 | rows_N)


def _scored(rows: pa.Table) -> pa.Table:
    """Rows in the columns of `SCORED_SCHEMA`, null where they have none."""
    columns = [
        rows.column(field.name) if field.name in rows.column_names else pa.nulls(len(rows), field.type)
        for field in SCORED_SCHEMA
    ]
    return pa.table(columns, schema=SCORED_SCHEMA)


def scores_of(block: pa.Table, model: int) -> list[Scores]:
    """What a model says about the sound windows of a block, in their order."""
    return read_scores(struct_column(block.filter(pc.equal(block.column("model"), model)), "scores"))


def scores_column(scores: Sequence[Scores]) -> pa.StructArray:
    """Packs scores, one window a row."""
    return pa.StructArray.from_arrays(
        [
            _lists([s.ids_L for s in scores], np.int32),
            _lists([s.next_log_probs_M for s in scores], np.float32),
            _lists([s.top_ids_MK for s in scores], np.int32),
            _lists([s.top_log_probs_MK for s in scores], np.float16),
        ],
        fields=list(SCORES_TYPE),
    )


def read_scores(column: pa.StructArray) -> list[Scores]:
    """The inverse of `scores_column`, up to the precision of float16."""
    fields = [_arrays(column.field(i)) for i in range(4)]
    scores = []
    for ids_L, next_log_probs_M, top_ids, top_log_probs in zip(*fields, strict=True):
        shape = _entries_shape(len(next_log_probs_M))
        scores.append(
            Scores(
                ids_L, next_log_probs_M, top_ids.reshape(shape), top_log_probs.astype(np.float32).reshape(shape)
            )
        )  # fmt: skip
    return scores


class Fused(NamedTuple):
    """What the target learns from along a window, and from whom."""

    winner: str
    row: FusedRow


def fused_rows(windows: pa.Table, results: Sequence[Fused | None]) -> pa.Table:
    """The rows of the fused stream. Those without a result were set aside."""
    found = [result for result in results if result is not None]
    column = fused_column([result.row for result in found])
    places = np.cumsum([result is not None for result in results], dtype=np.int64) - 1
    taken = column.take(pa.array(places, mask=np.array([result is None for result in results], np.bool_)))
    winners = pa.array([result and result.winner for result in results], pa.string())
    return windows.select(KEPT_OF_WINDOW).append_column("winner", winners).append_column("fused", taken)


def fused_column(rows: Sequence[FusedRow]) -> pa.StructArray:
    """Packs what the target learns from, one window a row."""
    fused = [row.targets for row in rows]
    return pa.StructArray.from_arrays(
        [
            _lists([row.ids_L for row in rows], np.int32),
            _lists([f.ids_MK if isinstance(f, SparseDistribution) else None for f in fused], np.int32),
            _lists([f.low_MI if isinstance(f, IntervalTargets) else None for f in fused], np.int32),
            _lists([f.high_MI if isinstance(f, IntervalTargets) else None for f in fused], np.int32),
            _lists([f.probs_MK if isinstance(f, SparseDistribution) else f.probs_MI for f in fused], np.float16),
            _lists([f.confidence_M for f in fused], np.float16),
            _lists([row.is_own_M for row in rows], np.bool_),
        ],
        fields=list(FUSED_TYPE),
    )


def read_fused(column: pa.StructArray) -> list[FusedRow]:
    """The inverse of `fused_column`, up to the precision of float16."""
    fields = [_arrays(column.field(i)) for i in range(len(FUSED_TYPE))]
    of_tokens = column.field("top_ids").is_valid().to_pylist()
    rows = []
    for ids_L, top_ids, low, high, probs, confidence, is_own_M, is_of_tokens in zip(*fields, of_tokens, strict=True):
        shape, confidence_M = _entries_shape(len(confidence)), confidence.astype(np.float32)
        probs = probs.astype(np.float32).reshape(shape)
        targets: FusedTargets
        if is_of_tokens:
            targets = SparseDistribution(top_ids.reshape(shape), probs, confidence_M)
        else:
            targets = IntervalTargets(low.reshape(shape), high.reshape(shape), probs, confidence_M)
        rows.append(FusedRow(ids_L, targets, is_own_M))
    return rows


def struct_column(table: pa.Table, name: str) -> pa.StructArray:
    """A column of a batch as one array."""
    return pa.concat_arrays(table.column(name).chunks) if table.num_rows else table.column(name).combine_chunks()


def _lists(arrays: Sequence[npt.NDArray[Any] | None], dtype: type[np.generic]) -> pa.ListArray:
    """One list a row, null in place of None."""
    flat = [np.empty(0, dtype) if array is None else array.ravel() for array in arrays]
    offsets = np.concatenate([[0], np.cumsum([array.size for array in flat])]).astype(np.int32)
    values = np.concatenate(flat) if flat else np.empty(0)
    nulls = pa.array([array is None for array in arrays], pa.bool_())
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(values.astype(dtype)), mask=nulls)


def _entries_shape(num_positions: int) -> tuple[int, int]:
    return (num_positions, -1) if num_positions else (0, 0)


def _arrays(lists: pa.ListArray) -> list[npt.NDArray[Any]]:
    values = lists.values.to_numpy(zero_copy_only=False)
    offsets = lists.offsets.to_numpy()
    return [values[start:end] for start, end in itertools.pairwise(offsets)]
