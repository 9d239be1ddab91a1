"""What the experiment under `jobs/experiments` does to distributions, and how it counts."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from jobs.experiments import runs
from jobs.experiments.arms import ARMS, MAIN, REGIMES, Arm, Change, Regime
from jobs.experiments.changes import certainty, changed, changed_own
from jobs.experiments.fusing import fused_path, key
from jobs.experiments.fusing import paired as pairs
from jobs.experiments.learning import learn
from jobs.experiments.report import write_report
from jobs.experiments.runs import chosen_windows
from jobs.experiments.statistics import Estimate, beyond_chance, estimate, paired
from jobs.experiments.text import plain_text
from jobs.experiments.windows import TextSet, Window
from pta_ray.config import Training
from pta_ray.distributions import FusedRow, SparseDistribution
from pta_ray.fusion.candidate import Candidate
from pta_ray.training.flattening import flatten
from tests.unit.training.tiny_model import tiny_llama

OWN = SparseDistribution(np.array([[5, 1, 2]] * 2), np.array([[0.3, 0.2, 0.1]] * 2), np.ones(2))
ALIGNED = SparseDistribution(
    np.array([[5, 7, -1], [5, 1, 2]]), np.array([[0.5, 0.25, 0.0], [0.1, 0.2, 0.2]]), np.array([1.0, 0.5])
)
EVERYWHERE = np.ones(2, bool)


def test_pairs_are_tokens_of_the_same_bytes_and_a_source_that_does_not_spell_has_none() -> None:
    ends_T = np.array([0, 2, 3, 7])
    assert pairs(np.array([0, 2, 7]), ends_T).tolist() == [True, False, False]
    assert pairs(None, ends_T).tolist() == [False] * 3


@pytest.mark.parametrize("name", ARMS)
def test_every_arm_has_settings_that_a_job_file_may_have(name: str) -> None:
    arm = ARMS[name]
    assert arm.alignment_settings() and arm.training_settings() and arm.fusion_settings()


def test_arms_that_learn_from_the_same_windows_share_them() -> None:
    assert key(ARMS["pta"]) == key(ARMS["weight=0.8"]) == key(Arm({"cost": "canonical"}))
    assert len({key(ARMS[name]) for name in ("pta", "clm", "cost=prefix", "gated", "2 sources", "position")}) == 6


@pytest.fixture
def runs_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The arms that a target has really learned as, in a folder where `pta-paper` has the windows of no source."""
    made: list[str] = []

    def found(folder: Path, regime: str, arm: str, seed: int) -> dict[str, object]:
        made.append(arm)
        return {"bits_per_byte": {"python": float(len(made))}, "distances": {}}

    monkeypatch.setattr(runs, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(runs, "_found", found)
    for name in MAIN:
        path = fused_path(TextSet(tmp_path, "fuse"), ARMS[name])
        path.parent.mkdir(exist_ok=True)
        path.write_text(key(ARMS["itself only"] if name == "pta-paper" else ARMS[name]))
        path.with_suffix(".json").write_text(json.dumps({"won": name}))
    return made


def result(folder: Path, arm: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "results" / "scarce" / arm / "0.json").read_text())
    return found


def test_arms_that_learn_the_same_are_run_once(tmp_path: Path, runs_made: list[str]) -> None:
    for name in MAIN:
        runs.run(tmp_path, "scarce", name, 0)
    assert runs_made == [name for name in MAIN if name != "pta-paper"]
    paper, itself = result(tmp_path, "pta-paper"), result(tmp_path, "itself only")
    assert paper["same_as"] == "itself only" and itself["same_as"] is None
    assert paper["bits_per_byte"] == itself["bits_per_byte"]
    assert paper["settings"] == ARMS["pta-paper"].settings() and paper["won"] == {"won": "pta-paper"}


def test_a_run_is_made_again_where_its_settings_have_changed(tmp_path: Path, runs_made: list[str]) -> None:
    runs.run(tmp_path, "scarce", "pta", 0)
    runs.run(tmp_path, "scarce", "pta", 0)
    assert runs_made == ["pta"]
    path = tmp_path / "results" / "scarce" / "pta" / "0.json"
    stale = result(tmp_path, "pta")
    stale["settings"]["alignment"]["top_k"] = 3
    path.write_text(json.dumps(stale))
    runs.run(tmp_path, "scarce", "pta", 0)
    assert runs_made == ["pta", "pta"] and result(tmp_path, "pta")["settings"] == ARMS["pta"].settings()


