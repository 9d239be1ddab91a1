"""A report's numbers against the files that they come from."""

import json
import math
from pathlib import Path

import pytest

from pta_ray.errors import JobError
from pta_ray.run_report.read import read_run, thinned
from tests.unit.run_report.runs import METRICS, write_run


def test_the_numbers_are_those_of_the_files(tmp_path: Path) -> None:
    report = read_run(write_run(tmp_path / "run"))
    assert report.name == "run" and report.seconds == 5400.0 and report.steps == 4 and report.best_step == 2
    assert report.bits_per_byte == METRICS["bits_per_byte"] and report.alignment == METRICS["alignment"]
    assert report.losses == [(1, 4.0), (2, 3.0), (3, 2.5), (4, 2.25)]
    assert report.learning_rates[1] == (2, 2e-4)
    assert report.won == {"code": {"coder": 30, "target": 10}, "prose": {"poet": 3}}
    assert report.stages[0].name == "score coder" and report.stages[0].busy_share == 0.75
    assert report.bottleneck and report.bottleneck.model_dump() == METRICS["bottleneck"]
    assert report.representations and report.representations.after.compactness == 0.625
    assert report.representations.tokens[:2] == [["", "·", "the"], ["", "␊"]]


def test_bits_per_byte_begin_with_the_target_as_it_was(tmp_path: Path) -> None:
    curves = read_run(write_run(tmp_path)).bits_curves
    assert curves == {"code": [(0, 2.0), (2, 1.75), (4, 1.8)], "prose": [(0, 3.0), (2, 2.75), (4, 2.8)]}


def test_without_validations_they_end_with_the_result(tmp_path: Path) -> None:
    curves = read_run(write_run(tmp_path, training={"validations": [], "best_step": None})).bits_curves
    assert curves["code"] == [(0, 2.0), (4, 1.75)]


def test_what_a_simulated_target_made_up_is_no_starting_point(tmp_path: Path) -> None:
    report = read_run(write_run(tmp_path, simulated=["target"]))
    assert report.bits_curves["code"] == [(2, 1.75), (4, 1.8)]
    assert [model.role for model in report.models] == ["target, and teacher as it was, simulated", "source", "source"]


def test_what_was_set_aside_is_counted_by_reason(tmp_path: Path) -> None:
    report = read_run(write_run(tmp_path))
    found = [(group.stage, group.reason, group.number, group.share, group.first) for group in report.set_aside]
    assert found == [
        ("score coder", "not finite", 4, 0.5, ["code:0:0", "code:1:0", "code:2:0"]),
        ("read", "<b>bad</b> JSON", 1, 0.0, ["prose:7"]),
    ]
    assert report.num_set_aside == 5
    nothing = read_run(write_run(tmp_path / "other", set_aside=[]))
    assert nothing.num_set_aside == 0 and nothing.set_aside == []


def test_of_places_on_the_machine_the_last_part_is_told(tmp_path: Path) -> None:
    text = read_run(write_run(tmp_path)).model_dump_json()
    assert "/home/someone" not in text and "poet" in text and "s3://bucket/prose" in text


def test_a_run_that_lacks_the_newer_numbers_shows_the_rest(tmp_path: Path) -> None:
    write_run(tmp_path)
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    for name in ("learning_rates", "representations"):
        del metrics["training"][name]
    (tmp_path / "metrics.json").write_text(json.dumps(metrics))
    report = read_run(tmp_path)
    assert report.learning_rates == [] and report.representations is None and len(report.losses) == 4


def test_long_curves_keep_their_means() -> None:
    points = [(step, float(step % 7)) for step in range(1, 10_001)]
    found = thinned(points)
    assert len(found) == 500 and found[0] == (10.5, sum(value for _, value in points[:20]) / 20)
    assert thinned(points[:500]) == points[:500]
    assert thinned([(1, math.nan), (2, 1.0)]) == [(2, 1.0)] and thinned([]) == []


@pytest.mark.parametrize("name", ["metrics.json", "fusion.json", "job.yaml"])
def test_a_directory_without_a_result_is_refused(tmp_path: Path, name: str) -> None:
    write_run(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(JobError):
        read_run(tmp_path)


@pytest.mark.parametrize("content", ["{broken", "[]", "{}", '{"training": {"steps": "many"}}'])
def test_other_files_of_that_name_are_refused_in_one_line(tmp_path: Path, content: str) -> None:
    write_run(tmp_path)
    (tmp_path / "metrics.json").write_text(content)
    with pytest.raises(JobError, match=r"metrics\.json") as refused:
        read_run(tmp_path)
    assert "\n" not in str(refused.value)
