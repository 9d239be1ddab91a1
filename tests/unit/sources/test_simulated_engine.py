"""What the simulated engine makes up is sound, and it pretends what it is told to."""

import multiprocessing
import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pta_ray.alignment.align import align
from pta_ray.alignment.vocabularies import prepare_vocabularies
from pta_ray.columns import read_scores, scores_column
from pta_ray.config import Alignment, ServedModel
from pta_ray.distributions import own_distribution
from pta_ray.sources.engine import is_out_of_memory, load_engine
from pta_ray.sources.simulated_engine import SimulatedEngine
from pta_ray.tokenizers.byte_tokenizer import ByteTokenizer
from tests.conftest import CORPUS
from tests.unit.sources.consistency import check_consistent


def engine(vocabulary_size: int = 500, max_batched_tokens: int = 4096, **simulated: Any) -> SimulatedEngine:
    settings = ServedModel.model_validate(
        {
            "model": "anything",
            "engine": "simulated",
            "max_batched_tokens": max_batched_tokens,
            "simulated": {"tokens_per_second": 1e9, **simulated},
        }
    )
    loaded = load_engine(settings, "/nowhere", 1000, 10, vocabulary_size)
    assert isinstance(loaded, SimulatedEngine)
    return loaded


def windows(number: int, length: int, vocabulary_size: int = 500) -> list[np.ndarray]:
    generator = np.random.default_rng(number)
    return [generator.integers(0, vocabulary_size, length).astype(np.int32) for _ in range(number)]


@given(st.integers(2, 400), st.integers(0, 128), st.integers(1, 60), st.integers(0, 2**32 - 1))
def test_made_up_distributions_are_sound(vocabulary_size: int, top_k: int, length: int, seed: int) -> None:
    sequence = np.random.default_rng(seed).integers(0, vocabulary_size, length).astype(np.int32)
    [scores] = engine(vocabulary_size).score([sequence], top_k)
    num_K = min(top_k, vocabulary_size - 1)
    assert scores.top_ids_MK.shape == scores.top_log_probs_MK.shape == (length - 1, num_K)
    assert np.all((scores.top_ids_MK >= 0) & (scores.top_ids_MK < vocabulary_size))
    assert all(len(np.unique(ids_K)) == num_K for ids_K in scores.top_ids_MK)
    assert np.all(np.exp(scores.top_log_probs_MK).sum(1) < 1)
    if num_K:
        check_consistent(scores)


def test_they_depend_on_the_sequence_alone() -> None:
    first, second = windows(2, 50)
    [alone], [_, in_company] = engine().score([first], 10), engine().score([second, first], 10)
    np.testing.assert_array_equal(alone.top_ids_MK, in_company.top_ids_MK)
    np.testing.assert_array_equal(alone.top_log_probs_MK, in_company.top_log_probs_MK)
    np.testing.assert_array_equal(alone.next_log_probs_M, in_company.next_log_probs_M)
    [other] = engine().score([second], 10)
    assert not np.array_equal(alone.next_log_probs_M, other.next_log_probs_M)


def test_the_actual_token_is_listed_at_a_rank_as_often_as_the_rank_is_probable() -> None:
    [scores] = engine().score(windows(1, 20_000), 10)
    found_K = (scores.top_ids_MK == scores.next_ids_M[:, None]).mean(0)
    expected_K = np.exp(scores.top_log_probs_MK).mean(0) / 0.95  # a twentieth is of tokens that are never named
    np.testing.assert_allclose(found_K, expected_K, atol=0.02)


def test_candidates_can_be_fewer_than_asked_for() -> None:
    [scores] = engine(top_k=3).score(windows(1, 20), 10)
    assert scores.top_ids_MK.shape == (19, 3)


def test_it_takes_the_time_that_it_is_told_to() -> None:
    begin = time.perf_counter()
    slow = engine(tokens_per_second=2000, startup_seconds=0.2)
    started = time.perf_counter()
    slow.score(windows(6, 100), 10)
    assert started - begin >= 0.2 and 0.3 <= time.perf_counter() - started < 2


def test_the_same_share_of_windows_cannot_be_scored_each_time() -> None:
    def bad(found: SimulatedEngine, sequence: np.ndarray) -> bool:
        try:
            found.score([sequence], 10)
        except ValueError as error:
            assert "simulated" in str(error)
            return True
        return False

    one, other, sequences = engine(bad_window_rate=0.2), engine(bad_window_rate=0.2), windows(500, 10)
    bad_N = [bad(one, sequence) for sequence in sequences]
    assert bad_N == [bad(other, sequence) for sequence in sequences]
    assert 60 <= sum(bad_N) <= 140


def test_it_has_memory_for_half_as_many_tokens() -> None:
    with pytest.raises(MemoryError) as caught:
        engine(max_batched_tokens=512, memory_tokens=300).score(windows(1, 20), 10)
    assert is_out_of_memory(caught.value)
    assert engine(max_batched_tokens=256, memory_tokens=300).score(windows(1, 20), 10)


def score_once(failure_rate: float) -> None:
    engine(failure_rate=failure_rate).score(windows(1, 5), 10)


def test_the_same_batch_kills_some_processes_and_others_not() -> None:
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=score_once, args=(0.5,)) for _ in range(20)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert {process.exitcode for process in processes} == {0, 1}


@pytest.mark.parametrize(("target_k", "source_k"), [(10, 2), (2, 10), (1, 1)])
def test_what_it_says_can_be_aligned_however_few_candidates_it_lists(
    byte_level: ByteTokenizer, sentencepiece: ByteTokenizer, target_k: int, source_k: int
) -> None:
    text = CORPUS[1]
    scores, ends = [], []
    for tokenizer, num_K in ((byte_level, target_k), (sentencepiece, source_k)):
        sequence = tokenizer.sequence(tokenizer.encode([text])[0], True, 500)
        [found] = engine(tokenizer.table.size, top_k=num_K).score([sequence], 10)
        scores += read_scores(scores_column([found]))
        ends.append(tokenizer.boundaries(sequence, text.encode()))
    vocabularies = prepare_vocabularies(sentencepiece.table, byte_level.table)
    aligned = align(Alignment(), vocabularies, text.encode(), scores[1], ends[1], scores[0], ends[0]).distribution
    own = own_distribution(scores[0])
    assert own.ids_MK.shape[1] == target_k + 1
    for distribution in (own, aligned):
        assert np.all(distribution.probs_MK.sum(1) <= 1 + 1e-3)
        np.testing.assert_array_equal(distribution.ids_MK[:, 0], scores[0].next_ids_M)
    assert aligned.confidence_M.mean() > 0.5
