import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from huggingface_hub import constants

from pta_ray.config import TextSource
from pta_ray.errors import JobError
from pta_ray.text.documents import divide, find_pieces, read

TEXTS = ["first", "", "zweites Dokument\nmit Zeilen", "日本語", "\0 nul", "x" * 500]


def write_lines(path: Path, texts: list[str]) -> TextSource:
    path.write_bytes(b"".join(json.dumps({"text": t, "n": i}).encode() + b"\n" for i, t in enumerate(texts)))
    return TextSource(path=str(path))


def texts_of(source: TextSource, piece_bytes: int = 1 << 30) -> list[str]:
    pieces = [part for piece in find_pieces("data", source) for part in divide(piece, piece_bytes)]
    return [document.text for piece in pieces for document in read(piece)]


@pytest.mark.parametrize("piece_bytes", [1, 7, 64, 1 << 20])
def test_byte_ranges_lose_and_repeat_no_line(tmp_path: Path, piece_bytes: int) -> None:
    source = write_lines(tmp_path / "text.jsonl", TEXTS)
    assert texts_of(source, piece_bytes) == TEXTS


def test_ids_do_not_depend_on_how_a_file_is_divided(tmp_path: Path) -> None:
    [piece] = find_pieces("data", write_lines(tmp_path / "text.jsonl", TEXTS))
    whole = [document.document_id for document in read(piece)]
    assert whole == [document.document_id for part in divide(piece, 10) for document in read(part)]
    assert len(set(whole)) == len(TEXTS)


def test_sizes_add_up_to_the_file(tmp_path: Path) -> None:
    source = write_lines(tmp_path / "text.jsonl", TEXTS)
    [piece] = find_pieces("data", source)
    assert sum(document.size for document in read(piece)) == piece.size == (tmp_path / "text.jsonl").stat().st_size


def test_parquet_compressed_lines_and_plain_text_in_one_directory(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": [*TEXTS, None]}), tmp_path / "a.parquet", row_group_size=2)
    with gzip.open(tmp_path / "b.jsonl.gz", "wb") as file:
        file.write(json.dumps({"text": "zipped"}).encode())
    (tmp_path / "c.txt").write_bytes(b"plain \xff\xfe bytes")
    source = TextSource(path=str(tmp_path))
    assert texts_of(source) == [*TEXTS, "", "zipped", "plain \ufffd\ufffd bytes"]
    assert texts_of(TextSource(path=tmp_path.as_uri())) == texts_of(source)


def test_unreadable_lines_carry_their_problem(tmp_path: Path) -> None:
    lines = [
        b'{"text": "good"}',
        b"{broken",
        b'{"other": 1}',
        b'{"text": 5}',
        b'{"text": "half \\ud83d"}',
        b'{"text": "\xff"}',
    ]
    (tmp_path / "text.jsonl").write_bytes(b"\n".join(lines))
    [piece] = find_pieces("data", TextSource(path=str(tmp_path / "text.jsonl")))
    documents = list(read(piece))
    assert [document.text for document in documents] == ["good", "", "", "", "half ?", "\ufffd"]
    assert ["JSON" in documents[1].problem, "'text'" in documents[2].problem, "int" in documents[3].problem] == [
        True
    ] * 3


@pytest.mark.parametrize(
    ("content", "column", "field", "mend"),
    [
        (None, "text", "data.path", "no file"),
        (b"", "text", "data.path", "empty"),
        (b'{"text": ""}\n{"text": "  "}\n', "text", "data.path", "empty"),
        (b'{"txt": "a"}', "text", "data.text_column", "there are: txt"),
    ],
)
def test_text_that_is_not_there_is_refused(
    tmp_path: Path, content: bytes | None, column: str, field: str, mend: str
) -> None:
    path = tmp_path / "text.jsonl"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(JobError) as caught:
        find_pieces("data", TextSource(path=str(path), text_column=column))
    assert caught.value.field == field and mend in caught.value.problem


def test_a_missing_parquet_column_is_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"body": ["x"]}), tmp_path / "a.parquet")
    with pytest.raises(JobError, match="there are: body"):
        find_pieces("data", TextSource(path=str(tmp_path / "a.parquet")))


def test_a_hub_that_does_not_answer_is_named_and_not_its_transport(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(JobError, match=r"^data\.train\.0\.path: cannot read hf://datasets/org/text \("):
        find_pieces("data.train.0", TextSource(path="hf://datasets/org/text"))
