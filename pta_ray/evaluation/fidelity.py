"""Fidelity: how much of what a source says survives its alignment, measured without training.

Shapes: M positions of the target that predict a token, T = M + 1 boundaries, C source candidates, K entries of an
aligned distribution, V target tokens, B next-byte outcomes: the 256 bytes, the end of the document, and the tail, whose
bytes are unknown.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, astuple, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pta_ray.alignment.conditioning import EOS_LENGTH, SourceCandidates
from pta_ray.distributions import SparseDistribution
from pta_ray.tokenizers.byte_table import ByteTable, Role

EOS_OUTCOME, TAIL_OUTCOME, NUM_OUTCOMES = 256, 257, 258
"""Where the end of the document and the tail stand among the next-byte outcomes."""

MASS_FLOOR = 1e-6
"""No next-byte outcome, and no tail that holds the actual token, counts as less probable than this."""


@dataclass(frozen=True)
class Fidelity:
    """Sums over positions. They add up over windows: `sum(found, Fidelity())`.

    What is asked of no position at all is not a number: a method that abstains everywhere has coverage 0 and nothing
    else to show.
    """

    num_positions: int = 0
    num_spoken: int = 0
    """Positions with confidence above 0."""
    num_compared: int = 0
    """Spoken positions at which the source itself names candidates."""
    num_agreeing: int = 0
    """Compared positions where the source and the aligned distribution have the same most probable outcome."""
    divergence_bits: float = 0.0
    source_bits: float = 0.0
    """The source's cross-entropy over the bytes of the spoken positions, by the chain rule."""
    aligned_bits: float = 0.0
    """The aligned distributions' cross-entropy of the target's tokens there."""

    def __add__(self, other: "Fidelity") -> "Fidelity":
        return Fidelity(*(mine + its for mine, its in zip(astuple(self), astuple(other), strict=True)))

    @property
    def figures(self) -> dict[str, float]:
        """All of the figures below, by name."""
        names = ("coverage", "information_kept", "next_byte_divergence_bits", "next_byte_agreement")
        return {name: getattr(self, name) for name in names}

    @property
    def coverage(self) -> float:
        """The share of positions where the source speaks."""
        return _ratio(self.num_spoken, self.num_positions)

    @property
    def next_byte_divergence_bits(self) -> float:
        """`next_byte_divergence_bits` of a compared position, on average. 0 is lossless."""
        return _ratio(self.divergence_bits, self.num_compared)

    @property
    def next_byte_agreement(self) -> float:
        """The share of compared positions that agree on the most probable next byte."""
        return _ratio(self.num_agreeing, self.num_compared)

    @property
    def information_kept(self) -> float:
        """The source's own cross-entropy over that of the aligned distributions, same bytes. 1 is lossless.

        Above 1 a method knows more than its source: it has looked at the text. A one-hot on the actual token costs no
        bits and keeps nothing of the source, so read this beside the divergence.
        """
        return _ratio(self.source_bits, self.aligned_bits)


def measure_fidelity(
    source_table: ByteTable, source: SourceCandidates, target_table: ByteTable, aligned: SparseDistribution
) -> Fidelity:
    """Compares a source's candidates at the T boundaries of a target with what alignment made of them at M = T - 1.

    Positions that abstain are left out of every figure but coverage.
    """
    spoken_M = aligned.confidence_M > 0
    compared_M = spoken_M & (source.probs_TC[:-1].sum(1) > 0)
    source_MB = source_next_bytes(source_table, source)[compared_M]
    aligned_MB = aligned_next_bytes(target_table, aligned)[compared_M]
    source_bits, aligned_bits = information_bits(source, target_table, aligned)
    return Fidelity(
        num_positions=len(spoken_M),
        num_spoken=int(spoken_M.sum()),
        num_compared=int(compared_M.sum()),
        num_agreeing=int(same_most_probable(source_MB, aligned_MB).sum()),
        divergence_bits=float(next_byte_divergence_bits(source_MB, aligned_MB).sum()),
        source_bits=source_bits,
        aligned_bits=aligned_bits,
    )


def source_next_bytes(table: ByteTable, source: SourceCandidates) -> npt.NDArray[np.float64]:
    """The distribution [M, B] over the next byte that a source's candidates induce at the predicting boundaries."""
    lengths_MC = source.lengths_TC[:-1]
    first_MC = np.zeros_like(lengths_MC)
    first_MC[lengths_MC > 0] = table.data_N[source.starts_TC[:-1][lengths_MC > 0]]
    outcomes_MC = np.where(lengths_MC > 0, first_MC, np.where(lengths_MC == EOS_LENGTH, EOS_OUTCOME, TAIL_OUTCOME))
    return _sums_by_outcome(outcomes_MC, source.probs_TC[:-1])


