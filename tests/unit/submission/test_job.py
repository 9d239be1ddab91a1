import re
from pathlib import Path

import pytest
import yaml

from pta_ray.errors import JobError
from pta_ray.submission.job import next_run, prepare

JOB = "target: org/target\nsources: [~/models/b]\ndata: text.jsonl\noutput: /shared/runs/Large_Run.1\n"


def write(folder: Path, text: str = JOB) -> Path:
    path = folder / "job.yaml"
    path.write_text(text)
    return path


def test_the_job_is_sent_as_it_is_written_with_overrides_applied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.jsonl").touch()  # a file of this machine, not of the cluster's
    submission = prepare(write(tmp_path), ["training.learning_rate=1e-3"])
    expected = yaml.safe_load(JOB) | {"training": {"learning_rate": "1e-3"}}
    assert yaml.safe_load(submission.content) == expected


def test_the_same_job_has_the_same_name_and_another_one_another(tmp_path: Path) -> None:
    names = [prepare(write(tmp_path), changes).name for changes in ([], [], ["fusion.choice=avg_ce"])]
    assert names[0] == names[1] != names[2]
    assert names[0].startswith("pta-ray-large-run-1-")


@pytest.mark.parametrize("output", ["/shared/" + "x" * 80, "/shared/übung", "/shared/--", "$RUNS/ünï"])
def test_kubernetes_takes_every_name(output: str, tmp_path: Path) -> None:
    name = f"{prepare(write(tmp_path), [f'output={output}']).name}-99"
    assert len(name) <= 47
    assert re.fullmatch("[a-z0-9]+(-[a-z0-9]+)*", name)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ("output=runs/here", "output"),
        ("target=s3://key:secret@bucket/model", "target.model"),
        ("fusion.choice=best", "fusion.choice"),
        ("sources=[]", "sources"),
    ],
)
def test_a_job_that_cannot_run_there_is_not_sent(change: str, field: str, tmp_path: Path) -> None:
    with pytest.raises(JobError, match=f"^{field}: "):
        prepare(write(tmp_path), [change])


def test_without_an_output_the_job_file_names_one_that_would_be_lost(tmp_path: Path) -> None:
    with pytest.raises(JobError, match="--set output=/shared/runs/job"):
        prepare(write(tmp_path, JOB.rpartition("output")[0]), [])


@pytest.mark.parametrize(("ended", "expected"), [([], "a"), (["a"], "a-2"), (["a", "a-2"], "a-3"), (["a-2"], "a")])
def test_a_new_run_begins_where_all_others_have_ended(ended: list[str], expected: str) -> None:
    assert next_run("a", ended.__contains__) == expected
