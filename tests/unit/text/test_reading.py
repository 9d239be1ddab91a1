"""The reading stage without Ray: which windows come out, in which order."""

import json
from pathlib import Path

import pyarrow as pa
import pytest

from pta_ray.config import Data
from pta_ray.text.reading import ReadPlan, WindowReader, plan_reads
from pta_ray.tokenizers.byte_tokenizer import ByteTokenizer


class Reports:
    """Takes what the reader sets aside."""

    def __init__(self) -> None:
        self.found: list[tuple[str, str]] = []

    def set_aside(self, what: str, reason: str) -> None:
        self.found.append((what, reason))


@pytest.fixture
def data(tmp_path: Path) -> Data:
    for name, count in (("many", 900), ("few", 300), ("held", 20)):
        lines = [json.dumps({"text": f"{name} document number {i}. " * 5}) for i in range(count)]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines))
    train = [str(tmp_path / "many.jsonl"), str(tmp_path / "few.jsonl")]
    return Data(train=train, held_out=[str(tmp_path / "held.jsonl")], window_tokens=64, epochs=2, seed=3)


def read_all(plan: ReadPlan, tokenizer: ByteTokenizer, reports: Reports | None = None) -> list[dict]:
    reader = WindowReader(plan, tokenizer, 64, reports or Reports())  # type: ignore[arg-type]
    tables = [table for i in range(len(plan.tasks)) for table in reader(pa.table({"id": [i]}))]
    return pa.concat_tables(tables).to_pylist()


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
    (tmp_path / "text.jsonl").write_text('{"text": "sound"}\n{broken\n')
    reports = Reports()
    rows = read_all(plan_reads(Data(train=[str(tmp_path / "text.jsonl")])), byte_level, reports)
    assert [row["text"] for row in rows] == [b"sound"]
    assert len(reports.found) == 1 and "JSON" in reports.found[0][1]
