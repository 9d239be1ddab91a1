"""Documents in files: JSON lines, Parquet and plain text on any file system that pyarrow reaches.

Files are divided into pieces that can be read independently: byte ranges of JSON lines, row groups of Parquet, whole
files otherwise. A document belongs to the piece in which it begins, so pieces lose and repeat none.
"""

import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Literal

import pyarrow.parquet as pq
from pyarrow import fs

from pta_ray.config import TextSource
from pta_ray.errors import JobError, first_line

_COMPRESSED = {".gz", ".bz2", ".zst", ".lz4", ".br"}
_COMPRESSION_RATIO = 4  # only for the display and the learning-rate schedule: text shrinks about that much
_READ_AHEAD = 1 << 20

Format = Literal["lines", "parquet", "plain"]


@dataclass(frozen=True)
class Piece:
    """A part of one file."""

    source: TextSource
    file: str
    """Path within the source's file system."""
    start: int
    """First byte, or the row group of a Parquet file."""
    size: int
    """Bytes of the piece (of the text column in Parquet); an estimate for compressed files."""


@dataclass(frozen=True)
class Document:
    """One document, or what stands in its place in the file."""

    document_id: str
    """File and place in it, the same in every run."""
    text: str
    size: int
    """Its bytes in the file, in the unit of `Piece.size`."""
    problem: str = ""
    """Why there is no text."""


def find_pieces(field: str, source: TextSource) -> list[Piece]:
    """The pieces of a source as its files give them, in the order of the files; JSON lines are one piece a file.

    Raises:
        JobError: there is nothing at its path, nothing in it, or no such text column.
    """
    system, files = _list_files(field, source)
    pieces = []
    for info in files:
        if _is_compressed(info.path):
            pieces.append(Piece(source, info.path, 0, info.size * _COMPRESSION_RATIO))
        elif _format_of(info.path) == "parquet":
            pieces.extend(_row_groups(field, source, system, info.path))
        else:
            pieces.append(Piece(source, info.path, 0, info.size))
    _check_first_document(field, source, pieces)
    return pieces


def divide(piece: Piece, piece_bytes: int) -> list[Piece]:
    """Cuts a piece into smaller ones where its format allows it: lines of an uncompressed file."""
    if _format_of(piece.file) != "lines" or _is_compressed(piece.file):
        return [piece]
    end = piece.start + piece.size
    starts = range(piece.start, end, max(piece_bytes, 1))
    return [Piece(piece.source, piece.file, at, min(piece_bytes, end - at)) for at in starts]


def read(piece: Piece) -> Iterator[Document]:
    """The documents of a piece; bytes that are not UTF-8 become U+FFFD, unreadable documents carry their problem."""
    system, _ = file_system(piece.source.path)
    match _format_of(piece.file):
        case "parquet":
            yield from _read_row_group(system, piece)
        case "lines":
            yield from _read_lines(system, piece)
        case _:
            with system.open_input_stream(piece.file) as stream:
                yield Document(piece.file, stream.read().decode(errors="replace"), piece.size)


def file_system(path: str) -> tuple[fs.FileSystem, str]:
    """The file system of a path or URI, and the path within it."""
    if path.startswith("hf://"):
        from huggingface_hub import HfFileSystem

        return fs.PyFileSystem(fs.FSSpecHandler(HfFileSystem())), path.removeprefix("hf://")
    if "://" in path:
        system, inner = fs.FileSystem.from_uri(path)
        return system, inner
    return fs.LocalFileSystem(), path


def _list_files(field: str, source: TextSource) -> tuple[fs.FileSystem, list[fs.FileInfo]]:
    try:
        system, path = file_system(source.path)
        info = system.get_file_info(path)
        if info.type == fs.FileType.NotFound:
            raise JobError(f"{field}.path", f"there is no file or directory at {source.path}")
        found = [info] if info.is_file else system.get_file_info(fs.FileSelector(path, recursive=True))
    except JobError:
        raise
    except Exception as error:  # the hub's file system raises those of its transport
        raise JobError(f"{field}.path", f"cannot read {source.path} ({first_line(error)})") from None
    files = [f for f in sorted(found, key=lambda f: str(f.path)) if f.is_file and f.size and f.base_name[0] not in "._"]
    if not files:
        raise JobError(f"{field}.path", f"{source.path} holds no text: it is empty")
    return system, files


