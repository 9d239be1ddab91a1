"""A claim to a window. Two of them are folded into one: a row carries one distribution, however many models there are.

All candidates predict the same tokens of the target, hence the same bytes: comparing them per position is comparing
them per byte.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import numpy.typing as npt

from pta_ray.alignment.align import Aligned
from pta_ray.alignment.intervals import interval_targets, token_intervals
from pta_ray.alignment.vocabularies import Vocabularies
from pta_ray.distributions import FusedRow, IntervalTargets, Scores, SparseDistribution, own_distribution
from pta_ray.tokenizers.byte_table import ByteTable


@dataclass(frozen=True)
class Candidate:
    """What a model says along a window, or what several say together.

    Shapes: M positions.
    """

    name: str
    """Whose it is; of several models, the one with the largest part in it."""
    distribution: SparseDistribution
    """What it is judged by."""
    is_own_M: npt.NDArray[np.bool_]
    """Where it is what the target says, and no source with it."""
    intervals: Callable[[], IntervalTargets]
    """States what it says as intervals; called for the winner only."""
    weights: Mapping[str, float] = field(default_factory=dict)
    """Of each model in an average; empty for one model alone."""
    owners_M: npt.NDArray[np.str_] | None = None
    """Whose each position is; None for one model alone."""

    def row(self, ids_L: npt.NDArray[np.int32], as_intervals: bool) -> FusedRow:
        """What the target learns if this wins, with its own sequence."""
        return FusedRow(ids_L, self.intervals() if as_intervals else self.distribution, self.is_own_M)


_TAIL_TOKENS = 1 << 15
"""Among so many tokens a tail is shared out: about as many as a vocabulary has."""

Fold = Callable[[Candidate, Candidate], Candidate]
"""Of the best so far and a challenger, what is learned from."""


def claim_of_target(name: str, scores: Scores, table: ByteTable) -> Candidate:
    """The target's own claim to a window."""
    own = own_distribution(scores)
    return Candidate(name, own, np.ones(len(own.ids_MK), np.bool_), partial(token_intervals, table, own))


def claim_of_source(
    name: str, aligned: Aligned, vocabularies: Vocabularies, next_ids_M: npt.NDArray[np.int32]
) -> Candidate:
    """A source's claim to a window, whose actual next tokens of the target are `next_ids_M`."""
    distribution = aligned.distribution
    intervals = partial(
        interval_targets, vocabularies, aligned.source, aligned.pinned, distribution.confidence_M, next_ids_M
    )
    return Candidate(name, distribution, np.zeros(len(next_ids_M), np.bool_), intervals)


def nats(distribution: SparseDistribution) -> npt.NDArray[np.float64]:
    """The cross-entropy of the actual next tokens at each position [M]; means nothing where confidence is 0.

    A token that is not named has its share of the tail: a method of alignment that loses the actual token now and then
    is to be judged by what it says along the window, not by how small a float may be.
    """
    probs_MK = distribution.probs_MK
    tail_M = np.maximum(1 - probs_MK.sum(1), 0)
    probs_M = np.maximum(probs_MK[:, 0], np.maximum(tail_M / _TAIL_TOKENS, np.finfo(np.float32).tiny))
    nats_M: npt.NDArray[np.float64] = -np.log(probs_M, dtype=np.float64)
    return nats_M
