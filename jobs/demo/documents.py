"""Reading the documents of the demo's three domains from what is installed on the machine."""

import gettext
import hashlib
import importlib.metadata
import importlib.util
import os
import re
import sysconfig
import tokenize
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from pydoc_data.topics import topics

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

MIN_PARAGRAPH_WORDS = 8
MIN_PLAIN_SHARE = 0.88


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
        raise SystemExit("the demo's text needs Django's message catalogues: pip install 'django==5.2.*'")
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


def in_hash_order(paths: Iterable[Path]) -> list[Path]:
    """A shuffle that depends on the names alone."""
    return sorted(paths, key=lambda path: hashlib.sha256(path.as_posix().encode()).digest())