def _check_first_document(field: str, source: TextSource, pieces: list[Piece]) -> None:
    for piece in pieces:
        for document in read(piece):
            if document.problem:
                raise JobError(f"{field}.text_column", f"{document.document_id}: {document.problem}")
            if document.text.strip():
                return
    raise JobError(f"{field}.path", f"{source.path} holds no text: every document is empty")


def _format_of(file: str) -> Format:
    suffixes = [suffix.lower() for suffix in PurePosixPath(file).suffixes]
    suffix = next((s for s in reversed(suffixes) if s not in _COMPRESSED), "")
    if suffix in {".jsonl", ".ndjson", ".json"}:
        return "lines"
    return "parquet" if suffix in {".parquet", ".pq"} else "plain"


def _is_compressed(file: str) -> bool:
    return PurePosixPath(file).suffix.lower() in _COMPRESSED


def _row_groups(field: str, source: TextSource, system: fs.FileSystem, file: str) -> Iterator[Piece]:
    try:
        metadata = pq.read_metadata(file, filesystem=system)
    except (OSError, ValueError) as error:
        raise JobError(f"{field}.path", f"cannot read {file} ({error})") from None
    columns = [metadata.schema.column(i).path for i in range(metadata.num_columns)]
    if source.text_column not in columns:
        raise JobError(f"{field}.text_column", _no_column(source.text_column, columns))
    at = columns.index(source.text_column)
    for group in range(metadata.num_row_groups):
        yield Piece(source, file, group, metadata.row_group(group).column(at).total_uncompressed_size)


def _read_row_group(system: fs.FileSystem, piece: Piece) -> Iterator[Document]:
    column = piece.source.text_column
    with pq.ParquetFile(piece.file, filesystem=system) as parquet:
        row = 0
        for batch in parquet.iter_batches(64, row_groups=[piece.start], columns=[column]):
            for value in batch.column(0).to_pylist():
                yield _document(f"{piece.file}#{piece.start}.{row}", value, None)
                row += 1


def _read_lines(system: fs.FileSystem, piece: Piece) -> Iterator[Document]:
    if _is_compressed(piece.file):
        with system.open_input_stream(piece.file) as stream:
            yield from _parse_lines(io.BufferedReader(stream, _READ_AHEAD), piece, 0, 1 << 62)
        return
    with system.open_input_file(piece.file) as file:
        at = max(piece.start - 1, 0)
        file.seek(at)
        reader = io.BufferedReader(file, _READ_AHEAD)
        if piece.start:
            at += len(reader.readline())  # the rest of a line that began before, or the newline that ended one
        yield from _parse_lines(reader, piece, at, piece.start + piece.size)


def _parse_lines(reader: io.BufferedReader, piece: Piece, at: int, end: int) -> Iterator[Document]:
    while at < end and (line := reader.readline()):
        if line.strip():
            yield _parse_line(f"{piece.file}#{at}", line, piece.source.text_column)
        at += len(line)


def _parse_line(document_id: str, line: bytes, column: str) -> Document:
    try:
        row = json.loads(line.decode(errors="replace"))
    except ValueError as error:
        return Document(document_id, "", len(line), f"not a line of JSON ({error})")
    if not isinstance(row, dict) or column not in row:
        columns = list(row) if isinstance(row, dict) else []
        return Document(document_id, "", len(line), _no_column(column, columns))
    return _document(document_id, row[column], len(line))


def _document(document_id: str, value: Any, size: int | None) -> Document:
    if value is not None and not isinstance(value, str):
        return Document(document_id, "", size or 0, f"the text is of type {type(value).__name__}, not a string")
    # JSON can spell half of a surrogate pair, which no UTF-8 text can hold.
    text = (value or "").encode(errors="replace").decode()
    return Document(document_id, text, len(text.encode()) if size is None else size)


def _no_column(column: str, columns: list[str]) -> str:
    return f"there is no column {column!r}; there are: {', '.join(columns) or 'none'}"
