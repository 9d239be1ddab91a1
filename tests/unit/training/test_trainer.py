"""The trainer on real fused text: two or more real processes, real DeepSpeed engines, a tiny target."""

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import torch
import torch.distributed as dist
from tokenizers import Tokenizer, models
from transformers import LlamaConfig, LlamaForCausalLM

from pta_ray.board import Snapshot
from pta_ray.columns import struct_column
from pta_ray.config import Alignment, Job
from pta_ray.errors import StreamError
from pta_ray.text.reading import ReadPlan
from pta_ray.tokenizers.byte_tokenizer import ByteTokenizer
from pta_ray.training.checkpoints import CheckpointStore
from pta_ray.training.engine import start_engine
from pta_ray.training.feed import num_passes
from pta_ray.training.setup import TrainingTask
from pta_ray.training.student import Student
from pta_ray.training.trainer import Trainer
from tests.fixtures.load import Fixture, load_fixture
from tests.unit.fusion.test_fuser import fuse
from tests.unit.training.processes import in_processes

BATCH, NUM_WINDOWS = 6, 18
DIVERGENCES = ["cross_entropy", "forward_kl", "reverse_kl", "jsd"]
FINGERPRINTS = {"target": "0", "text": "0"}

Losses = dict[int, float]


class Reports:
    """Takes what workers report."""

    def __init__(self) -> None:
        self.known = Snapshot()

    @contextmanager
    def timed(self, stage: str) -> Iterator["Reports"]:
        yield self

    def done(self, tokens: int, rows: int) -> None: ...

    def step(self, scalars: Mapping[str, float]) -> None: ...

    def count(self, counts: Mapping[str, float]) -> None:
        self.known.counts.update(counts)

    def finish(self, outcome: dict[str, Any]) -> None:
        self.known.outcome = outcome

    def snapshot(self) -> Snapshot:
        return self.known


@pytest.fixture(scope="module")
def fixture() -> Fixture:
    return load_fixture()


def fused_rows(fixture: Fixture, targets: str) -> pa.Table:
    """Windows in many languages with what the demo's target would learn of them."""
    learned = list(range(NUM_WINDOWS))
    rows, _ = fuse(fixture, Alignment(targets=targets), learned, [])
    kinds = {"task": pa.array(np.zeros(NUM_WINDOWS, np.int32)), "row": pa.array(np.arange(NUM_WINDOWS, dtype=np.int32))}
    kinds["ends_task"] = pa.array([False] * (NUM_WINDOWS - 1) + [True])
    kinds["share"] = pa.array([1 / NUM_WINDOWS] * NUM_WINDOWS)
    for name, column in kinds.items():
        rows = rows.set_column(rows.column_names.index(name), name, column)
    return rows


@pytest.fixture(scope="module")
def rows(fixture: Fixture) -> pa.Table:
    return fused_rows(fixture, "tokens")


@pytest.fixture(scope="module")
def tokenizer(fixture: Fixture) -> ByteTokenizer:
    target = fixture.models["target"]
    return ByteTokenizer(Tokenizer(models.BPE()), target.table, target.start_id, True, False)


def make_task(folder: Path, tokenizer: ByteTokenizer, targets: str = "tokens", **training: object) -> TrainingTask:
    settings = {"learning_rate": 3e-3, "batch_windows": BATCH, "micro_batch_windows": 2, "trackers": [], **training}
    content = {"target": "a/target", "sources": ["a/python", "a/translations"], "data": "text"}
    job = Job.model_validate(
        {**content, "training": settings, "alignment": {"targets": targets}, "output": str(folder / "out")}
    )
    checkpoints = training.get("checkpoints", {})
    assert isinstance(checkpoints, dict)
    plan = ReadPlan([], 0, 1, 0)
    directory = checkpoints.get("directory") or str(folder / "checkpoints")
    return TrainingTask(job, tokenizer, plan, str(folder), directory, FINGERPRINTS, Reports())  # type: ignore[arg-type]


def tiny_target(num_tokens: int) -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=num_tokens, hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2,
        max_position_embeddings=1024, tie_word_embeddings=False,
    )  # fmt: skip
    return LlamaForCausalLM(config)


def make_trainer(task: TrainingTask, poisoned_token: int | None = None) -> Trainer:
    settings, table = task.job.training, task.tokenizer.table
    model = tiny_target(table.size)
    if poisoned_token is not None:
        model.get_input_embeddings().weight.data[poisoned_token] = math.nan
    in_byte_order = table.sorted_ids_O if task.job.alignment.targets == "intervals" else None
    passes = num_passes(settings.batch_windows, settings.micro_batch_windows, dist.get_world_size())
    engine = start_engine(Student(model, settings, in_byte_order), settings, passes, use_cuda=False)
    return Trainer(engine, task, dist.new_group(backend="gloo"))


