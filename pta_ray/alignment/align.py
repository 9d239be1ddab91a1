"""Probabilistic token alignment of one window, step by step."""

from dataclasses import dataclass, fields
from typing import NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from pta_ray.alignment.candidates import Joined, TargetCandidates, target_candidates
from pta_ray.alignment.conditioning import SourceCandidates, condition
from pta_ray.alignment.cost import COSTS
from pta_ray.alignment.pairing import pair_boundaries, pair_by_edit_distance
from pta_ray.alignment.pinning import Pinned, pin
from pta_ray.alignment.projection import hard_masses, keep_top
from pta_ray.alignment.transport import transport
from pta_ray.alignment.vocabularies import Vocabularies
from pta_ray.config import Alignment
from pta_ray.distributions import Scores, SparseDistribution

Rows = TypeVar("Rows", SourceCandidates, Pinned)

_BLOCK = 2048
"""Boundaries whose costs exist at the same time: they stay in the processor's cache however long the sequence."""
_BAND = 64
"""Tokens by which the pairing of two tokenizations that spell different bytes may stray."""


class Method(NamedTuple):
    """What sets the ways to align apart: all solve one transport problem per boundary."""

    cost: str
    joined: Joined
    rho: float
    hard: bool
    """Whether each source candidate's mass goes to one target candidate, the one that receives most of it."""
    pinned: bool
    """Whether the actual next token gets its exact chain-rule probability."""


def method_of(settings: Alignment) -> Method:
    """`pta` as the settings have it. `pta-paper`: balanced transport to the target's own candidates at edit cost, and
    then each row to its largest entry (Zeng et al. 2025). `mined`: each source token to the nearest one of the
    vocabulary (minimum edit distance, FuseLLM, Wan et al. 2024). `exact`: to the same token, if there is one."""
    match settings.method:
        case "pta-paper":
            return Method("edit", "none", np.inf, hard=True, pinned=False)
        case "mined":
            return Method("edit", "nearest", 0.0, hard=True, pinned=False)
        case "exact":
            return Method("exact", "piece", 0.0, hard=True, pinned=False)
        case _:
            joined: Joined = "nearest" if settings.cost == "edit" else "piece"
            return Method(settings.cost, joined, settings.rho, hard=False, pinned=True)


class Pairing(NamedTuple):
    """The boundaries of both sequences, and which of the source's answers for each of the target's."""

    ends_S: npt.NDArray[np.int64]
    """Byte offsets; or numbers that only pairs have in common, where the tokens spell other bytes than the text's."""
    ends_T: npt.NDArray[np.int64]
    last_T: npt.NDArray[np.int64]
    """As of `pair_boundaries`."""

    @property
    def is_shared_T(self) -> npt.NDArray[np.bool_]:
        """Where both models have read the same: a group of tokens ends there."""
        shared_T: npt.NDArray[np.bool_] = (self.last_T >= 0) & (self.ends_S[self.last_T] == self.ends_T)
        return shared_T


class Moved(NamedTuple):
    """How mass got to the target's candidates."""

    ids_MK: npt.NDArray[np.int32]
    probs_MK: npt.NDArray[np.float32]
    converged_M: npt.NDArray[np.bool_]
    p_MC: npt.NDArray[np.float32]
    """What each source candidate had to give."""
    candidates: TargetCandidates
    cost_MCY: npt.NDArray[np.float32]
    """Not computed, and 1, where there was nothing to give."""
    plan_MCY: npt.NDArray[np.float32]
    """Empty unless it was asked for."""


@dataclass(frozen=True)
class Aligned:
    """A source's distributions in the target's vocabulary."""

    distribution: SparseDistribution
    pairing: Pairing
    source: SourceCandidates
    """What was aligned."""
    pinned: Pinned
    """The same, the actual tokens apart."""
    num_unconverged: int
    """Transport plans that missed their marginals."""


