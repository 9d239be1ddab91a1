"""vLLM and transformers on the same windows of real models."""

import json
from pathlib import Path

import numpy as np
import pytest

from pta_ray.checkpoint import max_positions
from pta_ray.config import ServedModel
from pta_ray.distributions import Scores
from pta_ray.sources.engine import load_engine
from pta_ray.tokenizers.loading import load_tokenizer
from tests.conftest import in_new_process

TOP_K = 10


@pytest.fixture(scope="module", params=["python", "translations", "target"])
def checkpoint(demo: Path, request: pytest.FixtureRequest) -> str:
    return str(demo / "models" / request.param)


@pytest.fixture(scope="module")
def sequences(demo: Path, checkpoint: str) -> list[np.ndarray]:
    tokenizer = load_tokenizer(checkpoint, trust_remote_code=False)
    texts = []
    for path in sorted((demo / "data" / "held_out").glob("*.jsonl")):
        texts += [json.loads(line)["text"][:600] for line in path.read_text().splitlines()[:2]]
    return [tokenizer.sequence(ids, True, 200) for ids in tokenizer.encode(["\0", *texts])]


def score(kind: str, checkpoint: str, sequences: list[np.ndarray]) -> list[Scores]:
    # Fewer batched tokens than the windows have together: both engines have to split the batch.
    settings = ServedModel(model=checkpoint, engine=kind, max_batched_tokens=256)  # type: ignore[arg-type]
    return load_engine(settings, checkpoint, max_tokens=200, top_k=TOP_K).score(sequences, TOP_K)


@pytest.fixture(scope="module")
def by_transformers(checkpoint: str, sequences: list[np.ndarray]) -> list[Scores]:
    return score("transformers", checkpoint, sequences)


def test_engines_agree_on_log_probabilities(
    checkpoint: str, sequences: list[np.ndarray], by_transformers: list[Scores]
) -> None:
    by_vllm = in_new_process(score, "vllm", checkpoint, sequences)
    for a, b in zip(by_vllm, by_transformers, strict=True):
        np.testing.assert_array_equal(a.ids_L, b.ids_L)
        np.testing.assert_allclose(a.next_log_probs_M, b.next_log_probs_M, atol=2e-4)
        np.testing.assert_allclose(a.top_log_probs_MK, b.top_log_probs_MK, atol=2e-4)
        # Where two candidates are as good as equal their order is anybody's; elsewhere the ids agree.
        gaps_MK = -np.diff(b.top_log_probs_MK, axis=1, append=b.top_log_probs_MK[:, -1:] - 1)
        clear_MK = (gaps_MK > 1e-3) & (np.roll(gaps_MK, 1, axis=1) > 1e-3)
        clear_MK[:, -1] = False  # its next rival is not listed
        np.testing.assert_array_equal(a.top_ids_MK[clear_MK], b.top_ids_MK[clear_MK])
        assert clear_MK[:, :-1].mean() > 0.5


def test_scores_are_what_they_say(by_transformers: list[Scores]) -> None:
    for scores in by_transformers:
        check_consistent(scores)


def check_consistent(score: Scores) -> None:
    assert np.all(np.diff(score.top_log_probs_MK, axis=1) <= 0)
    assert np.all(np.exp(score.top_log_probs_MK).sum(1) <= 1 + 1e-5)
    listed_MK = score.top_ids_MK == score.next_ids_M[:, None]
    np.testing.assert_allclose(
        score.top_log_probs_MK[listed_MK], score.next_log_probs_M[listed_MK.any(1)], atol=1e-5
    )  # fmt: skip
    assert np.all(score.next_log_probs_M[~listed_MK.any(1)] <= score.top_log_probs_MK[~listed_MK.any(1), -1] + 1e-5)


def test_the_models_limit_is_read_from_its_configuration(checkpoint: str) -> None:
    assert max_positions(checkpoint, trust_remote_code=False) == 1024
