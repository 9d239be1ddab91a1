import pytest

from pta_ray.errors import JobError
from pta_ray.evaluation.settings import load_evaluation


def test_models_and_text_to_compare_are_entries_of_a_job_file() -> None:
    given = ["a/b", "{model: c/b, name: other, engine: vllm, tensor_parallel: 2}"]
    found = load_evaluation(given, ["x/prose.jsonl", "{path: y.parquet, domain: code}"], 512, "transformers")
    assert [(m.name, m.engine, m.tensor_parallel) for m in found.models] == [
        ("b", "transformers", 1),
        ("other", "vllm", 2),
    ]
    assert [source.domain for source in found.data] == ["prose", "code"] and found.window_bytes == 512


@pytest.mark.parametrize(
    ("models", "data", "field", "mend"),
    [
        (["a/b", "c/b"], [], "models", "name one of them"),
        (["{modl: a/b}"], [], "models.0.modl", "did you mean 'model'"),
        (["{model: a/b"], [], "MODEL", "YAML"),
        (["a/b"], ["{domain: x}"], "data.0.path", "needed are: path"),
    ],
)
def test_entries_that_are_wrong_are_named(models: list[str], data: list[str], field: str, mend: str) -> None:
    with pytest.raises(JobError) as caught:
        load_evaluation(models, data, 4096, "vllm")
    assert caught.value.field == field and mend in caught.value.problem
