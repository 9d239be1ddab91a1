"""The Arrow columns of the stream: one row per window, fixed flat lists, no Python object per token.

A row starts as a window (`WINDOW_SCHEMA`); each scoring stage adds one struct column with what its model says;
alignment replaces them by the fused distribution (`FUSED_TYPE`).
"""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pta_ray.distributions import Scores, SparseDistribution

WINDOW_SCHEMA = pa.schema(
    [
        ("window_id", pa.string()),  # dataset/document:start byte
        ("domain", pa.string()),
        ("text", pa.binary()),
        ("ends_document", pa.bool_()),
        ("share", pa.float64()),  # of the training text, by size: how far along the run is
        ("held_out", pa.bool_()),  # measured, not learned from
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
FUSED_TYPE = pa.struct(
    [
        ("ids", pa.list_(pa.int32())),  # the target's own sequence
        ("top_ids", pa.list_(pa.int32())),
        ("probs", pa.list_(pa.float16())),
        ("confidence", pa.list_(pa.float16())),
    ]
)


def scores_name(index: int) -> str:
    """The column of the scores of a job's models: 0 for the target, then the sources in their order."""
    return f"scores_{index}"


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
        shape = (len(next_log_probs_M), -1) if len(next_log_probs_M) else (0, 0)
        scores.append(
            Scores(
                ids_L, next_log_probs_M, top_ids.reshape(shape), top_log_probs.astype(np.float32).reshape(shape)
            )
        )  # fmt: skip
    return scores


def fused_column(ids: Sequence[npt.NDArray[np.int32]], fused: Sequence[SparseDistribution]) -> pa.StructArray:
    """Packs the target's sequences and the distributions it learns from, one window a row."""
    return pa.StructArray.from_arrays(
        [
            _lists(ids, np.int32),
            _lists([f.ids_MK for f in fused], np.int32),
            _lists([f.probs_MK for f in fused], np.float16),
            _lists([f.confidence_M for f in fused], np.float16),
        ],
        fields=list(FUSED_TYPE),
    )


def read_fused(column: pa.StructArray) -> list[tuple[npt.NDArray[np.int32], SparseDistribution]]:
    """The inverse of `fused_column`, up to the precision of float16."""
    fields = [_arrays(column.field(i)) for i in range(4)]
    rows = []
    for ids_L, top_ids, probs, confidence_M in zip(*fields, strict=True):
        shape = (len(confidence_M), -1)
        fused = SparseDistribution(
            top_ids.reshape(shape), probs.astype(np.float32).reshape(shape), confidence_M.astype(np.float32)
        )
        rows.append((ids_L, fused))
    return rows


def struct_column(table: pa.Table, name: str) -> pa.StructArray:
    """A column of a batch as one array."""
    return pa.concat_arrays(table.column(name).chunks) if table.num_rows else table.column(name).combine_chunks()


def _lists(arrays: Sequence[npt.NDArray[Any]], dtype: type[np.generic]) -> pa.ListArray:
    offsets = np.concatenate([[0], np.cumsum([array.size for array in arrays])]).astype(np.int32)
    values = np.concatenate([array.ravel() for array in arrays]) if arrays else np.empty(0)
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(values.astype(dtype)))


def _arrays(lists: pa.ListArray) -> list[npt.NDArray[Any]]:
    values = lists.values.to_numpy(zero_copy_only=False)
    offsets = lists.offsets.to_numpy()
    return [values[start:end] for start, end in itertools.pairwise(offsets)]
