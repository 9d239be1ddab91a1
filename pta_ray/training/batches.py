"""Fused windows: which are sound, who learns from which, and padded tensors of them.

Shapes: B windows of a micro-batch, padded to L tokens; N = B x (L - 1) positions predict a token; K entries or I
intervals.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from pta_ray.distributions import FusedRow, FusedTargets, IntervalTargets, SparseDistribution
from pta_ray.training.loss import SetTargets, TokenTargets

_ROUNDING = 1e-3
"""By which a probability may exceed 1: about the spacing of float16 there."""


@dataclass(frozen=True)
class Batch:
    """A micro-batch of windows, padded on the right. The tensors of `targets` are those that the loss takes."""

    ids_BL: torch.Tensor
    targets: TokenTargets | SetTargets

    @property
    def num_positions(self) -> int:
        """Positions that are not padding."""
        return int(self.targets.weight_N.sum())

    @property
    def num_padded(self) -> int:
        """Positions that are."""
        return len(self.targets.weight_N) - self.num_positions

    def without(self, windows: Sequence[int]) -> "Batch":
        """The batch of the other windows, which must not be none."""
        kept = [index for index in range(len(self.ids_BL)) if index not in windows]
        targets = (tensor.view(*self._shape, *tensor.shape[1:])[kept].flatten(0, 1) for tensor in self.targets)
        return Batch(self.ids_BL[kept], type(self.targets)(*targets))

    def by_window(self, losses_N: torch.Tensor) -> torch.Tensor:
        """Sums [B] of what the loss returns by position, where padding is 0."""
        return losses_N.view(self._shape).sum(1)

    @property
    def _shape(self) -> tuple[int, int]:
        """Windows, and positions of each: none behind a lone start token."""
        num_B, num_L = self.ids_BL.shape
        return num_B, num_L - 1


def find_bad(rows: Sequence[FusedRow]) -> list[int]:
    """Which windows have a probability or confidence that is not a number from 0 to 1, or an interval that is none."""
    return [index for index, row in enumerate(rows) if not _is_sound(row.targets)]


def _is_sound(targets: FusedTargets) -> bool:
    if isinstance(targets, IntervalTargets):
        if not ((targets.low_MI >= 0) & (targets.low_MI <= targets.high_MI)).all():
            return False
        shares = (targets.probs_MI, targets.confidence_M)
    else:
        shares = (targets.probs_MK, targets.confidence_M)
    return all(bool(((share >= 0) & (share <= 1 + _ROUNDING)).all()) for share in shares)


def deal(lengths: Sequence[int], num_workers: int, micro_batch_windows: int) -> list[list[list[int]]]:
    """Shares the windows of a step out, for as many passes as the micro-batch makes necessary.

    Micro-batches are cut from the windows in the order of their lengths, so that little of them is padding, and are
    as many as there are passes of all workers, so that none is idle. The workers take turns in being the first to be
    dealt one: none gets the longer of two neighbours each time.

    Returns:
        Indices of windows by worker and pass, each window once. All workers have the same number of passes; the last
        ones have empty passes where there are fewer windows than workers.
    """
    num_passes = -(-len(lengths) // (num_workers * micro_batch_windows))
    longest_first = sorted(range(len(lengths)), key=lambda index: -lengths[index])
    parts = np.array_split(np.array(longest_first, np.int64), max(num_workers * num_passes, 1))
    micro_batches = [part.tolist() for part in parts]
    dealt: list[list[list[int]]] = [[] for _ in range(num_workers)]
    for number in range(num_passes):
        turn = dealt if number % 2 == 0 else dealt[::-1]
        for own, micro_batch in zip(turn, micro_batches[number * num_workers :], strict=False):
            own.append(micro_batch)
    return dealt


def collate(rows: Sequence[FusedRow]) -> Batch:
    """Pads the windows of a micro-batch. Padding lies behind the text, where a causal model does not see it."""
    num_B, longest = len(rows), max(len(row.ids_L) for row in rows)
    ids_BL = np.zeros((num_B, longest), np.int64)
    weight_BM = np.zeros((num_B, longest - 1), np.float32)
    for b, row in enumerate(rows):
        ids_BL[b, : len(row.ids_L)] = row.ids_L
        weight_BM[b, : len(row.ids_L) - 1] = 1
    all_targets = [row.targets for row in rows]
    confidence_N = _padded([targets.confidence_M[:, None] for targets in all_targets], longest - 1, np.float32, 0)[:, 0]
    weight_N = torch.from_numpy(weight_BM).flatten()
    return Batch(torch.from_numpy(ids_BL), _targets(all_targets, longest - 1, confidence_N, weight_N))


def _targets(
    rows: Sequence[FusedTargets], num_M: int, confidence_N: torch.Tensor, weight_N: torch.Tensor
) -> TokenTargets | SetTargets:
    sets = [targets for targets in rows if isinstance(targets, IntervalTargets)]
    if sets:
        low_NI = _padded([targets.low_MI for targets in sets], num_M, np.int64, 0)
        high_NI = _padded([targets.high_MI for targets in sets], num_M, np.int64, 0)
        probs_NI = _padded([targets.probs_MI for targets in sets], num_M, np.float32, 0)
        return SetTargets(low_NI, high_NI, probs_NI, confidence_N, weight_N)
    distributions = [targets for targets in rows if isinstance(targets, SparseDistribution)]
    ids_NK = _padded([targets.ids_MK for targets in distributions], num_M, np.int64, -1)
    probs_NK = _padded([targets.probs_MK for targets in distributions], num_M, np.float32, 0)
    return TokenTargets(ids_NK, probs_NK, confidence_N, weight_N)


def _padded(arrays: Sequence[npt.NDArray[np.generic]], num_M: int, dtype: type[np.generic], empty: int) -> torch.Tensor:
    """Arrays of several positions and entries, made equal and put one behind the other: [N, K]."""
    padded_BMK = np.full((len(arrays), num_M, max(array.shape[1] for array in arrays)), empty, dtype)
    for padded_MK, array in zip(padded_BMK, arrays, strict=True):
        padded_MK[: array.shape[0], : array.shape[1]] = array
    return torch.from_numpy(padded_BMK).flatten(0, 1)


def empty_batch(intervals: bool) -> Batch:
    """A batch that teaches nothing: what a worker without data feeds to the steps that all workers take together."""
    none_NK, probs_NK, zero_N = torch.zeros(1, 1, dtype=torch.int64), torch.zeros(1, 1), torch.zeros(1)
    targets: TokenTargets | SetTargets = TokenTargets(none_NK, probs_NK, zero_N, zero_N)
    if intervals:
        targets = SetTargets(none_NK, none_NK, probs_NK, zero_N, zero_N)
    return Batch(torch.zeros(1, 2, dtype=torch.int64), targets)
