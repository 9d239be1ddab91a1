"""Fused windows from the stream to padded tensors."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch

from pta_ray.columns import read_fused, struct_column
from pta_ray.training.loss import SparseTargets


@dataclass(frozen=True)
class Batch:
    """A micro-batch of B windows, padded to L tokens on the right; N = B x (L - 1) positions predict a token."""

    ids_BL: torch.Tensor
    targets: SparseTargets
    share: float
    """Of the whole run's text."""

    @property
    def num_positions(self) -> int:
        """Positions that are not padding."""
        return int(self.targets.weight_N.sum())


def collate(table: pa.Table) -> Batch:
    """Pads the windows of a batch. Padding lies behind the text, where a causal model does not see it."""
    rows = read_fused(struct_column(table, "fused"))
    num_rows, longest, num_entries = len(rows), max(len(ids) for ids, _ in rows), rows[0][1].ids_MK.shape[1]
    ids_BL = np.zeros((num_rows, longest), np.int64)
    top_ids = np.zeros((num_rows, longest - 1, num_entries), np.int64)
    probs = np.zeros((num_rows, longest - 1, num_entries), np.float32)
    confidence = np.zeros((num_rows, longest - 1), np.float32)
    weight = np.zeros((num_rows, longest - 1), np.float32)
    for row, (ids_L, fused) in enumerate(rows):
        m = len(ids_L) - 1
        ids_BL[row, : m + 1] = ids_L
        top_ids[row, :m] = np.maximum(fused.ids_MK, 0)
        probs[row, :m] = fused.probs_MK
        confidence[row, :m] = fused.confidence_M
        weight[row, :m] = 1
    targets = SparseTargets(
        torch.from_numpy(top_ids).flatten(0, 1), torch.from_numpy(probs).flatten(0, 1),
        torch.from_numpy(confidence).flatten(), torch.from_numpy(weight).flatten(),
    )  # fmt: skip
    return Batch(torch.from_numpy(ids_BL), targets, sum(table.column("share").to_pylist()))


def empty_batch(num_entries: int) -> Batch:
    """A batch that teaches nothing: what a worker without data feeds to the steps that all workers take together."""
    targets = SparseTargets(
        torch.zeros(1, num_entries, dtype=torch.int64), torch.zeros(1, num_entries), torch.zeros(1), torch.zeros(1)
    )
    return Batch(torch.zeros(1, 2, dtype=torch.int64), targets, 0.0)


def batches(tables: Iterable[pa.Table]) -> Iterator[Batch]:
    """Collates every batch of a shard."""
    return (collate(table) for table in tables if table.num_rows)
