"""Alignment of tokenizers that change text: paired by edit distance, silent where groups do not meet."""

import numpy as np
import pytest

from pta_ray.alignment.align import align
from pta_ray.alignment.pairing import pair_by_edit_distance
from pta_ray.alignment.vocabularies import prepare_vocabularies
from pta_ray.config import Alignment
from pta_ray.distributions import Scores
from pta_ray.tokenizers.byte_table import Role
from pta_ray.tokenizers.byte_tokenizer import ByteTokenizer

TEXT = "The Tokenisierer cuts a Text into Pieces;  Words and Spaces differ. Größe und LÄNGE ändern sich.\n"


def scores_along(tokenizer: ByteTokenizer, text: str, seed: int) -> Scores:
    """Random beliefs of a model that has read the text, the actual token among its top-k."""
    rng = np.random.default_rng(seed)
    [ids] = tokenizer.encode([text])
    sequence = tokenizer.sequence(ids, True, len(ids) + 2)
    num_M, ordinary = len(sequence) - 1, tokenizer.table.sorted_ids_O
    top_MK = np.stack([rng.choice(ordinary, 8, replace=False) for _ in range(num_M)]).astype(np.int32)
    top_MK[:, 0] = sequence[1:]
    probs_MK = (0.9 * rng.dirichlet(np.ones(8), num_M)).astype(np.float32)
    return Scores(sequence, np.log(probs_MK[:, 0]), top_MK, np.log(probs_MK))


@pytest.mark.parametrize("kind", ["lowercase", "word_piece"])
def test_a_source_that_changes_text_speaks_where_groups_meet(
    all_tokenizers: dict[str, ByteTokenizer], kind: str
) -> None:
    source_tokenizer, target_tokenizer = all_tokenizers[kind], all_tokenizers["byte_level"]
    source, target = scores_along(source_tokenizer, TEXT, 1), scores_along(target_tokenizer, TEXT, 2)
    assert source_tokenizer.boundaries(source.ids_L, TEXT.encode()) is None
    ends_T = target_tokenizer.boundaries(target.ids_L, TEXT.encode())
    vocabularies = prepare_vocabularies(source_tokenizer.table, target_tokenizer.table)
    found = align(Alignment(), vocabularies, TEXT.encode(), source, None, target, ends_T).distribution
    last_T = pair_by_edit_distance(source_tokenizer.table, source.ids_L, target_tokenizer.table, target.ids_L, 64)
    # An unknown token stands for no bytes: what the source expects to follow cannot be told.
    knows_S = np.append(source_tokenizer.table.roles_V[source.next_ids_M] != Role.SPECIAL, False)
    meets_M = (last_T[:-1] >= 0) & (last_T[1:] >= 0) & knows_S[last_T[:-1]]
    assert 0 < meets_M.sum() < len(meets_M)
    assert np.all((found.confidence_M > 0) == meets_M)
    assert np.all(found.probs_MK.sum(1) <= 1 + 1e-5)
    # Between two meetings the source's own tokens give the actual token its probability, by the chain rule.
    cumulative_S = np.concatenate([[0], np.cumsum(source.next_log_probs_M, dtype=np.float64)])
    expected = np.exp(cumulative_S[last_T[1:][meets_M]] - cumulative_S[last_T[:-1][meets_M]])
    np.testing.assert_allclose(found.probs_MK[meets_M, 0], expected, rtol=1e-5)


def test_text_that_it_spells_all_the_same_is_aligned_by_bytes(all_tokenizers: dict[str, ByteTokenizer]) -> None:
    text = "def add(first, second):"
    source_tokenizer, target_tokenizer = all_tokenizers["lowercase"], all_tokenizers["byte_level"]
    assert not source_tokenizer.exact
    source, target = scores_along(source_tokenizer, text, 1), scores_along(target_tokenizer, text, 2)
    ends_S, ends_T = (
        t.boundaries(s.ids_L, text.encode()) for t, s in ((source_tokenizer, source), (target_tokenizer, target))
    )
    assert ends_S is not None
    vocabularies = prepare_vocabularies(source_tokenizer.table, target_tokenizer.table)
    found = align(Alignment(), vocabularies, text.encode(), source, ends_S, target, ends_T).distribution
    assert np.all(found.confidence_M > 0)
    total = np.log(found.probs_MK[:, 0].astype(np.float64)).sum()
    assert total == pytest.approx(float(source.next_log_probs_M.sum()), rel=1e-4)
