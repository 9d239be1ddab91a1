"""The reading stage without Ray: which windows come out, in which order."""

import itertools
import json
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pta_ray.board import Snapshot
from pta_ray.columns import WINDOW_SCHEMA
from pta_ray.config import Data
from pta_ray.ledger import Ledger
from pta_ray.text.documents import read
from pta_ray.text.reading import ReadPlan, WindowReader, plan_reads
from pta_ray.text.windows import cut
from pta_ray.tokenizers.byte_tokenizer import ByteTokenizer
from tests.unit.in_process import in_process


@pytest.fixture
def data(tmp_path: Path) -> Data:
    for name, count in (("many", 900), ("few", 300), ("held", 20)):
        lines = [json.dumps({"text": f"{name} document number {i}. " * 5}) for i in range(count)]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines))
    train = [str(tmp_path / "many.jsonl"), str(tmp_path / "few.jsonl")]
    return Data(train=train, held_out=[str(tmp_path / "held.jsonl")], window_tokens=64, epochs=2, seed=3)


def read_all(plan: ReadPlan, tokenizer: ByteTokenizer, ledger: Ledger | None = None) -> list[dict]:
    return read_and_report(plan, tokenizer, ledger)[0]


def read_and_report(
    plan: ReadPlan, tokenizer: ByteTokenizer, ledger: Ledger | None = None
) -> tuple[list[dict], Snapshot]:
    with in_process() as (telemetry, board):
        reader = WindowReader(plan, partial(cut, tokenizer=tokenizer, max_tokens=64), telemetry, ledger or Ledger())
        tables = [table for i in range(len(plan.tasks)) for table in reader(pa.table({"id": [i]}))]
    return pa.concat_tables([WINDOW_SCHEMA.empty_table(), *tables]).to_pylist(), board.snapshot()


def test_every_document_is_read_once_an_epoch(data: Data, byte_level: ByteTokenizer) -> None:
    rows = read_all(plan_reads(data), byte_level)
    trained = [row for row in rows if not row["held_out"]]
    ids = [row["window_id"] for row in trained]
    assert sorted(ids) == sorted([*set(ids), *set(ids)])  # two epochs
    documents = {row["window_id"].rsplit(":", 1)[0] for row in trained}
    assert len(documents) == 1200
    assert sum(row["share"] for row in trained) == pytest.approx(1, abs=0.01)


def test_held_out_text_comes_first_and_once(data: Data, byte_level: ByteTokenizer) -> None:
    plan = plan_reads(data)
    rows = read_all(plan, byte_level)
    held_out = [row for row in rows if row["held_out"]]
    assert rows[: len(held_out)] == held_out
    assert all(row["share"] == 0 and row["domain"] == "held" for row in held_out)
    assert [row["window_id"] for row in read_all(plan.held_out, byte_level)] == [row["window_id"] for row in held_out]


def test_the_order_depends_on_the_seed_alone(data: Data, byte_level: ByteTokenizer) -> None:
    def order(seed: int) -> list[str]:
        plan = plan_reads(data.model_copy(update={"seed": seed}))
        return [row["window_id"] for row in read_all(plan, byte_level)]

    assert order(1) == order(1) != order(2)


def test_every_stretch_mixes_the_sources(data: Data, byte_level: ByteTokenizer) -> None:
    rows = [row for row in read_all(plan_reads(data), byte_level) if not row["held_out"]]
    quarter = len(rows) // 4
    for begin in range(0, 3 * quarter + 1, quarter):
        share = sum(row["domain"] == "few" for row in rows[begin : begin + quarter]) / quarter
        assert 0.1 < share < 0.45  # a quarter of the text


def test_unreadable_documents_are_set_aside_with_their_reason(tmp_path: Path, byte_level: ByteTokenizer) -> None:
    lines = ['{"text": "sound"}\n', "{broken\n"]
    (tmp_path / "text.jsonl").write_text("".join(lines))
    plan = plan_reads(Data(train=[str(tmp_path / "text.jsonl")], epochs=2))
    rows, known = read_and_report(plan, byte_level)
    assert [row["text"] for row in rows] == [b"sound"] * 2
    found = known.set_aside[0]
    assert found.stage == "read" and "JSON" in found.reason and found.what.endswith(f"#{len(lines[0])}")
    assert found.share == pytest.approx(len(lines[1]) / (2 * sum(map(len, lines))))


def test_held_out_text_that_is_set_aside_is_no_part_of_the_training(tmp_path: Path, byte_level: ByteTokenizer) -> None:
    (tmp_path / "held.jsonl").write_text('{"text": "sound"}\n{broken\n')
    train = write_lines(tmp_path / "train.jsonl", ["sound"])
    _, known = read_and_report(plan_reads(Data(train=[train], held_out=[str(tmp_path / "held.jsonl")])), byte_level)
    assert [found.share for found in known.set_aside] == [0.0]


def write_lines(path: Path, texts: list[str]) -> str:
    path.write_text("\n".join(json.dumps({"text": text}) for text in texts))
    return str(path)


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> ReadPlan:
    """Held-out text and two epochs of training text, in documents so short that each task has many blocks of them."""
    folder = tmp_path_factory.mktemp("short")
    train = write_lines(folder / "train.jsonl", [f"number {i}" for i in range(1200)])
    held_out = write_lines(folder / "held.jsonl", [f"held out {i}" for i in range(300)])
    return plan_reads(Data(train=[train], held_out=[held_out], epochs=2, seed=5))


@pytest.fixture(scope="module")
def short_rows(short: ReadPlan, byte_level: ByteTokenizer) -> list[dict]:
    return read_all(short, byte_level)


