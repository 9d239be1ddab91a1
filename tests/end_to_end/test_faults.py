"""Everything that a fusion consists of may die or hang: it learns from every window once all the same."""

import signal
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.benchmarks.faults import ALONE, measure, seed_of_environment, summary
from tests.end_to_end.faults import DRIVER, HOST, Outcome
from tests.end_to_end.simulated_runs import BATCH_WINDOWS, EPOCHS, TITLES, Run, windows_by_domain, write_job

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def outcomes(demo: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Outcome]:
    """Of the runs of the benchmark, by name."""
    seed = seed_of_environment()
    print(f"PTA_RAY_FAULT_SEED={seed}")
    found = measure(tmp_path_factory.mktemp("faults"), demo, seed)
    print(summary(found))
    return {outcome.run: outcome for outcome in found}


def test_a_lot_is_killed(outcomes: dict[str, Outcome]) -> None:
    killed = Counter(kill.what for outcome in outcomes.values() for kill in outcome.kills)
    assert killed.total() >= 25
    assert killed.keys() == {*TITLES, DRIVER, HOST}
    assert min(killed["training worker"], killed[DRIVER] + 1, killed[HOST] + 1) >= 3


def test_no_window_is_lost_doubled_or_set_aside(outcomes: dict[str, Outcome]) -> None:
    for outcome in outcomes.values():
        assert (outcome.lost, outcome.doubled, outcome.set_aside) == (0, 0, 0), outcome
        assert outcome.trained == outcome.num_windows > 0


def test_every_step_is_taken_once_and_is_the_one_of_a_run_that_was_left_alone(outcomes: dict[str, Outcome]) -> None:
    expected = outcomes[ALONE].losses
    assert [*expected] == [*range(1, -(-outcomes[ALONE].num_windows // BATCH_WINDOWS) + 1)]
    for outcome in outcomes.values():
        assert [*outcome.losses] == [*expected]
        assert outcome.losses == pytest.approx(expected, abs=1e-5), outcome.run


def test_nothing_is_left_behind(outcomes: dict[str, Outcome]) -> None:
    assert {outcome.run: outcome.left for outcome in outcomes.values() if outcome.left} == {}


@pytest.fixture(scope="module")
def troubled(demo: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any], bool]:
    """A run in which one source has too little memory, another fails at some windows, and an actor is stopped: the job,
    the metrics, and whether the run went on when the stopped actor was gone."""
    folder = tmp_path_factory.mktemp("troubled")
    served = {"timeout_seconds": 15, "replicas": 2}
    job = write_job(folder, demo, data={"max_failed_share": 0.5}, served=served, of_models={
        "python": {"simulated": {"memory_tokens": 256}},
        "translations": {"simulated": {"bad_window_rate": 0.05}},
    })  # fmt: skip
    with Run(job) as run:
        run.wait_until(lambda: run.step >= 10)
        stopped = run.processes("scoring actor")[0]
        stopped.send_signal(signal.SIGSTOP)
        run.wait_until(lambda: not stopped.is_running())
        is_replaced = run.is_running
        assert run.end() == 0, run.printed
    return job, run.metrics(), is_replaced


def test_an_actor_that_hangs_is_replaced(troubled: tuple[Path, dict[str, Any], bool]) -> None:
    assert troubled[2]


def test_an_engine_that_runs_out_of_memory_goes_on_with_fewer_tokens_at_once(
    troubled: tuple[Path, dict[str, Any], bool],
) -> None:
    stages = troubled[1]["stages"]
    assert stages["score python (simulated)"]["failures"] >= 4  # with 4,096, 2,048, 1,024 and 512 tokens
    assert stages["score python (simulated)"]["rows"] == stages["score target (simulated)"]["rows"]


def test_windows_that_cannot_be_scored_are_set_aside_and_all_others_learned_from(
    troubled: tuple[Path, dict[str, Any], bool],
) -> None:
    job, metrics, _ = troubled
    rows = pq.read_table(job.parent / "fused" / "quarantine.parquet").to_pylist()
    assert {row["stage"] for row in rows} == {"score translations (simulated)"}
    assert all("this window cannot be scored" in row["reason"] and row["share"] > 0 for row in rows)
    assert set(Counter(row["window_id"] for row in rows).values()) == {EPOCHS}
    num_windows = windows_by_domain(job).total()
    trained = sum(count for name, count in metrics["counts"].items() if name.startswith("won/"))
    assert trained == num_windows - len(rows)
    assert metrics["training"]["num_windows"] == num_windows


def test_too_many_windows_that_fail_end_the_run_with_the_first_reasons(demo: Path, tmp_path: Path) -> None:
    job = write_job(tmp_path, demo, served={"simulated": {"bad_window_rate": 0.5}})
    with Run(job) as run:
        assert run.end() == 1
    [line] = [line for line in run.printed.splitlines() if line.startswith("error: ")]
    assert "more than data.max_failed_share; the first: " in line
    assert line.count("this window cannot be scored") == 3
    assert not run.left_processes()