def test_a_second_softmax_leaves_no_tail_and_flattens() -> None:
    found = changed("second_softmax", ALIGNED, OWN, EVERYWHERE).probs_MK
    np.testing.assert_allclose(found.sum(1), 1, rtol=1e-6)
    np.testing.assert_allclose(found[0], [1 / (1 + np.exp(-0.25)), 1 / (1 + np.exp(0.25)), 0], rtol=1e-6)


def test_without_a_tail_the_entries_are_all_there_is() -> None:
    found = changed("no_tail", ALIGNED, OWN, EVERYWHERE).probs_MK
    np.testing.assert_allclose(found, [[2 / 3, 1 / 3, 0], [0.2, 0.4, 0.4]])


def test_only_pairs_leaves_the_other_positions_silent() -> None:
    found = changed("pairs_only", ALIGNED, OWN, np.array([False, True]))
    np.testing.assert_allclose(found.confidence_M, [0, 0.5])


def test_the_actual_token_alone() -> None:
    found = changed("actual_only", ALIGNED, OWN, EVERYWHERE)
    assert found.ids_MK.tolist() == [[5, -1, -1], [5, -1, -1]]
    np.testing.assert_allclose(found.probs_MK, [[0.5, 0, 0], [0.1, 0, 0]])


def test_a_gate_lets_through_what_the_target_does_not_know_better() -> None:
    np.testing.assert_allclose(changed("gate", ALIGNED, OWN, EVERYWHERE).confidence_M, [1, 0])


def test_half_itself_is_the_mean_of_both_and_its_own_belief_where_the_source_abstains() -> None:
    aligned = SparseDistribution(ALIGNED.ids_MK, ALIGNED.probs_MK, np.array([1.0, 0.0]))
    found = changed("half_itself", aligned, OWN, EVERYWHERE)
    assert found.ids_MK.tolist() == [[5, 7, 1], [5, 1, 2]]
    np.testing.assert_allclose(found.probs_MK, [[0.4, 0.125, 0.1], [0.3, 0.2, 0.1]], rtol=1e-6)
    np.testing.assert_allclose(found.confidence_M, [1, 0.5])


@pytest.mark.parametrize(("change", "entries"), [("flatten_own", [0.9, 0.1]), (None, [0.81, 0.01])])
def test_what_the_target_says_is_flattened_too_where_an_arm_asks(change: Change | None, entries: list[float]) -> None:
    said = SparseDistribution(np.array([[5, 1]]), np.array([[0.81, 0.01]], np.float32), np.ones(1, np.float32))
    own = Candidate("target", said, np.array([True]), lambda: pytest.fail("no intervals are asked for"))
    row = changed_own(change, own).row(np.array([4, 5], np.int32), as_intervals=False)
    found = flatten(row, 2).targets
    assert isinstance(found, SparseDistribution)
    np.testing.assert_allclose(found.probs_MK, [np.sqrt(0.82) * np.array(entries)] if change else [entries], rtol=1e-6)


@pytest.mark.parametrize("confidence", [1.0, 0.25, 0.0])
def test_light_abstention_takes_the_text_away_that_stands_in(tmp_path: Path, confidence: float) -> None:
    """Where the source says what the text says, all of the loss is the text's: of one half, a source that abstains
    takes its part along."""
    tiny_llama().save_pretrained(tmp_path)
    ids_L = np.arange(5, 25, dtype=np.int32)
    labels = SparseDistribution(ids_L[1:, None], np.ones((19, 1), np.float32), np.full(19, confidence, np.float32))
    row = FusedRow(ids_L, labels, np.zeros(19, np.bool_))
    settings = Training(clm_weight=0.5, batch_windows=1)
    [whole], [light] = (learn(tmp_path, [row], [0], settings, None, flag)[1] for flag in (False, True))
    assert light == pytest.approx(0.5 * whole + 0.5 * confidence * whole, rel=1e-5)


def test_certainty_is_one_for_one_token_and_none_for_all_alike() -> None:
    np.testing.assert_allclose(certainty(np.array([[1.0, 0, 0], [0.25, 0.25, 0.25]])), [1, 0], atol=1e-6)


@given(st.lists(st.tuples(st.floats(0, 5), st.floats(0, 5)), min_size=2, max_size=8))
def test_paired_intervals_are_those_of_students_t(values: list[tuple[float, float]]) -> None:
    mine, its = ({seed: pair[i] for seed, pair in enumerate(values)} for i in range(2))
    found = paired(mine, its)
    differences = [a - b for a, b in values]
    if np.ptp(differences) > 1e-6:
        expected = stats.ttest_rel([a for a, _ in values], [b for _, b in values]).confidence_interval(0.95)
        assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-9)
        p_value = stats.ttest_1samp(differences, 0).pvalue
        assert found.p_value == pytest.approx(p_value, abs=1e-9)


