"""Set-valued targets of what `align` has worked on: whole and in blocks, and paired by edit distance."""

import numpy as np
import pytest
from hypothesis import given

from pta_ray.alignment.align import Aligned, align
from pta_ray.alignment.intervals import interval_targets
from pta_ray.alignment.vocabularies import Vocabularies, prepare_vocabularies
from pta_ray.config import Alignment
from pta_ray.distributions import IntervalTargets
from pta_ray.tokenizers.byte_tokenizer import ByteTokenizer
from tests.fixtures.load import load_fixture
from tests.unit.alignment import test_align_inexact as inexact
from tests.unit.alignment import toy
from tests.unit.alignment.test_intervals import beliefs, run
from tests.unit.alignment.toy import World


def of_aligned(vocabularies: Vocabularies, aligned: Aligned, next_ids_M: np.ndarray) -> IntervalTargets:
    confidence_M = aligned.distribution.confidence_M
    return interval_targets(vocabularies, aligned.source, aligned.pinned, confidence_M, next_ids_M)


@given(toy.worlds())
def test_alignment_leaves_what_intervals_are_made_of(world: World) -> None:
    """Whatever moves the masses works on those of the intervals too."""
    arguments = world.text, world.source.scores(), world.source.ends, world.target.scores(), world.target.ends
    aligned = align(Alignment(), world.vocabularies, *arguments)
    _, _, expected = run(world)
    found = of_aligned(world.vocabularies, aligned, world.target.ids_M)
    for array, expected_array in zip(vars(found).values(), vars(expected).values(), strict=True):
        if array is not found.confidence_M:
            np.testing.assert_array_equal(array, expected_array)
    np.testing.assert_array_equal(found.confidence_M, aligned.distribution.confidence_M)
    has_bytes_M = world.target.table.lengths_V[world.target.ids_M] > 0
    np.testing.assert_array_equal(found.probs_MI[:, 0], aligned.distribution.probs_MK[:, 0] * has_bytes_M)


def test_blocks_of_boundaries_change_no_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    fixture = load_fixture()
    source, target, i = fixture.models["smollm2"], fixture.models["target"], 7
    vocabularies = toy.vocabularies(source.table, target.table)
    arguments = fixture.windows[i].text, source.scores[i], source.ends[i], target.scores[i], target.ends[i]

    def intervals() -> IntervalTargets:
        return of_aligned(vocabularies, align(Alignment(), vocabularies, *arguments), target.scores[i].next_ids_M)

    whole = intervals()
    monkeypatch.setattr("pta_ray.alignment.align._BLOCK", 64)
    for array, expected in zip(vars(intervals()).values(), vars(whole).values(), strict=True):
        np.testing.assert_array_equal(array, expected)


@pytest.mark.parametrize("kind", ["lowercase", "word_piece"])
def test_a_source_that_changes_text_has_intervals_where_it_speaks(
    all_tokenizers: dict[str, ByteTokenizer], kind: str
) -> None:
    source_tokenizer, target_tokenizer = all_tokenizers[kind], all_tokenizers["byte_level"]
    source, target = (inexact.scores_along(t, inexact.TEXT, 1) for t in (source_tokenizer, target_tokenizer))
    vocabularies = prepare_vocabularies(source_tokenizer.table, target_tokenizer.table)
    text, table = inexact.TEXT.encode(), target_tokenizer.table
    ends_T = target_tokenizer.boundaries(target.ids_L, text)
    aligned = align(Alignment(), vocabularies, text, source, None, target, ends_T)
    found = of_aligned(vocabularies, aligned, target.next_ids_M)
    speaks_M = found.confidence_M > 0
    assert 0 < speaks_M.sum() < len(speaks_M)
    assert not found.high_MI[~speaks_M].any() and not found.probs_MI[~speaks_M].any()
    tokens = [table.token(i) for i in table.sorted_ids_O]
    for m in np.flatnonzero(speaks_M & (table.lengths_V[target.next_ids_M] > 0)):
        left = toy.candidates(source_tokenizer.table, aligned.source, m, aligned.pinned.rest_MC[m])
        actual = table.token(target.next_ids_M[m])
        expected = beliefs(left, tokens, actual, float(aligned.distribution.probs_MK[m, 0]))
        places = zip(found.low_MI[m], found.high_MI[m], found.probs_MI[m].tolist(), strict=True)
        assert {frozenset(tokens[low:high]): prob for low, high, prob in places if low < high} == pytest.approx(
            expected, rel=1e-4
        )
