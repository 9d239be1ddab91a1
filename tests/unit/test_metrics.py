"""The figures of a run, read where Prometheus reads them."""

import re
import time
import urllib.request

import pyarrow as pa
import pytest
import ray

from pta_ray.board import Operator, SetAside
from pta_ray.columns import WINDOW_SCHEMA
from pta_ray.telemetry import Telemetry
from tests.unit.own_driver import driver_of_two_cpus

_PATIENCE_SECONDS = 120.0
_SAMPLE = re.compile(r"^ray_(pta_ray_\w+)\{(.*)\} (\S+)$", re.MULTILINE)
OPERATORS = [Operator("score a", ("score a (simulated)",), "replicas"), Operator("train", ("train",), "workers")]


def samples() -> dict[tuple[str, str, str], float]:
    """By name, run and stage, from where Prometheus finds the host."""
    [host] = ray.nodes()
    exporter = f"http://{host['NodeManagerAddress']}:{host['MetricsExportPort']}/metrics"
    with urllib.request.urlopen(exporter, timeout=10) as response:
        text = response.read().decode()
    found = {}
    for name, tags, value in _SAMPLE.findall(text):
        tag = dict(re.findall(r'(\w+)="([^"]*)"', tags))
        found[name, tag["run"], tag.get("stage", "")] = float(value)
    return found


def windows(num: int) -> pa.Table:
    rows = [
        {"window_id": str(i), "task": 0, "row": i, "held_out": False, "ends_task": False, "share": 0.01}
        for i in range(num)
    ]
    return pa.Table.from_pylist(rows, schema=WINDOW_SCHEMA)


def report_and_find() -> None:
    telemetry = Telemetry.start(1.0, "fused-demo", OPERATORS)
    with telemetry.attempt("score a (simulated)", windows(5), 60.0) as work:
        work.done(tokens=700)
    telemetry.snapshot()
    with pytest.raises(ValueError), telemetry.attempt("score a (simulated)", windows(6), 60.0):
        raise ValueError
    with telemetry.timed("train") as work:
        time.sleep(0.01)
        work.done(tokens=300, rows=2)
    telemetry.set_aside(SetAside("w", "read", "why", 0.01))
    telemetry.step({"step": 3.0, "progress": 0.5, "loss": 2.25})
    telemetry.snapshot()
    telemetry.snapshot()

    expected = {
        ("pta_ray_stage_rows_total", "fused-demo", "score a (simulated)"): 5.0,
        ("pta_ray_stage_tokens_total", "fused-demo", "score a (simulated)"): 700.0,
        ("pta_ray_stage_failures_total", "fused-demo", "score a (simulated)"): 1.0,
        ("pta_ray_stage_processes", "fused-demo", "score a (simulated)"): 1.0,
        ("pta_ray_stage_busy_share", "fused-demo", "train"): 1.0,
        ("pta_ray_stage_queue", "fused-demo", "train"): 3.0,
        ("pta_ray_stage_rows_total", "fused-demo", "train"): 2.0,
        ("pta_ray_training_loss", "fused-demo", ""): 2.25,
        ("pta_ray_training_step", "fused-demo", ""): 3.0,
        ("pta_ray_training_progress", "fused-demo", ""): 0.5,
        ("pta_ray_set_aside", "fused-demo", ""): 1.0,
    }
    begin, found = time.monotonic(), samples()
    while time.monotonic() - begin < _PATIENCE_SECONDS and not expected.keys() <= found.keys():
        time.sleep(1.0)
        found |= samples()  # Ray forgets a gauge that nobody sets again
    assert {key: found.get(key) for key in expected} == pytest.approx(expected, rel=1e-3)


def test_prometheus_finds_stages_and_training() -> None:
    with driver_of_two_cpus() as driver:
        driver.submit(report_and_find).result()