def test_differences_are_taken_where_both_have_a_seed() -> None:
    assert paired({0: 1.0, 1: 2.0}, {1: 1.5, 2: 9.0}).mean == pytest.approx(0.5)
    assert not estimate([0.3]).excludes_zero, "one seed tells nothing about chance"


def test_many_differences_are_judged_together() -> None:
    """The least p-value counts times their number, the second half of that: 0.04 is enough alone, not among twenty.
    A single seed is never beyond chance, a difference that all seeds have to the bit is."""
    nothing = [Estimate(0.0, -1.0, 1.0, 5, 0.9)] * 18
    doubtful, certain = Estimate(0.1, 0.01, 0.2, 5, 0.04), Estimate(0.2, 0.1, 0.3, 5, 1e-4)
    assert beyond_chance([doubtful]) == [True]
    assert beyond_chance([doubtful, certain, *nothing]) == [False, True, *[False] * 18]
    assert beyond_chance([estimate([0.3])]) == [False] and beyond_chance([]) == []
    assert beyond_chance([estimate([0.5, 0.5]), estimate([0.0, 0.0])]) == [True, False]


@given(st.integers(0, 50), st.sampled_from([*REGIMES.values()]))
def test_whole_documents_are_chosen_and_every_epoch_reads_them_once(seed: int, regime: Regime) -> None:
    windows = [Window(d, f"{d}/{n // 3}", b"", False) for d in ("a", "b") for n in range(60)]
    order = chosen_windows(windows, regime, seed)
    assert order == chosen_windows(windows, regime, seed)
    counts = Counter(order)
    assert set(counts.values()) == {regime.epochs}
    for domain in ("a", "b"):
        chosen = [n for n in counts if windows[n].domain == domain]
        documents = {windows[n].document for n in chosen}
        assert len(chosen) == 3 * len(documents) == pytest.approx(regime.share * 60, abs=3)


def test_a_manual_page_becomes_text() -> None:
    lines = [".TH CP 1", ".SH NAME", r"cp \- Dateien", "kopieren", ".PP", r"\fB\-a\fP, \(aqalles\(aq", r".\" note"]
    assert plain_text("\n".join(lines)) == "NAME cp - Dateien kopieren\n-a, 'alles'"


def test_the_report_says_what_the_runs_have_left(tmp_path: Path) -> None:
    """Of two seeds: `pta` is 0.2 and 0.3 bits per byte below `clm`, the interval of which is 0.25 +- 12.706 * 0.05."""
    domains = ("python", "english", "german", "quotes")
    sources = dict.fromkeys(("python", "german", "smollm2"), 0.5)
    found = {name: {"parameters": 2e6, "vocabulary": 400, "bits_per_byte": dict.fromkeys(domains, 4.0)} for name in
             ("target", "python", "german", "smollm2", "bad")}  # fmt: skip
    found["python"]["bits_per_byte"] = dict.fromkeys(domains, 2.0)
    found["target"]["distances"] = dict.fromkeys(domains, sources)
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "models.json").write_text(json.dumps(found))
    measured_of = {"clm": (3.5, 3.6), "pta": (3.3, 3.3), "mined": (3.3, 3.4), "bad source added": (3.333, 3.333)}
    measured_of["mined, weight=0.8"] = (3.8, 3.9)
    for arm, measured in measured_of.items():
        for seed, bits_per_byte in enumerate(measured):
            run = {
                "bits_per_byte": dict.fromkeys(domains, bits_per_byte),
                "distances": dict.fromkeys(domains, sources),
                "num_tokens": 1000,
                "seconds": 3.0,
                "same_as": "clm" if arm == "mined" else None,
                "won": {
                    "won": {key: {"python": 3, "target": 1} for key in domains},
                    "fidelity": {"python": {"information_kept": 0.9}},
                },
            }
            path = tmp_path / "results" / "scarce" / arm / f"{seed}.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(run))
    write_report(tmp_path)
    report = (tmp_path / "RESULTS.md").read_text()
    assert "| scarce | clm | -0.2500 [-0.8853, +0.3853] | -7.04% | not told apart | 2 |" in report
    assert "| python | python | 2.000 | 22.5% | " in report, "the gap, and the share of it that clm closes"
    assert "| clm | -7.02% [" in report, "in every domain"
    assert "| mined, weight=0.8 | 3.8500 | mined | +0.5000 [" in report, "the arm that it is a change of"
    assert "8 runs, 8,000 tokens" in report, "those of arms that learn the same are counted once"
    assert "| bad source added | pta | +1.00% [+1.00%, +1.00%] | " in report
    assert "python 75%, target 25%" in report
    assert "<svg" in (tmp_path / "plots" / "scarce.svg").read_text()
