from collections import defaultdict
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from pta_ray.board import Operator, Process, Snapshot, StageCounts
from pta_ray.evaluation.bootstrap import Estimates, Interval
from pta_ray.evaluation.fidelity import Fidelity
from pta_ray.evaluation.harness import SuiteResult
from pta_ray.evaluation.task_suites import Suite, TaskSuites
from pta_ray.reports.progress import one_line, stage_table, training_line
from pta_ray.reports.tables import bits_table, estimates_table, fidelity_table, suites_table

BITS = {
    "target": {"code": 2.0, "prose": 3.0},
    "coder": {"code": 1.5, "prose": 4.0},
    "fused": {"code": 1.75, "prose": 2.5},
}


def printed(renderable: object) -> str:
    console = Console(file=StringIO(), width=100)
    console.print(renderable)
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_the_table_lists_sources_then_the_target_before_and_after() -> None:
    text = printed(bits_table(BITS, "target"))
    places = [text.index(label) for label in ("source coder", "target, before", "target, fused")]
    assert places == sorted(places)
    assert "2.125" in text  # the fused mean over the domains


def half_way() -> Snapshot:
    """One process scores without a break, another trains half of the time."""
    scored, trained = StageCounts(failures=1), StageCounts()
    for end in (110.0, 120.0):
        scored.add(Process("host", 1, 0.0), end, rows=600, tokens=2500, seconds=10.0)
        trained.add(Process("host", 2, 0.0), end, rows=8, tokens=1000, seconds=0.01 if end == 120.0 else 10.0)
    operators = [Operator("score a", ("score a",), "more replicas of a"), Operator("train", ("train",), "more workers")]
    return Snapshot(defaultdict(StageCounts, {"score a": scored, "train": trained}), operators=operators)


def test_a_line_tells_step_loss_time_left_and_what_limits_the_stream() -> None:
    snapshot = half_way()
    snapshot.training = {"step": 7.0, "progress": 0.25, "loss": 2.5, "clm": 2.75, "fused": 1.5, "workers": 2.0}
    line = one_line(snapshot)
    assert "step 7, 25%, loss 2.500 (clm 2.750, fused 1.500), 2 workers," in line
    assert "score a 1,200 (100%), train 16 (50%)" in line and "left" in line
    assert line.endswith("limited by train | 1 failures")


def test_the_display_has_a_row_for_each_stage() -> None:
    heading, scored, trained = printed(stage_table(half_way())).splitlines()
    assert heading.split() == ["stage", "windows", "tokens", "tokens/s", "queue", "busy", "failures", "actors"]
    assert scored.split() == ["score", "a", "1,200", "5,000", "250", "100%", "1", "1"], "the first one has no queue"
    assert trained.split() == ["train", "16", "2,000", "100", "1,184", "50%", "0", "1"]


def test_before_the_first_step_engines_start() -> None:
    assert training_line(Snapshot()) == "engines start"


def test_the_table_of_the_alignment_names_each_source() -> None:
    found = Fidelity(num_positions=10, num_spoken=9, num_compared=8, num_agreeing=6, divergence_bits=1.0)
    text = printed(fidelity_table({"coder": found}))
    assert "coder" in text
    assert all(figure in text for figure in ("0.900", "0.125", "0.750"))


def estimates(*rows: tuple[float, float | None, float | None]) -> Estimates:
    *domains, mean = (Interval(*row) for row in rows)
    return Estimates(dict(zip(("code", "prose"), domains, strict=False)), mean)


def test_estimates_stand_with_their_intervals() -> None:
    found = {
        "small": estimates((2.0, 1.9, 2.1), (3.0, None, None), (2.5, None, None)),
        "large": estimates((1.5, 1.25, 1.75), (3.5, 3.4, 3.75), (2.5, 2.4, 2.6)),
    }
    lines = printed(estimates_table("bits per byte", found)).splitlines()
    assert [heading in lines[2] for heading in ("model", "code", "prose", "mean")] == [True] * 4
    [small], [large] = ([line for line in lines if name in line] for name in found)
    assert "2.000 (1.900, 2.100)" in small and "3.000 " in small and "3.000 (" not in small
    assert "1.500 (1.250, 1.750)" in large


def test_scores_stand_above_the_published_ones() -> None:
    suites = TaskSuites(
        suites=[Suite(name="maths", tasks=["m"], published={"giant": 99.5}), Suite(name="code", tasks=["c"])]
    )
    scores = {"mine": {"maths": SuiteResult(12.345, 0.5, "acc", {}), "code": SuiteResult(None, None, "", {}, "why")}}
    text = printed(suites_table(suites, scores))
    assert "12.35 ± 0.50" in text and "left out" in text
    assert text.index("mine") < text.index("giant (published)") and "99.50" in text


def test_the_plot_names_models_and_domains(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from pta_ray.reports.plot import plot_estimates

    found = {"small": estimates((2.0, 1.9, 2.1), (3.0, None, None), (2.5, None, None))}
    found["large"] = estimates((1.5, 1.25, 1.75), (3.5, 3.4, 3.75), (2.5, 2.4, 2.6))
    plot_estimates(tmp_path / "plot.svg", {"bits per byte": found, "difference": {"large": found["large"]}})
    plot_estimates(tmp_path / "plot.png", {"bits per byte": found})
    drawn = (tmp_path / "plot.svg").read_text()
    assert all(f"<!-- {word} -->" in drawn for word in ("small", "large", "code", "prose", "mean", "difference"))
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")
