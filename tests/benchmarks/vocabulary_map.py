"""Time to map a vocabulary of 32,000 tokens to one of 131,000 and back, on one core, kernels compiled."""

import time

from pta_ray.alignment.vocabulary_map import vocabulary_map
from tests.real_vocabularies import sentencepiece_table, tekken_table
from tests.unit.alignment import toy


def measure() -> dict[str, float]:
    """Seconds without the disk cache; the byte order of both tables is known before."""
    small, large = sentencepiece_table(), tekken_table()
    tiny = toy.table([b"a", b"ba", b""])
    vocabulary_map(tiny, tiny)
    figures = {}
    for key, source, target in (
        ("vocabulary_map_seconds", small, large),
        ("vocabulary_map_back_seconds", large, small),
    ):
        _ = target.sorted_ids_O
        begin = time.perf_counter()
        vocabulary_map(source, target)
        figures[key] = time.perf_counter() - begin
    return figures
