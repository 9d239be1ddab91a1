"""Representations of tokens: the sample, the compactness worked out by hand, and hidden states of real engines."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pta_ray.config import Data
from pta_ray.text.reading import plan_reads
from pta_ray.tokenizers.byte_tokenizer import ByteTokenizer
from pta_ray.training.representations import Sample, compactness, compare, draw_sample
from pta_ray.training.setup import TrainingTask
from pta_ray.training.validation import read_held_out
from tests.conftest import CORPUS
from tests.unit.training.processes import in_processes
from tests.unit.training.test_trainer import Reports, make_task, make_trainer, tiny_target

SEED = 7


def made_up_windows(num_windows: int = 40, length: int = 100) -> list[np.ndarray[Any, np.dtype[np.int32]]]:
    generator = np.random.default_rng(0)
    return [generator.geometric(0.2, length).astype(np.int32) for _ in range(num_windows)]


def test_a_sample_is_of_the_most_frequent_next_tokens_and_bounded() -> None:
    sample = draw_sample(made_up_windows(), -1, SEED)
    assert sample is not None
    assert sum(map(len, sample.windows)) == 2048 and len(sample.next_ids_G) == 8
    next_ids_M = np.concatenate([ids_L[1:] for ids_L in sample.windows])
    assert (next_ids_M[sample.places_N] == sample.next_ids_G[sample.groups_N]).all()
    counts = {token: int((next_ids_M == token).sum()) for token in set(next_ids_M.tolist())}
    assert [counts[token] for token in sample.next_ids_G.tolist()] == sorted(counts.values(), reverse=True)[:8]
    assert np.bincount(sample.groups_N).tolist() == [min(counts[t], 32) for t in sample.next_ids_G.tolist()]
    assert len(set(sample.places_N.tolist())) == len(sample.places_N)


def test_a_sample_depends_on_its_seed_alone() -> None:
    places = [draw_sample(made_up_windows(), -1, seed).places_N.tolist() for seed in (1, 1, 2)]  # type: ignore[union-attr]
    assert places[0] == places[1] != places[2]


def test_the_end_of_a_document_makes_no_group() -> None:
    sample = draw_sample(made_up_windows(), 1, SEED)
    assert sample is not None and 1 not in sample.next_ids_G


def test_text_in_which_nothing_comes_again_gives_no_sample() -> None:
    assert draw_sample([np.arange(100, dtype=np.int32)], -1, SEED) is None
    assert draw_sample([], -1, SEED) is None


def square() -> tuple[torch.Tensor, torch.Tensor]:
    """Two groups of two points each, 2 apart within a group and 4 between the groups."""
    return torch.tensor([[0.0, 0.0], [0.0, 2.0], [4.0, 0.0], [4.0, 2.0]]), torch.tensor([0, 0, 1, 1])


def test_compactness_of_a_case_worked_out_by_hand() -> None:
    states_NH, groups_N = square()
    assert compactness(states_NH, groups_N) == pytest.approx(1 / 5**0.5)  # 1 to the group's mean, sqrt(4 + 1) to all's
    assert compactness(states_NH, torch.tensor([0, 1, 0, 1])) == pytest.approx(2 / 5**0.5)
    assert compactness(states_NH, torch.tensor([0, 1, 2, 3])) == 0
    assert compactness(states_NH, torch.tensor([0, 0, 0, 0])) == pytest.approx(1)


def test_neither_moving_nor_turning_nor_scaling_changes_compactness() -> None:
    states_NH, groups_N = torch.randn(60, 5, generator=torch.Generator().manual_seed(0)), torch.arange(60) % 4
    turn_HH, _ = torch.linalg.qr(torch.randn(5, 5, generator=torch.Generator().manual_seed(1)))
    again = compactness(3 * states_NH @ turn_HH + 7, groups_N)
    assert again == pytest.approx(compactness(states_NH, groups_N), rel=1e-4) and 0.5 < again < 1


def sample_of(groups_N: torch.Tensor) -> Sample:
    return Sample([], np.arange(len(groups_N)), groups_N.numpy(), np.arange(int(groups_N.max()) + 1))


def test_points_in_a_plane_keep_their_distances_in_units_of_their_spread() -> None:
    states_NH, groups_N = square()
    in_space = torch.nn.functional.pad(states_NH, (1, 2))
    found = compare(in_space, 10 * in_space + 3, sample_of(groups_N), ["a", "b"])
    assert found is not None and found["before"]["variance_share"] == pytest.approx(1)
    assert found["tokens"] == ["a", "b"] and found["groups"] == [0, 0, 1, 1]
    for when in ("before", "after"):
        points_N2 = torch.tensor(found[when]["points"])
        expected_NN = torch.cdist(states_NH, states_NH) / 5**0.5
        assert torch.allclose(torch.cdist(points_N2, points_N2), expected_NN, atol=1e-3), "whatever the size of all"
    assert found["before"]["compactness"] == pytest.approx(found["after"]["compactness"]) == pytest.approx(1 / 5**0.5)
    json.dumps(found, allow_nan=False)


def test_states_that_are_not_finite_are_not_compared() -> None:
    states_NH, groups_N = square()
    assert compare(states_NH, states_NH * torch.nan, sample_of(groups_N), ["a", "b"]) is None


def look(task: TrainingTask) -> dict[str, Any]:
    """Runs in a worker: looks at the start and learns nothing."""
    trainer = make_trainer(task)
    trainer.look_at_start()
    trainer.fit(())
    trainer.report()
    reports = task.telemetry
    assert isinstance(reports, Reports)
    return reports.known.outcome


@pytest.mark.parametrize("zero_stage", [0, 3])
def test_hidden_states_are_those_of_the_model_on_any_number_of_workers(
    byte_level: ByteTokenizer, tmp_path: Path, zero_stage: int
) -> None:
    (tmp_path / "text.jsonl").write_text("\n".join(json.dumps({"text": text}) for text in CORPUS[:12]))
    path = str(tmp_path / "text.jsonl")
    plan = plan_reads(Data(train=[path], held_out=[path]))
    made = make_task(tmp_path, byte_level, zero_stage=zero_stage)
    task = TrainingTask(made.job, byte_level, plan, made.staging, made.checkpoints, made.made_from, made.telemetry)
    first, second = in_processes(2, look, task)
    assert second == {}
    found = first["representations"]
    assert found["before"] == found["after"], "nothing was learned"

    held_out = read_held_out(plan, byte_level, made.job.data.window_tokens, 0, 2)
    sample = draw_sample([window.ids_L for window in held_out.windows], held_out.eos_id, made.job.data.seed)
    assert sample is not None
    with torch.no_grad():
        body = tiny_target(byte_level.table.size).base_model
        states = [body(torch.from_numpy(ids_L).long()[None]).last_hidden_state[0, :-1] for ids_L in sample.windows]
    states_NH = torch.cat(states)[torch.from_numpy(sample.places_N)]
    expected = compactness(states_NH, torch.from_numpy(sample.groups_N))
    assert found["before"]["compactness"] == pytest.approx(expected, rel=1e-4)
    tokens = [byte_level.table.token(int(token)).decode("utf-8", "backslashreplace") for token in sample.next_ids_G]
    assert found["tokens"] == tokens and found["groups"] == sample.groups_N.tolist()
