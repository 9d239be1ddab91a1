import pytest

from pta_ray.config import ServedModel
from pta_ray.errors import StreamError
from pta_ray.evaluation.harness import run_harness, suite_result
from pta_ray.evaluation.task_suites import Suite, TaskSuites

RESULTS = {
    "a": {"alias": "a", "acc,none": 0.5, "acc_stderr,none": 0.03, "acc_norm,none": 0.6, "acc_norm_stderr,none": 0.01},
    "b": {"alias": "b", "acc,none": 0.7, "acc_stderr,none": 0.04, "acc_norm,none": 0.2, "acc_norm_stderr,none": "N/A"},
}


def test_a_suite_is_the_mean_of_its_tasks_in_percent() -> None:
    found = suite_result(Suite(name="s", tasks=["a", "b"]), RESULTS)
    assert found.score == pytest.approx(60) and found.tasks == {"a": 0.5, "b": 0.7} and found.metric == "acc,none"
    assert found.stderr == pytest.approx(100 * 0.05 / 2)  # of a mean of two independent figures


def test_an_error_that_is_not_known_of_all_tasks_is_not_told() -> None:
    found = suite_result(Suite(name="s", tasks=["a", "b"], metric="acc_norm,none", scale=1), RESULTS)
    assert found.score == pytest.approx(0.4) and found.stderr is None


def test_a_metric_that_is_not_there_is_named_with_those_that_are() -> None:
    with pytest.raises(StreamError, match=r"a of s has no metric 'f1,none'; it has: acc,none, acc_norm,none"):
        suite_result(Suite(name="s", tasks=["a"], metric="f1,none"), RESULTS)


def test_generated_programs_do_not_run_unasked() -> None:
    """Nor is anything loaded for them: the model is not there."""
    suites = TaskSuites(
        suites=[
            Suite(name="code", tasks=["humaneval"], runs_code=True),
            Suite(name="elsewhere", tasks=["x"], unavailable="needs another harness"),
        ]
    )
    found = run_harness(ServedModel(model="no/model"), suites, run_generated_code=False)
    assert [result.score for result in found.values()] == [None, None]
    assert "--run-generated-code" in found["code"].left_out
    assert found["elsewhere"].left_out == "needs another harness"
