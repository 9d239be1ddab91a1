"""Probabilistic token alignment of one window, step by step."""

from dataclasses import dataclass

from pta_ray.alignment.candidates import target_candidates
from pta_ray.alignment.conditioning import condition
from pta_ray.alignment.cost import transport_cost
from pta_ray.alignment.pairing import pair_boundaries
from pta_ray.alignment.projection import project
from pta_ray.alignment.transport import transport
from pta_ray.config import Alignment
from pta_ray.distributions import Scores, SparseDistribution
from pta_ray.tokenizers.byte_tokenizer import ByteTokenizer


@dataclass(frozen=True)
class Aligned:
    """A source's distributions in the target's vocabulary."""

    distribution: SparseDistribution
    num_unconverged: int
    """Transport plans that missed their marginals."""


def align(
    settings: Alignment,
    text: bytes,
    source_tokenizer: ByteTokenizer,
    source: Scores,
    target_tokenizer: ByteTokenizer,
    target: Scores,
) -> Aligned | None:
    """Expresses what the source says along a window in the target's vocabulary, at the target's boundaries.

    Returns None if either tokenizer's tokens do not spell the window's bytes.
    """
    ends_S = source_tokenizer.boundaries(source.ids_L, text)
    ends_T = target_tokenizer.boundaries(target.ids_L, text)
    if ends_S is None or ends_T is None:
        return None
    source_table, target_table = source_tokenizer.table, target_tokenizer.table
    last_T = pair_boundaries(ends_S, ends_T)
    spoken = condition(
        source_table, text, ends_S, ends_T, last_T,
        source.next_ids_M, source.next_log_probs_M, source.top_ids_MK, source.top_log_probs_MK,
    )  # fmt: skip
    candidates = target_candidates(
        source_table, spoken, target_table,
        target.next_ids_M, target.next_log_probs_M, target.top_ids_MK, target.top_log_probs_MK,
    )  # fmt: skip
    cost_MCY = transport_cost(settings.cost, source_table, spoken, target_table, candidates)
    masses_MY, num_unconverged = transport(
        cost_MCY, spoken.probs_TC[:-1], candidates.probs_MY, settings.epsilon, settings.rho
    )
    return Aligned(project(spoken, candidates, masses_MY, settings.top_k), num_unconverged)