def align(
    settings: Alignment,
    vocabularies: Vocabularies,
    text: bytes,
    source: Scores,
    ends_S: npt.NDArray[np.int64] | None,
    target: Scores,
    ends_T: npt.NDArray[np.int64] | None,
) -> Aligned:
    """Expresses what the source says along a window in the target's vocabulary, at the target's boundaries.

    `ends_S` and `ends_T` are the boundaries of both sequences from `ByteTokenizer.boundaries`. If either is None, its
    tokens spell other bytes than the text's: the sequences are paired by edit distance, and the source speaks at the
    boundaries where groups meet.
    """
    pairing = _pair(vocabularies, source, ends_S, target, ends_T)
    spoken = condition(
        vocabularies.source, text, *pairing,
        source.next_ids_M, source.next_log_probs_M, source.top_ids_MK, source.top_log_probs_MK,
    )  # fmt: skip
    pinned = pin(vocabularies.source, spoken, text, pairing.ends_T, pairing.last_T)
    num_M = len(pinned.spoken_M)
    blocks = [slice(first, min(first + _BLOCK, num_M)) for first in range(0, num_M, _BLOCK)] or [slice(0, 0)]
    # Of each block the results alone: its costs shall be gone when the next block's come.
    moved = [
        _move(settings, vocabularies, _rows(spoken, m), _rows(pinned, m), target.part(m), with_plans=False)[:3]
        for m in blocks
    ]
    ids_MK, probs_MK, converged_M = (np.concatenate(parts) for parts in zip(*moved, strict=True))
    # float16 on the way here may have rounded the retained mass up.
    confidence_M = np.where(pinned.spoken_M, np.minimum(spoken.retained_T[:-1], 1), 0).astype(np.float32)
    distribution = SparseDistribution(ids_MK, probs_MK, confidence_M)
    return Aligned(distribution, pairing, spoken, pinned, int((~converged_M).sum()))


def explain(settings: Alignment, vocabularies: Vocabularies, aligned: Aligned, target: Scores) -> Moved:
    """How the mass of a window that was aligned with these settings moved, with every cost and every plan: as much
    memory as M x C x Y numbers take, twice."""
    spoken = _rows(aligned.source, slice(0, len(aligned.pinned.spoken_M)))
    return _move(settings, vocabularies, spoken, aligned.pinned, target, with_plans=True)


def _pair(
    vocabularies: Vocabularies,
    source: Scores,
    ends_S: npt.NDArray[np.int64] | None,
    target: Scores,
    ends_T: npt.NDArray[np.int64] | None,
) -> Pairing:
    if ends_S is None or ends_T is None:
        last_T = pair_by_edit_distance(vocabularies.source, source.ids_L, vocabularies.target, target.ids_L, _BAND)
        return Pairing(*_places(last_T, len(source.ids_L)), last_T)
    return Pairing(ends_S, ends_T, pair_boundaries(ends_S, ends_T))


def _move(
    settings: Alignment,
    vocabularies: Vocabularies,
    spoken: SourceCandidates,
    pinned: Pinned,
    target: Scores,
    with_plans: bool,
) -> Moved:
    """Moves mass to the target's candidates."""
    method = method_of(settings)
    p_MC = pinned.rest_MC if method.pinned else spoken.probs_TC
    candidates = target_candidates(vocabularies, spoken, p_MC, target, method.joined)
    q_MY = candidates.probs_MY
    if method.pinned:
        q_MY[:, 0] = 0  # the actual token has its share
    cost_MCY = COSTS[method.cost](vocabularies, spoken, p_MC, candidates)
    moved = transport(cost_MCY, p_MC, q_MY, settings.epsilon, method.rho, with_plans=with_plans)
    masses_MY = moved.masses_MY
    if method.hard:
        kept_MC = np.where(cost_MCY.min(2) == 0, p_MC, np.float32(0)) if method.cost == "exact" else p_MC
        masses_MY = hard_masses(moved.largest_MC, kept_MC, q_MY.shape[1])
    if method.pinned:
        masses_MY[:, 0] = pinned.actual_M
    ids_MK, probs_MK = keep_top(candidates.ids_MY, masses_MY, settings.top_k)
    return Moved(ids_MK, probs_MK, moved.converged_M, p_MC, candidates, cost_MCY, moved.plan_MCY)


def _rows(record: Rows, m: slice) -> Rows:
    """Some boundaries of arrays that all have one row for each."""
    return type(record)(*(getattr(record, field.name)[m] for field in fields(record)))


def _places(last_T: npt.NDArray[np.int64], num_S: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Numbers in place of byte offsets: the boundaries of a pair have the same one, and no other does."""
    ends_T = np.arange(len(last_T))
    ends_S = np.full(num_S, -1, np.int64)
    ends_S[last_T[last_T >= 0]] = ends_T[last_T >= 0]
    return ends_S, ends_T
