import math
from typing import Any

import pytest

from pta_ray.config import Job, Training
from pta_ray.errors import JobError
from pta_ray.training.manifest import Manifest, check_settings, check_target, check_text

JOB: dict[str, Any] = {
    "target": {"model": "a/target", "replicas": 2},
    "sources": ["b/first", "b/second"],
    "data": {"train": ["text.jsonl"], "held_out": ["held_out.jsonl"], "epochs": 2},
    "training": {"checkpoints": {"directory": "s3://bucket/fused"}},
    "output": "runs/fused",
}
STATE = {"losses": [[1, 2.5], [2, math.inf]], "best": {"step": 2, "bits_per_byte": 1.25}, "none": None}


def describe(step: int) -> Manifest:
    return Manifest(
        step=step,
        progress=step / 512,
        num_workers=2,
        job=Job.model_validate({**JOB, "alignment": {"rho": math.inf}}),
        packages={"ray": "2.60.0"},
        target="target" * 8,
        text="plan" * 8,
        state=STATE,
        num_windows=3,
    )


# Another value for every setting of the training, and whether it changes what is learned.
TRAINING_CHANGES: dict[str, tuple[object, bool]] = {
    "clm_weight": ({"start": 0.5, "end": 1}, True),
    "divergence": ("jsd", True),
    "temperature": (2.0, True),
    "source_temperature": (1.0, True),
    "tail": ("bucket", True),
    "learning_rate": (1e-3, True),
    "warmup": (0.1, True),
    "weight_decay": (0.0, True),
    "betas": ((0.8, 0.9), True),
    "gradient_clipping": (2.0, True),
    "batch_windows": (64, True),
    "precision": ("bf16", True),
    "lora": ({"rank": 4}, True),
    "micro_batch_windows": (2, False),
    "gradient_checkpointing": (True, False),
    "zero_stage": (3, False),
    "offload_optimizer": (True, False),
    "offload_parameters": (True, False),
    "workers": ((1, 4), False),
    "cpus": (2, False),
    "gpus": (1, False),
    "positions_per_chunk": (64, False),
    "checkpoints": ({"every_steps": 7}, False),
    "validation": ({"every_steps": 7}, False),
    "max_bad_windows": (0, False),
    "trackers": ([], False),
}


def manifest_of(job: dict[str, Any]) -> Manifest:
    return describe(1).model_copy(update={"job": Job.model_validate(job)})


def assert_refused(job: dict[str, Any], field: str) -> None:
    with pytest.raises(
        JobError, match=r"and the checkpoint was made with .*remove the checkpoints to start over$"
    ) as caught:
        check_settings(manifest_of(JOB), Job.model_validate(job))
    assert caught.value.field == field and "\n" not in str(caught.value)


def test_every_setting_of_the_training_is_decided_on() -> None:
    assert TRAINING_CHANGES.keys() == Training.model_fields.keys()


@pytest.mark.parametrize("field", [field for field, (_, learns) in TRAINING_CHANGES.items() if learns])
def test_a_training_that_learns_otherwise_is_refused(field: str) -> None:
    assert_refused({**JOB, "training": {field: TRAINING_CHANGES[field][0]}}, f"training.{field}")


def test_a_training_may_run_otherwise() -> None:
    changes = {field: value for field, (value, learns) in TRAINING_CHANGES.items() if not learns}
    check_settings(manifest_of(JOB), Job.model_validate({**JOB, "training": changes}))


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"alignment": {"top_k": 5}}, "alignment.top_k"),
        ({"data": {**JOB["data"], "train": ["other.jsonl"]}}, "data.train"),
        ({"data": {**JOB["data"], "epochs": 3}}, "data.epochs"),
        ({"data": {**JOB["data"], "seed": 1}}, "data.seed"),
        ({"target": {"model": "a/target", "name": "student"}}, "target.name"),
        ({"sources": ["b/first"]}, "sources"),
        ({"sources": ["c/first", "b/second"]}, "sources"),
        ({"sources": ["b/first", {"model": "b/second", "engine": "simulated"}]}, "engine"),
        ({"data": {**JOB["data"], "cache": "elsewhere"}}, "data.cache"),
    ],
)
def test_another_stream_is_refused(changes: dict[str, Any], field: str) -> None:
    assert_refused({**JOB, **changes}, field)


def test_models_may_run_otherwise() -> None:
    changes = {
        "target": {"model": "elsewhere/target", "engine": "transformers"},
        "sources": [{"model": "b/first", "gpus": 2}, {"model": "b/second", "replicas": 3}],
        "output": "runs/another",
    }
    check_settings(manifest_of(JOB), Job.model_validate({**JOB, **changes}))


def test_another_target_is_refused() -> None:
    with pytest.raises(
        JobError, match=r"^target.model: .*other.* put back a/target as it was, or remove the checkpoints"
    ):
        check_target(describe(1), "other")


def test_other_text_is_refused() -> None:
    with pytest.raises(JobError, match=r"^data.train: the files are not those that the checkpoint was made from"):
        check_text(describe(1), "other")
