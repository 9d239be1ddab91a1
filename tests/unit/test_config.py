"""What the settings of a job stand for, and which of them contradict each other."""

import subprocess
import sys

import pytest
from pydantic import ValidationError

from pta_ray.config import Alignment, Job, ServedModel, Training


@pytest.mark.parametrize(("given", "expected"), [(3, (3, 3)), ([2, 5], (2, 5)), ([1, 1], (1, 1))])
def test_a_number_is_a_range_of_nothing_else(given: object, expected: tuple[int, int]) -> None:
    assert ServedModel.model_validate({"model": "a/b", "replicas": given}).replicas == expected
    assert Alignment.model_validate({"replicas": given}).replicas == expected
    assert Training.model_validate({"workers": given}).workers == expected


@pytest.mark.parametrize("given", [0, [0, 2], [3, 2], [1], [1, 2, 3], "many", 1.5])
def test_what_is_no_range_is_refused(given: object) -> None:
    with pytest.raises(ValidationError, match="replicas"):
        ServedModel.model_validate({"model": "a/b", "replicas": given})


def test_ranges_survive_a_round_through_json() -> None:
    job = Job.model_validate({"target": {"model": "a/b", "replicas": 2}, "sources": ["c/d"], "data": "text"})
    assert Job.model_validate_json(job.model_dump_json()) == job
    assert Job.model_validate(job.model_dump(mode="json")) == job


def test_a_model_that_is_spread_says_how_many_gpus_by_that() -> None:
    spread = {"model": "a/b", "tensor_parallel": 4, "pipeline_parallel": 2}
    assert ServedModel.model_validate(spread).num_gpus_spread == 8
    for other in ({"gpus": 1}, {"engine": "transformers"}, {"engine": "simulated"}):
        with pytest.raises(ValidationError, match="need engine: vllm, and say how many gpus"):
            ServedModel.model_validate({**spread, **other})


def test_a_model_is_called_by_the_last_part_of_where_it_lies() -> None:
    for model in ("hf://org/small", "org/small", "org/small/"):
        assert ServedModel.model_validate(model).name == "small"
    assert ServedModel.model_validate({"model": "org/small", "name": "mine"}).name == "mine"


@pytest.mark.parametrize(
    "settings",
    [{"tokens_per_second": 0}, {"startup_seconds": -1}, {"top_k": 0}, {"failure_rate": 1.5}, {"memory_tokens": 63}],
)
def test_an_engine_cannot_pretend_everything(settings: dict[str, float]) -> None:
    with pytest.raises(ValidationError, match=f"simulated.{next(iter(settings))}"):
        ServedModel.model_validate({"model": "a/b", "engine": "simulated", "simulated": settings})


def test_configuration_and_command_line_import_nothing_heavy() -> None:
    heavy = "{'torch', 'ray', 'vllm', 'transformers'}"
    code = f"import sys, pta_ray.cli, pta_ray.preflight; print(*{heavy} & set(sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert result.stdout.strip() == ""
