from pathlib import Path

import pytest

from pta_ray.errors import JobError
from pta_ray.evaluation.task_suites import load_suites
from tests.conftest import ROOT


@pytest.mark.parametrize("path", sorted((ROOT / "jobs" / "evaluation").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_file_of_suites_loads(path: Path) -> None:
    assert load_suites(str(path)).suites


def test_the_papers_suites_are_those_of_its_table() -> None:
    suites = load_suites(str(ROOT / "jobs" / "evaluation" / "paper.yaml")).suites
    assert [suite.name for suite in suites] == ["GSM8K", "BBH", "MultiPL-E", "MMLU", "ToxiGen", "TyDiQA"]
    averages = {"OpenLLaMA": 24.69, "MPT": 21.36, "Llama-2": 27.57, "FuseLLM": 28.51, "PTA-LLM": 29.00}
    for name, average in averages.items():
        assert sum(suite.published[name] for suite in suites) / len(suites) == pytest.approx(average, abs=0.006)


def test_names_are_suites_of_their_own() -> None:
    suites = load_suites("gsm8k,mmlu").suites
    assert [(suite.name, suite.tasks, suite.num_fewshot) for suite in suites] == [
        ("gsm8k", ["gsm8k"], None),
        ("mmlu", ["mmlu"], None),
    ]


@pytest.mark.parametrize(
    ("text", "begin"),
    [
        ("suites: [", "--tasks: .* is not valid YAML"),
        ("suites: []", "--tasks: suites: "),
        ("suites: [{name: a, task: [b]}]", "--tasks: suites.0.task: unknown key; did you mean 'tasks'"),
        ("suites: [{name: a}]", "--tasks: suites.0.tasks: is missing; needed are: name, tasks"),
        ("suites: [{name: a, tasks: [b]}, {name: a, tasks: [c]}]", "--tasks: suites: two suites have the same name"),
        ("suites: [{name: a, tasks: [b], num_fewshot: -1}]", "--tasks: suites.0.num_fewshot: "),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, begin: str) -> None:
    path = tmp_path / "suites.yaml"
    path.write_text(text)
    with pytest.raises(JobError, match=begin):
        load_suites(str(path))
