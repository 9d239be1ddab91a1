import numpy as np
import pytest

from pta_ray.columns import fused_column, scores_column
from pta_ray.config import Job, Training
from pta_ray.distributions import FusedRow, Scores, SparseDistribution
from pta_ray.planning.architecture import architecture_of
from pta_ray.planning.traffic import stream_traffic, training_traffic

LENGTH, TOP_K = 5000, 7
ARCHITECTURE = architecture_of({
    "model_type": "gpt2", "vocab_size": 1000, "n_embd": 64, "n_layer": 2, "n_head": 2, "n_positions": 32,
})  # fmt: skip


def test_a_position_is_as_large_as_the_columns_make_it() -> None:
    job = Job.model_validate({"target": "a/b", "sources": ["a/c"], "data": "text", "alignment": {"top_k": TOP_K}})
    ids_L, zeros_MK = np.zeros(LENGTH, np.int32), np.zeros((LENGTH - 1, TOP_K), np.float32)
    scores = Scores(ids_L, zeros_MK[:, 0], zeros_MK.astype(np.int32), zeros_MK)
    entries_MK = np.zeros((LENGTH - 1, 1 + TOP_K), np.float32)
    fused = SparseDistribution(entries_MK.astype(np.int32), entries_MK, entries_MK[:, 0])
    of_scores = scores_column([scores]).nbytes / LENGTH
    of_fused = fused_column([FusedRow(ids_L, fused, np.ones(LENGTH - 1, np.bool_))]).nbytes / LENGTH
    object_store, to_training = stream_traffic(job, [1.0, 1.0])
    assert to_training == pytest.approx(of_fused, rel=0.01)
    # Text; the same with the target's scores; with both; and what is fused.
    assert object_store == pytest.approx(3 * 4 + 3 * of_scores + of_fused, rel=0.01)


@pytest.mark.parametrize(
    ("stage", "sent"),
    # Four workers, three quarters to others. 32 windows a step are two passes of four windows each.
    [(0, 2), (1, 2), (2, 2 + 1), (3, 2 * 3)],
)
def test_gradients_travel_once_a_step_or_in_each_pass(stage: int, sent: int) -> None:
    settings = Training.model_validate(
        {"zero_stage": stage, "workers": 4, "batch_windows": 32, "micro_batch_windows": 4}
    )
    of_step = training_traffic(settings, ARCHITECTURE, 100, on_gpu=True) * 8 * 100
    assert of_step == pytest.approx(0.75 * sent * 2 * ARCHITECTURE.parameters)


def test_a_lone_worker_sends_nothing() -> None:
    assert training_traffic(Training(), ARCHITECTURE, 100, on_gpu=True) == 0