def fit(task: TrainingTask, rows: pa.Table, num_rows: int, poisoned_token: int | None = None) -> dict[str, Any]:
    """Goes on from the newest checkpoint, up to a row of the stream; the trainer then writes another one."""
    trainer = make_trainer(task, poisoned_token)
    if newest := CheckpointStore(task.checkpoints).newest():
        trainer.restore(newest)
    begin = trainer.progress.step * BATCH
    tables = (rows.slice(at, min(BATCH, num_rows - at)) for at in range(begin, num_rows, BATCH))
    trainer.fit(tables if dist.get_rank() == 0 else ())
    trainer.report()
    return {**trainer.progress.summary(), "won": trainer.progress.won}


def fit_each(tasks: list[TrainingTask], rows: pa.Table) -> list[list[tuple[int, float]]]:
    """The losses of several trainings, one after another in the same processes."""
    return [fit(task, rows, rows.num_rows)["losses"] for task in tasks]


@pytest.mark.slow
@pytest.mark.parametrize("targets", ["tokens", "intervals"])
@pytest.mark.parametrize("zero_stage", [0, 2, 3])
def test_the_loss_falls_for_every_kind(
    fixture: Fixture, tokenizer: ByteTokenizer, tmp_path: Path, zero_stage: int, targets: str
) -> None:
    # Flattened ever less, what is learned would have ever less entropy, too.
    flattening = {"source_temperature": 1}
    settings = {"zero_stage": zero_stage, "clm_weight": 0, "warmup": 0, "learning_rate": 0.03, **flattening}
    tasks = [make_task(tmp_path / kind, tokenizer, targets, divergence=kind, **settings) for kind in DIVERGENCES]
    text = repeated(fused_rows(fixture, targets), 6)
    for by_step in in_processes(2, fit_each, tasks, text)[0]:
        losses = [loss for _, loss in by_step]
        epoch = len(losses) // 6
        assert sum(losses[-epoch:]) < 0.9 * sum(losses[:epoch])


def repeated(rows: pa.Table, times: int) -> pa.Table:
    """The rows as those of several tasks."""
    at = rows.column_names.index("task")
    tasks = [pa.array(np.full(rows.num_rows, i, np.int32)) for i in range(times)]
    return pa.concat_tables([rows.set_column(at, "task", task) for task in tasks])


def test_a_run_goes_on_where_it_was_on_as_many_workers(
    rows: pa.Table, tokenizer: ByteTokenizer, tmp_path: Path
) -> None:
    whole, parts = make_task(tmp_path / "whole", tokenizer), make_task(tmp_path / "parts", tokenizer)
    expected = in_processes(2, fit, whole, rows, NUM_WINDOWS)[0]
    in_processes(2, fit, parts, rows, BATCH)
    found = in_processes(2, fit, parts, rows, NUM_WINDOWS)[0]
    assert dict(found["losses"]) == pytest.approx(dict(expected["losses"]), abs=1e-6)
    assert found["num_windows"] == expected["num_windows"] == NUM_WINDOWS


def test_a_run_goes_on_with_other_numbers_of_workers_and_at_other_stages(
    rows: pa.Table, tokenizer: ByteTokenizer, tmp_path: Path
) -> None:
    expected = in_processes(2, fit, make_task(tmp_path / "whole", tokenizer), rows, NUM_WINDOWS)[0]
    for num_workers, zero_stage, num_rows in ((2, 2, BATCH), (1, 0, 2 * BATCH), (3, 3, NUM_WINDOWS)):
        task = make_task(tmp_path / "parts", tokenizer, zero_stage=zero_stage)
        found = in_processes(num_workers, fit, task, rows, num_rows)[0]
    assert dict(found["losses"]) == pytest.approx(dict(expected["losses"]), abs=1e-4)
    assert found["won"] == expected["won"] and found["won"].total() == NUM_WINDOWS


def with_probability(rows: pa.Table, window: int, value: float) -> pa.Table:
    """The rows with one probability of one window replaced."""
    fused = struct_column(rows, "fused")
    parts = [fused.field(i) for i in range(fused.type.num_fields)]
    at = [field.name for field in fused.type].index("probs")
    values = parts[at].values.to_numpy(zero_copy_only=False).copy()
    values[parts[at].offsets[window].as_py() + 3] = value
    parts[at] = pa.ListArray.from_arrays(parts[at].offsets, pa.array(values))
    broken = pa.StructArray.from_arrays(parts, fields=list(fused.type))
    return rows.set_column(rows.column_names.index("fused"), "fused", broken)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_window_with_a_broken_target_is_set_aside_by_name(
    rows: pa.Table, tokenizer: ByteTokenizer, tmp_path: Path, value: float
) -> None:
    found, _ = in_processes(2, fit, make_task(tmp_path, tokenizer), with_probability(rows, 8, value), NUM_WINDOWS)
    assert found["set_aside"] == [rows.column("window_id")[8].as_py()]
    assert found["num_windows"] == NUM_WINDOWS and found["won"].total() == NUM_WINDOWS - 1
    assert all(math.isfinite(loss) for _, loss in found["losses"])