def test_rows_are_numbered_in_the_order_in_which_a_task_yields_them(
    short: ReadPlan, short_rows: list[dict], byte_level: ByteTokenizer
) -> None:
    """Blocks of 256 in the order of the text, each shuffled by the one generator of its task."""
    assert len(short.tasks) > 3 and max(row["row"] for row in short_rows) > 512
    for task, found in itertools.groupby(short_rows, lambda row: row["task"]):
        random = np.random.default_rng([5, task])
        texts = [
            window.text
            for piece in short.tasks[task]
            for document in read(piece)
            for window in cut(document.text, byte_level, 64)
        ]
        blocks = [texts[first : first + 256] for first in range(0, len(texts), 256)]
        expected = [block[i] for block in blocks for i in random.permutation(len(block))]
        last = len(expected) - 1
        assert [(row["text"], row["row"], row["ends_task"]) for row in found] == [
            (text, i, i == last) for i, text in enumerate(expected)
        ]


@pytest.mark.parametrize("count", [1, 255, 256, 257, 512])
def test_the_last_window_ends_its_task_wherever_a_block_ends(
    tmp_path: Path, byte_level: ByteTokenizer, count: int
) -> None:
    plan = plan_reads(Data(train=[write_lines(tmp_path / "train.jsonl", ["a"] * count + [""])]))
    rows = read_all(plan, byte_level)
    assert len(plan.tasks) == 1 and [row["row"] for row in rows] == list(range(count))
    assert [row["row"] for row in rows if row["ends_task"]] == [count - 1]


def ledger_of(rows: list[dict]) -> Ledger:
    ledger = Ledger()
    ledger.add(
        np.array([row["task"] for row in rows], np.int32), np.array([row["row"] for row in rows], np.int32),
        np.array([row["ends_task"] for row in rows], np.bool_),
    )  # fmt: skip
    return ledger


@settings(max_examples=25)
@given(
    seed=st.integers(0, 2**32 - 1),
    share=st.sampled_from([0, 0.01, 0.5, 0.99, 1]),
    num_first=st.integers(0, 3000),
    num_done=st.integers(0, 6),
)
def test_what_a_ledger_holds_is_left_out_and_nothing_else(
    short: ReadPlan,
    short_rows: list[dict],
    byte_level: ByteTokenizer,
    seed: int,
    share: float,
    num_first: int,
    num_done: int,
) -> None:
    """Any of the rows, all at the start of the stream, whole tasks."""
    rows, random = short_rows, np.random.default_rng(seed)
    done = random.choice(len(short.tasks), min(num_done, len(short.tasks)), replace=False)
    in_ledger = random.random(len(rows)) < share
    in_ledger[:num_first] = True
    in_ledger |= np.isin([row["task"] for row in rows], done)
    ledger = ledger_of([row for row, is_in in zip(rows, in_ledger, strict=True) if is_in])
    expected = [row for row, is_in in zip(rows, in_ledger, strict=True) if not is_in]
    assert read_all(short, byte_level, ledger=ledger) == expected


def test_a_task_that_is_done_is_not_read(tmp_path: Path, byte_level: ByteTokenizer) -> None:
    gone, there = tmp_path / "gone.jsonl", tmp_path / "there.jsonl"
    held_out = [write_lines(gone, ["learned from"] * 9)]
    plan = plan_reads(Data(train=[write_lines(there, ["to be learned from"])], held_out=held_out))
    rows = read_all(plan, byte_level)
    gone.unlink()
    with pytest.raises(FileNotFoundError):
        read_all(plan, byte_level, ledger=ledger_of(rows[:8]))
    assert read_all(plan, byte_level, ledger=ledger_of(rows[:9])) == rows[9:]


def test_a_task_without_windows_yields_nothing(tmp_path: Path, byte_level: ByteTokenizer) -> None:
    path = write_lines(tmp_path / "train.jsonl", ["soon gone"])
    plan = plan_reads(Data(train=[path]))
    write_lines(tmp_path / "train.jsonl", ["", "", ""])
    assert read_all(plan, byte_level) == []


def fingerprint(data: Data) -> str:
    return plan_reads(data).fingerprint


def test_equal_plans_have_equal_fingerprints_in_every_process(data: Data) -> None:
    lines = [
        "import sys", "from pta_ray.config import Data", "from pta_ray.text.reading import plan_reads",
        "print(plan_reads(Data.model_validate_json(sys.argv[1])).fingerprint)",
    ]  # fmt: skip
    command = [sys.executable, "-c", "\n".join(lines), data.model_dump_json()]
    assert subprocess.check_output(command, text=True).strip() == fingerprint(data)


def test_another_plan_has_another_fingerprint(data: Data, tmp_path: Path) -> None:
    longer = tmp_path / "longer.jsonl"
    longer.write_text((tmp_path / "few.jsonl").read_text() + "\n{}")
    changes = [
        {"seed": 4}, {"epochs": 1}, {"held_out": []}, {"train": data.train[:1]}, {"train": data.train[::-1]},
        {"train": [data.train[0], {"path": str(longer)}]},
        {"train": [{"path": source.path, "text_column": "text "[: 4 + i]} for i, source in enumerate(data.train)]},
    ]  # fmt: skip
    (tmp_path / "few.jsonl").write_text("\n".join(['{"text": "a", "text ": "b"}'] * 900))
    plans = [data, *(Data.model_validate(data.model_dump() | change) for change in changes)]
    found = [fingerprint(plan) for plan in plans]
    assert len(set(found)) == len(found) and all(len(digest) == 64 for digest in found)
