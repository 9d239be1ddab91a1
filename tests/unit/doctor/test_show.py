import io
import json

from rich.console import Console

from pta_ray.doctor.finding import error, ok, warning
from pta_ray.doctor.show import findings_json, findings_table

FINDINGS = [
    ok("memory", "8 GB"),
    warning("vllm", "is missing", "pip install 'pta-ray[cuda]'"),
    error("output", "[bold]taken", "remove it"),
]


def test_a_table_has_every_mend_as_it_is_typed() -> None:
    console = Console(width=100, file=io.StringIO(), record=True)
    console.print(findings_table(FINDINGS))
    shown = console.export_text()
    assert "-> pip install 'pta-ray[cuda]'" in shown and "[bold]taken" in shown  # nothing is taken for markup
    assert "1 ok, 1 warning, 1 error" in shown


def test_programs_get_the_same() -> None:
    content = json.loads(findings_json(FINDINGS))
    assert content["severity"] == "error"
    assert [finding["severity"] for finding in content["findings"]] == ["ok", "warning", "error"]
    assert content["findings"][1]["mend"] == "pip install 'pta-ray[cuda]'"
    assert json.loads(findings_json([]))["severity"] == "ok"
