"""What is measured of a model on the held-out text: bits per byte, and how far it is from each source.

The distance at a boundary is the divergence of next-byte distributions, as for the fidelity of an alignment: of the one
that the source's candidates give, conditioned on what has been read, from the model's own. It needs no common
vocabulary.
"""

from collections import Counter
from collections.abc import Sequence
from functools import lru_cache

from jobs.experiments.models import SOURCES, TARGET
from jobs.experiments.windows import TextSet
from pta_ray.alignment.align import align
from pta_ray.alignment.conditioning import SourceCandidates
from pta_ray.alignment.vocabularies import prepare_vocabularies
from pta_ray.config import Alignment
from pta_ray.distributions import Scores, own_distribution
from pta_ray.evaluation.bits_per_byte import bits_and_bytes
from pta_ray.evaluation.fidelity import Fidelity, measure_fidelity
from pta_ray.tokenizers.byte_tokenizer import ByteTokenizer

TOP_K = 10


def bits_per_byte(text: TextSet, scores: Sequence[Scores], tokenizer: ByteTokenizer) -> dict[str, float]:
    """By domain, as `pta-ray fuse` counts them."""
    bits, sizes = Counter[str](), Counter[str]()
    for window, found in zip(text.windows, scores, strict=True):
        in_window, num_bytes = bits_and_bytes(found, tokenizer, window.text)
        bits[window.domain] += in_window
        sizes[window.domain] += num_bytes
    return {domain: bits[domain] / sizes[domain] for domain in bits}


def distances(text: TextSet, scores: Sequence[Scores]) -> dict[str, dict[str, float]]:
    """Bits of divergence from each source by domain, a mean over boundaries.

    Args:
        scores: of a model with the target's tokenizer, `TOP_K` candidates a position.
    """
    table = text.tokenizer(TARGET).table
    found: dict[str, dict[str, float]] = {}
    for source in SOURCES:
        of_source, sums = text.tokenizer(source).table, dict[str, Fidelity]()
        for window, candidates, own in zip(text.windows, _candidates(text, source), scores, strict=True):
            measured = measure_fidelity(of_source, candidates, table, own_distribution(own))
            sums[window.domain] = sums.get(window.domain, Fidelity()) + measured
        for domain, fidelity in sums.items():
            found.setdefault(domain, {})[source] = fidelity.next_byte_divergence_bits
    return found


@lru_cache
def _candidates(text: TextSet, source: str) -> list[SourceCandidates]:
    """What a source says at the target's boundaries, in its own tokens."""
    target, speaker = text.tokenizer(TARGET), text.tokenizer(source)
    vocabularies = prepare_vocabularies(speaker.table, target.table)
    found = []
    for window, own, other in zip(text.windows, text.scores(TARGET, TOP_K), text.scores(source, TOP_K), strict=True):
        ends_S, ends_T = speaker.boundaries(other.ids_L, window.text), target.boundaries(own.ids_L, window.text)
        aligned = align(Alignment(method="exact"), vocabularies, window.text, other, ends_S, own, ends_T)
        found.append(aligned.source)
    return found
