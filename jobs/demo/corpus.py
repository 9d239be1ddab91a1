"""The demo's text: three domains, taken from what is installed beside pta-ray.

`python` is the standard library, `english` the documentation of installed packages, `translations` the message
catalogues of Django. Documents are cleaned of duplicates first and split afterwards, each document as a whole, into
the sets named in `write_corpus`.
"""

import gettext
import hashlib
import importlib.metadata
import importlib.util
import json
import os
import re
import sysconfig
import tokenize
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from pydoc_data.topics import topics

DOMAINS = ("python", "english", "translations")

LANGUAGES = (
    *("af", "ast", "ca", "da", "de", "eo", "es", "fr", "fy", "gl", "ia", "io"),
    *("is", "it", "lb", "nb", "nl", "nn", "pt", "pt_BR", "ro", "sv"),
)
"""Germanic and Romance languages, and constructed ones that borrow from them: all in Latin script."""

SKIPPED_PYTHON = {"test", "tests", "idle_test", "lib2to3", "site-packages", "dist-packages", "pydoc_data", "encodings"}
"""Folders of the standard library that hold test suites, other packages, prose or generated tables."""

SKIPPED_DOCUMENTATION = re.compile(
    r"licen[cs]e|notice|copying|authors|third.?party|3rdparty|dist-info|\btests?\b", re.I
)

NOT_IN_KEYS = re.compile(r"[^\w\n]+|[\d_]+")

MIN_DOCUMENT_BYTES = 500
MIN_KEY_LETTERS = 12
MIN_PARAGRAPH_WORDS = 8
MIN_PLAIN_SHARE = 0.88
MAX_SEEN_SHARE = 0.3
"""A document is a near-duplicate when earlier ones hold more than this share of its bytes, counted by lines."""


@dataclass(frozen=True)
class Limits:
    """How much text goes where, in bytes of UTF-8."""

    collected: int = 2_000_000
    held_out: int = 44_000
    held_out_piece: int = 4_000
    fuse: int = 235_000
    fuse_piece: int = 12_000
    target_python: int = 110_000
    target_english: int = 900_000
    target_translations: int = 60_000


@dataclass(frozen=True)
class Document:
    """One text with an id that is stable between machines which have the same packages installed."""

    text: str
    id: str
    domain: str

    @property
    def num_bytes(self) -> int:
        return len(self.text.encode())


def python_documents() -> Iterator[Document]:
    """The standard library's sources, one document a file, without its test suites."""
    root = Path(sysconfig.get_paths()["stdlib"])
    for path in in_hash_order(files_under(root, (".py",))):
        if SKIPPED_PYTHON.intersection(path.parts) or path.name.startswith("_sysconfigdata"):
            continue
        try:
            with tokenize.open(root / path) as file:
                text = file.read()
        except (SyntaxError, UnicodeDecodeError):
            continue
        yield Document(text, f"python/{path.as_posix()}", "python")


def english_documents() -> Iterator[Document]:
    """Prose about software: Python's help topics, packages' descriptions, documentation lying in packages."""
    for name, text in sorted(topics.items()):
        yield english_document(text, f"topics/{name}")

    metadata = {dist.name: dist.read_text("METADATA") or "" for dist in importlib.metadata.distributions()}
    for name, text in sorted(metadata.items()):
        yield english_document(text.partition("\n\n")[2], f"description/{name}")

    root = Path(sysconfig.get_paths()["purelib"])
    for path in sorted(files_under(root, (".md", ".rst", ".txt"))):
        if not SKIPPED_DOCUMENTATION.search(path.as_posix()):
            text = (root / path).read_text(encoding="utf-8", errors="ignore")
            yield english_document(text, f"documentation/{path.as_posix()}")


def files_under(root: Path, suffixes: tuple[str, ...]) -> list[Path]:
    """The files below a folder that have one of the suffixes, as paths from there, in no certain order."""
    walk = os.walk(root)
    return [
        Path(folder, name).relative_to(root) for folder, _, names in walk for name in names if name.endswith(suffixes)
    ]


def english_document(text: str, name: str) -> Document:
    """A document that keeps only those paragraphs of a text that read as prose."""
    paragraphs = (paragraph.strip() for paragraph in re.split(r"\n\s*\n", text))
    return Document("\n\n".join(filter(is_prose, paragraphs)), f"english/{name}", "english")


