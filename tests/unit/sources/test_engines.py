"""vLLM and transformers on the same windows of real models."""

import json
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pta_ray.checkpoint import max_positions
from pta_ray.config import ServedModel
from pta_ray.distributions import Scores
from pta_ray.sources.engine import Engine, load_engine
from pta_ray.tokenizers.loading import load_tokenizer
from tests.conftest import in_new_process
from tests.unit.sources.consistency import check_consistent

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


def load(kind: str, checkpoint: str, max_batched_tokens: int) -> Engine:
    settings = ServedModel(model=checkpoint, engine=kind, max_batched_tokens=max_batched_tokens)  # type: ignore[arg-type]
    return load_engine(settings, checkpoint, max_tokens=200, top_k=TOP_K, vocabulary_size=0)


@pytest.fixture(scope="module")
def by_transformers(checkpoint: str, sequences: list[np.ndarray]) -> list[Scores]:
    # Fewer batched tokens than the windows have together: the batch is split.
    return load("transformers", checkpoint, 256).score(sequences, TOP_K)


def score_in_parts_and_whole(checkpoint: str, sequences: list[np.ndarray]) -> list[list[Scores]]:
    from vllm.exceptions import VLLMValidationError

    in_parts, whole = load("vllm", checkpoint, 64), load("vllm", checkpoint, 4096)
    with pytest.raises(VLLMValidationError):
        in_parts.score([*sequences, np.full(5, 1 << 30, np.int32)], TOP_K)
    return [engine.score(sequences, TOP_K) for engine in (in_parts, whole)]


def test_engines_agree_on_log_probabilities(
    checkpoint: str, sequences: list[np.ndarray], by_transformers: list[Scores]
) -> None:
    """Where vLLM has to read a sequence in parts, where it may read all of them at once, and though it has refused a
    batch before."""
    assert max(map(len, sequences)) == 200
    for by_vllm in in_new_process(score_in_parts_and_whole, checkpoint, sequences):
        check_agreement(by_vllm, by_transformers)


def check_agreement(by_vllm: list[Scores], by_transformers: list[Scores]) -> None:
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


def score_with_a_worker_that_fails(checkpoint: str, sequences: list[np.ndarray]) -> None:
    engine: Any = load("vllm", checkpoint, 64)

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("a worker is gone")

    engine._llm.llm_engine.model_executor.execute_model = fail
    engine.score(sequences, TOP_K)


def test_an_engine_that_fails_amid_its_work_is_not_used_again(demo: Path) -> None:
    with pytest.raises(BrokenProcessPool):
        in_new_process(score_with_a_worker_that_fails, str(demo / "models" / "python"), [np.arange(1, 100)])


def test_scores_are_what_they_say(by_transformers: list[Scores]) -> None:
    for scores in by_transformers:
        check_consistent(scores)


def test_the_models_limit_is_read_from_its_configuration(checkpoint: str) -> None:
    assert max_positions(checkpoint, trust_remote_code=False) == 1024