def aligned_next_bytes(table: ByteTable, aligned: SparseDistribution) -> npt.NDArray[np.float64]:
    """The distribution [M, B] over the next byte that distributions in the target's vocabulary induce.

    Tokens that stand for no byte count as tail.
    """
    outcomes_V = np.full(table.size, TAIL_OUTCOME)
    spells_V = table.lengths_V > 0
    outcomes_V[spells_V] = table.data_N[table.offsets_V1[:-1][spells_V]]
    outcomes_V[table.roles_V == Role.EOS] = EOS_OUTCOME
    outcomes_MK = np.where(aligned.ids_MK >= 0, outcomes_V[np.maximum(aligned.ids_MK, 0)], TAIL_OUTCOME)
    return _sums_by_outcome(outcomes_MK, aligned.probs_MK)


def next_byte_divergence_bits(
    source_MB: npt.NDArray[np.float64], aligned_MB: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Kullback-Leibler divergence [M] in bits, sum over b of P_b log2(P_b / Q_b), P the source and Q the aligned.

    The tail is an outcome like any other, on both sides, and is never shared out among the bytes: what a method moves
    from named candidates to its tail it has lost. Outcomes below `MASS_FLOOR` are lifted to it, then P and Q are
    scaled to 1. So the divergence of a distribution from itself is exactly 0, it is never negative, and an outcome that
    the source gives probability p and the method nothing costs about p log2(p / floor): naming nothing while the source
    is sure of its byte costs 20 bits, the most there is.
    """
    floored_MB = np.maximum(source_MB, MASS_FLOOR), np.maximum(aligned_MB, MASS_FLOOR)
    p_MB, q_MB = (mass_MB / mass_MB.sum(1, keepdims=True) for mass_MB in floored_MB)
    bits_M: npt.NDArray[np.float64] = (p_MB * np.log2(p_MB / q_MB)).sum(1)
    return np.maximum(bits_M, 0)  # rounding


def same_most_probable(
    source_MB: npt.NDArray[np.float64], aligned_MB: npt.NDArray[np.float64]
) -> npt.NDArray[np.bool_]:
    """Whether [M] the most probable known outcomes are the same. Who knows none agrees with nobody."""
    source_MB, aligned_MB = source_MB[:, :TAIL_OUTCOME], aligned_MB[:, :TAIL_OUTCOME]
    same_M: npt.NDArray[np.bool_] = (source_MB.argmax(1) == aligned_MB.argmax(1)) & (aligned_MB.max(1) > 0)
    return same_M


def information_bits(source: SourceCandidates, table: ByteTable, aligned: SparseDistribution) -> tuple[float, float]:
    """Bits of the text under the source and under the aligned distributions, over the bytes of the spoken positions.

    The source's are -(F(b') - F(b)) / ln 2 for a position between boundaries b and b' (see `conditioning`). A method
    that does not name the actual token (entry 0) is charged an even share of its tail over the tokens that it does not
    name; a tail below `MASS_FLOOR` counts as that much.
    """
    log_prefix_T = source.log_prefix_T
    followed_M = np.isfinite(log_prefix_T[:-1]) & np.isfinite(log_prefix_T[1:]) & (aligned.confidence_M > 0)
    source_bits = (log_prefix_T[:-1][followed_M] - log_prefix_T[1:][followed_M]).sum() / math.log(2)
    probs_MK = aligned.probs_MK[followed_M].astype(np.float64)
    vocabulary = int((table.lengths_V > 0).sum()) + (table.eos_id >= 0)
    unnamed_M = np.maximum(vocabulary - (probs_MK > 0).sum(1), 1)
    share_M = np.maximum(1 - probs_MK.sum(1), MASS_FLOOR) / unnamed_M
    actual_M = np.where(probs_MK[:, 0] > 0, probs_MK[:, 0], share_M)
    return float(source_bits), float(-np.log2(actual_M).sum())


def fidelity_counts(source: str, fidelity: Fidelity) -> dict[str, float]:
    """A source's fidelity as counters that can be added up by telemetry."""
    return {f"fidelity/{source}/{field}": value for field, value in asdict(fidelity).items()}


def fidelity_from_counts(counts: Mapping[str, float]) -> dict[str, Fidelity]:
    """The fidelity of every source that has been counted."""
    sums: dict[str, dict[str, Any]] = {}
    for key, value in counts.items():
        kind, _, place = key.partition("/")
        if kind == "fidelity":
            source, field = place.rsplit("/", 1)
            sums.setdefault(source, {})[field] = value
    return {source: Fidelity(**fields) for source, fields in sums.items()}


def _sums_by_outcome(
    outcomes_MC: npt.NDArray[np.signedinteger], probs_MC: npt.NDArray[np.float32]
) -> npt.NDArray[np.float64]:
    """Adds up the mass of each row by outcome; what is missing to 1 is tail."""
    num_M = len(outcomes_MC)
    mass_MB = np.zeros((num_M, NUM_OUTCOMES))
    np.add.at(mass_MB, (np.arange(num_M)[:, None], outcomes_MC), probs_MC)
    mass_MB[:, TAIL_OUTCOME] += np.maximum(0, 1 - mass_MB.sum(1))
    return mass_MB


def _ratio(sum_: float, count: float) -> float:
    return sum_ / count if count else math.nan