def is_prose(paragraph: str) -> bool:
    """Whether a paragraph is sentences rather than code, a table, badges or a list of links."""
    if len(re.findall(r"[A-Za-z]{2,}", paragraph)) < MIN_PARAGRAPH_WORDS or "://" in paragraph:
        return False
    plain = sum(character.isalpha() or character in " \n,.'`-" for character in paragraph)
    return plain > MIN_PLAIN_SHARE * len(paragraph)


def catalogue_documents() -> Iterator[Document]:
    """The messages of Django's catalogues in several languages, one document a catalogue, one message a line."""
    spec = importlib.util.find_spec("django")
    if spec is None or spec.origin is None:
        raise SystemExit(
            "the demo's third domain is made from Django's message catalogues: pip install 'django==5.2.*'"
        )
    root = Path(spec.origin).parent
    for language in LANGUAGES:
        for path in sorted(root.rglob(f"locale/{language}/LC_MESSAGES/*.mo")):
            name = path.relative_to(root).as_posix().replace("/LC_MESSAGES", "")
            yield Document("\n".join(translated_messages(path)), f"translations/{name}", "translations")


def translated_messages(path: Path) -> list[str]:
    """The translations in one catalogue, in the order of the original messages, without those left in English."""
    with path.open("rb") as file:
        messages: dict[str | tuple[str, int], str] = vars(gettext.GNUTranslations(file))["_catalog"]
    originals = {key[0] if isinstance(key, tuple) else key for key in messages}
    return [text.strip() for key, text in messages.items() if key and text not in originals and text.strip()]


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


def deduplicated(documents: Iterable[Document], separator: str | None, max_bytes: int) -> list[Document]:
    """The first documents that are not (near-)duplicates of earlier ones, as many as it takes to have `max_bytes`.

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


def in_hash_order(paths: Iterable[Path]) -> list[Path]:
    """A shuffle that depends on the names alone."""
    return sorted(paths, key=lambda path: hashlib.sha256(path.as_posix().encode()).digest())


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


def take(documents: list[Document], max_bytes: int, piece: int | None = None) -> tuple[list[Document], list[Document]]:
    """Splits documents in two: pieces of the first ones up to a total of about `max_bytes`, and the whole rest."""
    taken: list[Document] = []
    total = 0
    for document in documents:
        if total >= max_bytes:
            break
        taken.append(first_piece(document, piece) if piece else document)
        total += taken[-1].num_bytes
    return taken, documents[len(taken) :]


def split_domain(domain: str, documents: list[Document], limits: Limits) -> dict[str, list[Document]]:
    """The sets of one domain, see `write_corpus`."""
    shuffled = sorted(documents, key=lambda document: hashlib.sha256(document.id.encode()).digest())
    held_out, train = take(shuffled, limits.held_out, limits.held_out_piece)
    train_lines = {key for document in train for key in line_keys(document.text)}
    held_out = [document for document in held_out if seen_share(document.text, train_lines) <= MAX_SEEN_SHARE]
    fuse, rest = take(train, limits.fuse, limits.fuse_piece)
    target, _ = take(rest, getattr(limits, f"target_{domain}"))
    return {"train": train, "held_out": held_out, "fuse": fuse, "target": target}


def write_corpus(folder: Path, limits: Limits) -> None:
    """Writes `<set>/<domain>.jsonl` for every domain and the four sets of documents.

    `held_out` is for measuring and shares no document with the others; `train` is what a source model learns from;
    `fuse` (what the target learns from when fused) and `target` (what it has learned from before) are two parts of
    `train` that share no document.
    """
    collected = {
        "python": deduplicated(python_documents(), None, limits.collected),
        "english": deduplicated(english_documents(), "\n\n", limits.collected),
        "translations": deduplicated(catalogue_documents(), "\n", limits.collected),
    }
    for domain, documents in collected.items():
        for name, chosen in split_domain(domain, documents, limits).items():
            path = folder / name / f"{domain}.jsonl"
            path.parent.mkdir(parents=True, exist_ok=True)
            lines = (json.dumps(asdict(document), ensure_ascii=False) + "\n" for document in chosen)
            path.write_text("".join(lines), encoding="utf-8")


def read_texts(path: Path) -> list[str]:
    """The texts of one JSONL file."""
    with path.open(encoding="utf-8") as file:
        return [json.loads(line)["text"] for line in file]
