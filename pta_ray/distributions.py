"""The next-token distributions in the stream: what a model says, and what the target learns from, which names tokens or
intervals of its vocabulary.

Shapes: L tokens of a sequence, M = L - 1 positions that predict a token, K entries or I intervals per position.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Scores:
    """What one causal language model says along one sequence of its own tokens."""

    ids_L: npt.NDArray[np.int32]
    """Start token, the text's tokens, EOS where the document ends."""
    next_log_probs_M: npt.NDArray[np.float32]
    """Natural logarithm of the probability of `ids_L[1:]`, each given what precedes it."""
    top_ids_MK: npt.NDArray[np.int32]
    """The most probable next tokens; -1 for entries of a padded head that are no tokens."""
    top_log_probs_MK: npt.NDArray[np.float32]

    @property
    def next_ids_M(self) -> npt.NDArray[np.int32]:
        """The tokens that actually follow."""
        return self.ids_L[1:]

    def part(self, m: slice) -> "Scores":
        """What it says at some of the positions, with the tokens before and behind them."""
        return Scores(
            self.ids_L[m.start : m.stop + 1], self.next_log_probs_M[m], self.top_ids_MK[m], self.top_log_probs_MK[m]
        )


@dataclass(frozen=True)
class SparseDistribution:
    """Distributions in the target's vocabulary. What the entries leave of 1 is tail mass of unnamed tokens."""

    ids_MK: npt.NDArray[np.int32]
    """Entry 0 is the token that actually follows; -1 marks an empty entry, whose probability is 0."""
    probs_MK: npt.NDArray[np.float32]
    confidence_M: npt.NDArray[np.float32]
    """How much of its own belief the model could bring along, 0 to 1. At 0 it abstains and its entries mean nothing."""


@dataclass(frozen=True)
class IntervalTargets:
    """Distinct, possibly nested intervals of the target's vocabulary in byte order. Empty ones have low = high and
    probability 0. How many there is room for may differ from window to window.

    Entry 0 is the actual next token alone. The end of the document has no bytes and no place among the sorted tokens:
    its mass stays tail, and entry 0 is empty where it comes next.
    """

    low_MI: npt.NDArray[np.int32]
    """The first place in `ByteTable.sorted_ids_O`."""
    high_MI: npt.NDArray[np.int32]
    """The place behind the last."""
    probs_MI: npt.NDArray[np.float32]
    """The probability that the next token is one of the interval; nested intervals hold the same mass again."""
    confidence_M: npt.NDArray[np.float32]
    """As in `SparseDistribution`."""


FusedTargets = SparseDistribution | IntervalTargets
"""What the target learns from along one window."""


class FusedRow(NamedTuple):
    """A window as the target learns from it."""

    ids_L: npt.NDArray[np.int32]
    """The target's own sequence."""
    targets: FusedTargets
    """At all of its tokens but the last."""
    is_own_M: npt.NDArray[np.bool_]
    """Where they are what the target itself believed before, not what a source says."""


def own_distribution(scores: Scores) -> SparseDistribution:
    """A model's scores in its own vocabulary: nothing to align, only the actual next token put first."""
    next_ids_M = scores.next_ids_M
    kept_MK = (scores.top_ids_MK >= 0) & (scores.top_ids_MK != next_ids_M[:, None])
    ids_MK = np.concatenate([next_ids_M[:, None], np.where(kept_MK, scores.top_ids_MK, -1)], axis=1)
    others_MK = np.where(kept_MK, np.exp(scores.top_log_probs_MK), np.float32(0))
    probs_MK = np.concatenate([np.exp(scores.next_log_probs_M)[:, None], others_MK], axis=1)
    return SparseDistribution(ids_MK, probs_MK, np.ones(len(ids_MK), np.float32))
