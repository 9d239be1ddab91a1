"""What `plan` predicts for this very processor, against what scoring and training take on it."""

import pytest

from pta_ray.config import ServedModel, Training
from pta_ray.planning.architecture import architecture_of
from pta_ray.planning.memory import Memory, scoring_memory, training_memory
from pta_ray.planning.roofline import Work, efficiency, scoring_work, seconds_per_token, training_work
from tests.end_to_end.planning_runs import BATCHED_TOKENS, MICRO_BATCH, PASSES, SIZES, TOKENS, Size, measure

MODEL = ServedModel(model="random", engine="transformers", max_batched_tokens=BATCHED_TOKENS)
TRAINING = Training(micro_batch_windows=MICRO_BATCH, batch_windows=MICRO_BATCH * PASSES)

pytestmark = [pytest.mark.slow, pytest.mark.calibration]


def predicted(size: Size, stage: str) -> tuple[Memory, list[Work]]:
    architecture = architecture_of(size.config)
    if stage == "score":
        memory = scoring_memory(MODEL, architecture, TOKENS, on_gpu=False)
        return memory, scoring_work(MODEL, architecture, TOKENS, 4)
    memory = training_memory(TRAINING, architecture, TOKENS, on_gpu=False)
    return memory, training_work(TRAINING, architecture, TOKENS, 4, architecture.parameters)


@pytest.mark.parametrize("stage", ["score", "train"])
@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size.hidden}x{size.layers}")
def test_memory_and_speed_are_about_as_planned(size: Size, stage: str) -> None:
    memory, work = predicted(size, stage)
    measured = measure(size, stage)
    planned_bytes = memory.host_bytes - memory.host["process"]
    planned_speed = 1 / seconds_per_token(work, measured.rates, efficiency(stage, on_gpu=False))
    ratios = planned_bytes / measured.peak_bytes, planned_speed / measured.tokens_per_second
    print(f"{stage} {size}: planned over measured, memory {ratios[0]:.2f}, speed {ratios[1]:.2f}")
    assert 0.7 < ratios[0] < 1.3
    assert 1 / 1.5 < ratios[1] < 1.5
