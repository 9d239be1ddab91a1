"""The whole alignment on real tokenizers and random distributions."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pta_ray.alignment.align import align
from pta_ray.config import Alignment
from pta_ray.distributions import Scores, own_distribution
from pta_ray.tokenizers.byte_tokenizer import ByteTokenizer
from tests.conftest import CORPUS

TEXT = "".join(CORPUS[:6])
PAIRS = [("byte_level", "small_byte_level"), ("small_byte_level", "byte_level"), ("sentencepiece", "byte_level"),
         ("byte_level", "sentencepiece"), ("sentencepiece", "small_byte_level")]  # fmt: skip


def random_scores(tokenizer: ByteTokenizer, text: str, top_k: int, seed: int, ends_document: bool = True) -> Scores:
    """A model of random beliefs that reads a text: a softmax over its vocabulary, leaning to the actual token."""
    rng = np.random.default_rng(seed)
    [ids] = tokenizer.encode([text])
    sequence = tokenizer.sequence(ids, ends_document, 1 << 20)
    logits_MV = 2 * rng.standard_normal((len(sequence) - 1, tokenizer.table.size))
    logits_MV[np.arange(len(sequence) - 1), sequence[1:]] += rng.uniform(4, 12, len(sequence) - 1)
    log_probs_MV = logits_MV - np.log(np.exp(logits_MV).sum(1, keepdims=True))
    top_MK = np.argsort(-log_probs_MV, axis=1)[:, :top_k]
    return Scores(
        sequence,
        log_probs_MV[np.arange(len(sequence) - 1), sequence[1:]].astype(np.float32),
        top_MK.astype(np.int32),
        np.take_along_axis(log_probs_MV, top_MK, 1).astype(np.float32),
    )


@pytest.mark.parametrize("kind", ["byte_level", "small_byte_level", "sentencepiece"])
def test_a_tokenizer_aligned_with_itself_is_the_identity(tokenizers: dict[str, ByteTokenizer], kind: str) -> None:
    tokenizer, settings_ = tokenizers[kind], Alignment(rho=1e-6, epsilon=0.01)
    source, target = (random_scores(tokenizer, TEXT, settings_.top_k, seed) for seed in (1, 2))
    aligned = align(settings_, TEXT.encode(), tokenizer, source, tokenizer, target)
    assert aligned is not None
    expected = own_distribution(source)
    found = aligned.distribution
    assert np.all(found.confidence_M == 1)
    np.testing.assert_allclose(found.probs_MK[:, 0], expected.probs_MK[:, 0], rtol=1e-4)


@pytest.mark.parametrize(("source_kind", "target_kind"), PAIRS)
def test_the_text_keeps_its_probability(
    tokenizers: dict[str, ByteTokenizer], source_kind: str, target_kind: str
) -> None:
    """The chain rule: summed over a window the aligned log-probabilities of the text are the source's own."""
    source_tokenizer, target_tokenizer = tokenizers[source_kind], tokenizers[target_kind]
    source = random_scores(source_tokenizer, TEXT, 10, 1)
    target = random_scores(target_tokenizer, TEXT, 10, 2)
    aligned = align(Alignment(), TEXT.encode(), source_tokenizer, source, target_tokenizer, target)
    assert aligned is not None
    found = aligned.distribution
    spoken = found.confidence_M > 0
    assert spoken.mean() > 0.98
    if spoken.all():
        total = np.log(found.probs_MK[:, 0].astype(np.float64)).sum()
        assert total == pytest.approx(source.next_log_probs_M.sum(dtype=np.float64), rel=1e-3)


@pytest.mark.parametrize(("source_kind", "target_kind"), PAIRS)
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(min_size=1, max_size=30), seed=st.integers(0, 99), cost=st.sampled_from(["prefix", "edit"]))
def test_distributions_are_distributions(
    tokenizers: dict[str, ByteTokenizer], source_kind: str, target_kind: str, text: str, seed: int, cost: str
) -> None:
    source = random_scores(tokenizers[source_kind], text, 5, seed)
    target = random_scores(tokenizers[target_kind], text, 5, seed + 1)
    aligned = align(
        Alignment(top_k=5, cost=cost), text.encode(), tokenizers[source_kind], source, tokenizers[target_kind], target
    )  # fmt: skip
    if aligned is None:
        assert "\u2581" in text  # the only character that SentencePiece cannot spell
        return
    found = aligned.distribution
    assert np.all(np.isfinite(found.probs_MK)) and np.all(found.probs_MK >= 0)
    assert np.all(found.probs_MK.sum(1) <= 1 + 1e-4)
    assert np.all((found.confidence_M >= 0) & (found.confidence_M <= 1 + 1e-5))
    assert found.ids_MK[:, 0].tolist() == target.next_ids_M.tolist()
    for row in found.ids_MK:
        named = row[row >= 0]
        assert len(set(named.tolist())) == len(named)


def test_a_text_that_a_tokenizer_cannot_spell_is_not_aligned(tokenizers: dict[str, ByteTokenizer]) -> None:
    text = "a \u2581 b"
    source, target = tokenizers["sentencepiece"], tokenizers["byte_level"]
    scores = random_scores(source, text, 3, 0), random_scores(target, text, 3, 0)
    assert align(Alignment(top_k=3), text.encode(), source, scores[0], target, scores[1]) is None


def test_renumbering_a_vocabulary_changes_nothing(tokenizers: dict[str, ByteTokenizer]) -> None:
    """The same source whose ids are permuted aligns to the same distribution."""
    from dataclasses import replace

    source_tokenizer, target_tokenizer = tokenizers["byte_level"], tokenizers["small_byte_level"]
    source = random_scores(source_tokenizer, TEXT, 8, 1)
    target = random_scores(target_tokenizer, TEXT, 8, 2)
    table = source_tokenizer.table
    new_of_old = np.random.default_rng(0).permutation(table.size).astype(np.int32)
    old_of_new = np.argsort(new_of_old)
    tokens = [table.token(i) for i in old_of_new]
    offsets = np.concatenate([[0], np.cumsum([len(t) for t in tokens])]).astype(np.int64)
    renumbered_table = replace(
        table, data_N=np.frombuffer(b"".join(tokens), np.uint8), offsets_V1=offsets, roles_V=table.roles_V[old_of_new]
    )
    renumbered = replace(source_tokenizer, table=renumbered_table, start_id=int(new_of_old[source_tokenizer.start_id]))
    permuted = replace(source, ids_L=new_of_old[source.ids_L], top_ids_MK=new_of_old[source.top_ids_MK])
    before = align(Alignment(top_k=8), TEXT.encode(), source_tokenizer, source, target_tokenizer, target)
    after = align(Alignment(top_k=8), TEXT.encode(), renumbered, permuted, target_tokenizer, target)
    assert before is not None and after is not None
    np.testing.assert_allclose(before.distribution.probs_MK, after.distribution.probs_MK, atol=1e-6)
