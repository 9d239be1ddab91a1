"""The Grafana dashboard asks for metrics that there are, in sound PromQL."""

import json
import os
import re
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml
from ray.dashboard.modules.metrics import dashboards

from pta_ray import metrics
from tests.unit.cluster.manifests import BASE, CLUSTER, ROOT, of_kind, problems, rendered

MONITORING = CLUSTER / "kuberay" / "components" / "monitoring"
DASHBOARD: dict[str, Any] = json.loads((MONITORING / "dashboard.json").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
QUERIES = [target["expr"].replace("$run", "x") for panel in PANELS for target in panel["targets"]]


@pytest.mark.parametrize("query", QUERIES)
def test_every_query_is_promql_for_a_metric_that_there_is(query: str) -> None:
    promql_parser.parse(query.replace("$cluster", ".*"))
    names = set(re.findall(r"\bray_\w+(?=\{)", query))
    assert names
    assert names <= ours() | {name for name in names if name in rays()}


def test_a_query_that_is_no_promql_is_found() -> None:
    with pytest.raises(ValueError):
        promql_parser.parse("sum by (stage) (rate(ray_pta_ray_stage_tokens_total[5m])")


def ours() -> set[str]:
    """The metrics of this project, as Prometheus calls them."""
    scalars = re.findall(r'"(\w+)":', _scalars())
    return {
        *(f"ray_pta_ray_stage_{name}_total" for name in metrics._COUNTERS),
        *(f"ray_pta_ray_stage_{name}" for name in metrics._GAUGES),
        *(f"ray_pta_ray_training_{name}" for name in scalars),
        "ray_pta_ray_set_aside",
    }


def _scalars() -> str:
    """The lines of the trainer that name what it reports."""
    source = (ROOT / "pta_ray" / "training" / "trainer.py").read_text()
    return "".join(
        line for line in source.splitlines() if re.search(r"\b(scalars|speed|shown) = \{|self\._report\(", line)
    )


def rays() -> str:
    """Ray's own dashboards."""
    folder = Path(dashboards.__file__).parent
    return "".join(path.read_text() for path in sorted(folder.glob("*_panels.py")))


def test_panels_neither_overlap_nor_leave_the_page() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken
        assert max(x for x, _ in cells) < 24
        taken |= cells
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])


def test_the_component_renders_beside_any_overlay(tmp_path: Path) -> None:
    overlay, component = (
        os.path.relpath(path, tmp_path) for path in (CLUSTER / "kuberay" / "overlays" / "gpu", MONITORING)
    )
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump({"resources": [overlay], "components": [component]}))
    manifests = rendered(tmp_path)
    [dashboard] = [m for m in of_kind(manifests, "ConfigMap") if m["metadata"]["name"] == "pta-ray-dashboard"]
    assert json.loads(dashboard["data"]["pta-ray.json"]) == DASHBOARD
    assert dashboard["metadata"]["labels"] == {"grafana_dashboard": "1"}
    [policy] = [m for m in of_kind(manifests, "NetworkPolicy") if m["metadata"]["name"] == "pta-ray-metrics"]
    assert problems(dashboard) == problems(policy) == []
    assert {m["metadata"]["namespace"] for m in (dashboard, policy, *of_kind(manifests, "PodMonitor"))} == {"pta-ray"}


def test_prometheus_is_led_to_the_port_that_rays_pods_name() -> None:
    [monitor] = yaml.safe_load_all((MONITORING / "podmonitor.yaml").read_text())
    spec = yaml.safe_load((BASE / "rayjob.yaml").read_text())["spec"]["rayClusterSpec"]
    for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"]):
        pod = group["template"]
        ports = {port["name"]: port["containerPort"] for port in pod["spec"]["containers"][0]["ports"]}
        assert ports[monitor["spec"]["podMetricsEndpoints"][0]["port"]] == 8080
        # The operator adds what the selector asks for besides.
        assert monitor["spec"]["selector"]["matchLabels"].items() - pod["metadata"]["labels"].items() == {
            ("ray.io/is-ray-node", "yes")
        }
