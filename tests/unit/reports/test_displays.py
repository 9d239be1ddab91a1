from io import StringIO

from rich.console import Console

from pta_ray.evaluation.fidelity import Fidelity
from pta_ray.reports.progress import one_line, training_line
from pta_ray.reports.tables import bits_table, fidelity_table
from pta_ray.telemetry import Snapshot, StageCounts

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


def test_a_line_tells_step_loss_time_left_and_speed() -> None:
    training = {"step": 7.0, "progress": 0.25, "loss": 2.5, "clm": 2.75, "fused": 1.5, "workers": 2.0}
    stages = {"train": StageCounts(rows=8, tokens=5000, first=0.0, last=10.0)}
    line = one_line(Snapshot(stages=stages, training=training))
    assert "step 7, 25%, loss 2.500 (clm 2.750, fused 1.500), 2 workers," in line
    assert "train 500 tok/s" in line and "left" in line


def test_before_the_first_step_engines_start() -> None:
    assert training_line(Snapshot()) == "engines start"


def test_the_table_of_the_alignment_names_each_source() -> None:
    found = Fidelity(num_positions=10, num_spoken=9, num_compared=8, num_agreeing=6, divergence_bits=1.0)
    text = printed(fidelity_table({"coder": found}))
    assert "coder" in text
    assert all(figure in text for figure in ("0.900", "0.125", "0.750"))
