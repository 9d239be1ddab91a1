"""The demo's text: three domains, taken from what is installed beside pta-ray.

`python` is the standard library, `english` the documentation of installed packages, `translations` the message
catalogues of Django. Documents are cleaned of duplicates first and split afterwards, each document as a whole, into
the sets named in `write_corpus`.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from jobs.demo.documents import Document, catalogue_documents, english_documents, python_documents

DOMAINS = ("python", "english", "translations")

NOT_IN_KEYS = re.compile(r"[^\w\n]+|[\d_]+")

MIN_DOCUMENT_BYTES = 500
MIN_KEY_LETTERS = 12
MAX_SEEN_SHARE = 0.3
"""A document is a near-duplicate when earlier ones hold more than this share of its bytes, counted by lines."""

COLLECTED_BYTES = 2_000_000
"""How much text of a domain is collected at most; these are all bytes of UTF-8."""


@dataclass(frozen=True)
class Sizes:
    """How much text of a domain goes into a set, and how much of one document at most, in bytes of UTF-8."""

    target: int
    held_out: int = 44_000
    held_out_piece: int = 4_000
    fuse: int = 110_000
    fuse_piece: int = 12_000
    target_piece: int = 30_000


SIZES = {"python": Sizes(110_000), "english": Sizes(900_000), "translations": Sizes(60_000)}


def line_keys(text: str) -> list[str]:
    """For every line what it has in common with lines that differ only in spacing, case, digits or punctuation."""
    return NOT_IN_KEYS.sub("", text).lower().splitlines()


def seen_share(text: str, seen: set[str]) -> float:
    """The share of a text's letters on lines that are in `seen`; lines too short to tell are left out."""
    keys = [key for key in line_keys(text) if len(key) >= MIN_KEY_LETTERS]
    total = sum(map(len, keys))
    return sum(len(key) for key in keys if key in seen) / total if total else 0.0


def without_seen_parts(document: Document, separator: str, seen: set[str]) -> Document:
    """The document without those parts (paragraphs, messages) that were seen before; adds its own to `seen`."""
    kept = []
    for part in document.text.split(separator):
        key = " ".join(line_keys(part))
        if key not in seen:
            seen.add(key)
            kept.append(part)
    return Document(separator.join(kept), document.id, document.domain)


def deduplicated(
    documents: Iterable[Document], separator: str | None, max_bytes: int = COLLECTED_BYTES
) -> list[Document]:
    """The first documents that are not (near-)duplicates of earlier ones, as many as are to be collected.

    Given a separator, documents lose the parts (paragraphs, messages) that were seen before.
    """
    seen_parts: set[str] = set()
    seen_lines: set[str] = set()
    kept: list[Document] = []
    total = 0
    for document in documents:
        if total >= max_bytes:
            break
        unique = without_seen_parts(document, separator, seen_parts) if separator else document
        if unique.num_bytes < MIN_DOCUMENT_BYTES or seen_share(unique.text, seen_lines) > MAX_SEEN_SHARE:
            continue
        seen_lines.update(line_keys(unique.text))
        kept.append(unique)
        total += unique.num_bytes
    return kept


def first_piece(document: Document, max_bytes: int) -> Document:
    """The document's first lines, as many as fit; its first line at least."""
    lines = document.text.splitlines(keepends=True)
    size, count = 0, 0
    for line in lines:
        size += len(line.encode())
        if size > max_bytes and count:
            break
        count += 1
    return Document("".join(lines[:count]), document.id, document.domain)


def take_pieces(documents: list[Document], max_bytes: int, max_piece: int) -> tuple[list[Document], list[Document]]:
    """Splits documents in two: pieces of the first ones up to a total of about `max_bytes`, and the whole rest."""
    taken: list[Document] = []
    total = 0
    for document in documents:
        if total >= max_bytes:
            break
        taken.append(first_piece(document, max_piece))
        total += taken[-1].num_bytes
    return taken, documents[len(taken) :]


def split_domain(documents: list[Document], sizes: Sizes) -> dict[str, list[Document]]:
    """The sets of one domain, see `write_corpus`."""
    shuffled = sorted(documents, key=lambda document: hashlib.sha256(document.id.encode()).digest())
    held_out, train = take_pieces(shuffled, sizes.held_out, sizes.held_out_piece)
    train_lines = {key for document in train for key in line_keys(document.text)}
    held_out = [document for document in held_out if seen_share(document.text, train_lines) <= MAX_SEEN_SHARE]
    fuse, rest = take_pieces(train, sizes.fuse, sizes.fuse_piece)
    target, _ = take_pieces(rest, sizes.target, sizes.target_piece)
    return {"train": train, "held_out": held_out, "fuse": fuse, "rest": rest, "target": target}


def write_corpus(folder: Path) -> None:
    """Collects the demo's three domains and writes their sets."""
    collected = {
        "python": deduplicated(python_documents(), None),
        "english": deduplicated(english_documents(), "\n\n"),
        "translations": deduplicated(catalogue_documents(), "\n"),
    }
    write_sets(folder, collected, SIZES)


def write_sets(folder: Path, collected: Mapping[str, list[Document]], sizes: Mapping[str, Sizes]) -> None:
    """Writes `<set>/<domain>.jsonl` for every domain and the sets of documents.

    `held_out` is for measuring and shares no document with the others; `train` is all other text; `fuse` (what the
    target learns from when fused) and `target` (what it has learned from before) are two parts of `train` that share no
    document; `rest` is `train` without `fuse`.
    """
    for domain, documents in collected.items():
        for name, chosen in split_domain(documents, sizes[domain]).items():
            path = folder / name / f"{domain}.jsonl"
            path.parent.mkdir(parents=True, exist_ok=True)
            lines = (json.dumps(asdict(document), ensure_ascii=False) + "\n" for document in chosen)
            path.write_text("".join(lines), encoding="utf-8")


def read_texts(path: Path) -> list[str]:
    """The texts of one JSONL file."""
    with path.open(encoding="utf-8") as file:
        return [json.loads(line)["text"] for line in file]