def without_result(rows: pa.Table, windows: list[int]) -> pa.Table:
    """The rows as they are when some windows were set aside on their way."""
    is_gone = np.isin(np.arange(rows.num_rows), windows)
    places = pa.array(np.arange(rows.num_rows), mask=is_gone)
    for name in ("winner", "fused"):
        rows = rows.set_column(rows.column_names.index(name), name, rows.column(name).take(places))
    return rows


def test_windows_that_were_set_aside_on_their_way_are_done_with_and_nobody_learns_from_them(
    rows: pa.Table, tokenizer: ByteTokenizer, tmp_path: Path
) -> None:
    """Some of the first step, and all of the second."""
    gone = [1, 4, *range(BATCH, 2 * BATCH)]
    given = without_result(rows, gone)
    found, _ = in_processes(2, fit, make_task(tmp_path / "gone", tokenizer), given, NUM_WINDOWS)
    assert found["num_windows"] == NUM_WINDOWS and found["won"].total() == NUM_WINDOWS - len(gone)
    assert found["set_aside"] == [] and found["num_skipped"] == 0
    (_, first), (_, second), (_, third) = found["losses"]
    assert first > 0 and second == 0 and third > 0
    ledger = CheckpointStore(str(tmp_path / "gone" / "checkpoints")).open(3).ledger()
    assert ledger.num_windows == NUM_WINDOWS and ledger.is_done(0)


def rare_token(rows: pa.Table) -> tuple[int, int]:
    """A token that only one window holds, not at its end, and that window."""
    ids = pc.struct_field(rows.column("fused"), "ids").to_pylist()
    seen = Counter(token for window in ids for token in set(window))
    return next((token, i) for i, window in enumerate(ids) for token in window[1:-1] if seen[token] == 1)


@pytest.mark.parametrize("zero_stage", [0, 2, 3])
def test_a_window_with_a_broken_loss_is_set_aside_and_its_step_is_made_without_it(
    rows: pa.Table, tokenizer: ByteTokenizer, tmp_path: Path, zero_stage: int
) -> None:
    token, window = rare_token(rows)
    task = make_task(tmp_path, tokenizer, zero_stage=zero_stage)
    found, _ = in_processes(2, fit, task, rows, NUM_WINDOWS, token)
    assert found["set_aside"] == [rows.column("window_id")[window].as_py()]
    assert all(math.isfinite(loss) for _, loss in found["losses"])
    assert found["num_skipped"] == 0


def stop(task: TrainingTask, rows: pa.Table, poisoned_token: int | None) -> str:
    """Why a training stops."""
    with pytest.raises(StreamError) as caught:
        fit(task, rows, NUM_WINDOWS, poisoned_token)
    return str(caught.value)


def test_too_many_broken_windows_stop_all_workers(rows: pa.Table, tokenizer: ByteTokenizer, tmp_path: Path) -> None:
    start_token = tokenizer.start_id  # every window begins with it
    task = make_task(tmp_path, tokenizer, max_bad_windows=2)
    problems = in_processes(2, stop, task, rows, start_token)
    assert problems[0] == problems[1]
    assert problems[0].startswith("step 1: 6 windows had targets or losses that are not finite, more than max_bad_")


def test_a_checkpoint_that_cannot_be_written_stops_all_workers(
    rows: pa.Table, tokenizer: ByteTokenizer, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    task = make_task(tmp_path, tokenizer, checkpoints={"every_steps": 1, "directory": str(tmp_path / "file" / "sub")})
    problems = in_processes(2, stop, task, rows, None)
    assert all("cannot write" in problem for problem in problems)


def test_the_weight_of_the_parts_follows_its_ramp(rows: pa.Table, tokenizer: ByteTokenizer, tmp_path: Path) -> None:
    plain = make_task(tmp_path / "plain", tokenizer, clm_weight=1)
    ramp = make_task(tmp_path / "ramp", tokenizer, clm_weight={"start": 0, "end": 1})
    plain_losses, ramp_losses = in_processes(1, fit_each, [plain, ramp], rows)[0]
    assert plain_losses != ramp_losses


def test_sources_are_flattened_as_far_as_the_run_is(rows: pa.Table, tokenizer: ByteTokenizer, tmp_path: Path) -> None:
    """The first step ends with a third of the text, the last one with all of it."""
    temperatures = {"ramp": {"start": 4, "end": 1}, "third": 3, "none": 1}
    tasks = [
        make_task(tmp_path / name, tokenizer, source_temperature=temperature, warmup=0, learning_rate=1e-12)
        for name, temperature in temperatures.items()
    ]
    ramp, third, none = map(dict, in_processes(1, fit_each, tasks, rows)[0])
    assert ramp[1] == pytest.approx(third[1], abs=1e-6) and abs(ramp[1] - none[1]) > 1e-3
    assert ramp[3] == pytest.approx(none[3], abs=1e-6) and abs(ramp[2] - third[2]) > 1e-3
