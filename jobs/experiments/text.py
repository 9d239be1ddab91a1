"""The experiment's text: four domains, one of them code, one not English, one that the target has never read.

`python` is the standard library and `english` the documentation of installed packages, as in the demo; `german` are the
manual pages of Debian's `manpages-de`, without their markup, and `quotes` the sayings of its `fortunes`. Both packages
are downloaded with `apt-get`, which needs no rights for that, and are only unpacked.
"""

import gzip
import hashlib
import re
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from jobs.demo.corpus import Sizes, deduplicated, write_sets
from jobs.demo.documents import Document, english_documents, python_documents
from jobs.demo.files import atomic_folder

DOMAINS = ("python", "english", "german", "quotes")

MAX_BYTES = 6_000_000
"""Of each domain."""

_HELD_OUT = {"held_out": 80_000, "held_out_piece": 2_500}
_FUSE = {"fuse": 140_000, "fuse_piece": 5_000}
SIZES = {
    "python": Sizes(target=150_000, **_HELD_OUT, **_FUSE),
    "english": Sizes(target=1_200_000, **_HELD_OUT, **_FUSE),
    "german": Sizes(target=100_000, **_HELD_OUT, **_FUSE),
    "quotes": Sizes(target=0, **_HELD_OUT, **_FUSE),
}
"""What the target has read before is mostly English, and no quotes at all."""

QUOTES_PER_DOCUMENT = 12

_REQUEST = re.compile(r"^[.']\s*(\w+|\\\")?[ \t]*(.*)$")
_KEPT_REQUESTS = {"SH", "SS", "B", "I", "BR", "RB", "IR", "RI", "BI", "IB", "IP", "TP", "Nm", "Fl", "Ar"}
_ESCAPES = (
    (re.compile(r"\\\".*"), ""),
    (re.compile(r"\\f(\(..|\[[^]]*\]|.)|\\s[-+]?\d+|\\[&/,|^%:]"), ""),
    (re.compile(r"\\\((..)|\\\[(\w+)\]"), lambda found: _GLYPHS.get(found[1] or found[2], "")),
    (re.compile(r"\\([-. e~0])"), lambda found: _CHARACTERS[found[1]]),
    (re.compile(r"\\\*\(?.{1,2}|\\[a-zA-Z]('[^']*')?"), ""),
)
_GLYPHS = {
    "aq": "'",
    "dq": '"',
    "cq": "'",
    "oq": "'",
    "lq": '"',
    "rq": '"',
    "en": "-",
    "em": "-",
    "bu": "*",
    "co": "(c)",
}
_CHARACTERS = {"-": "-", ".": ".", " ": " ", "e": "\\", "~": " ", "0": " "}


def make_text(folder: Path) -> None:
    """Collects all domains, without near-duplicates, and writes the sets of documents of each as the demo does, unless
    that has been done."""
    if folder.exists():
        return
    with atomic_folder(folder) as unfinished:
        _write_text(unfinished)


def _write_text(folder: Path) -> None:
    with tempfile.TemporaryDirectory() as name:
        unpacked = Path(name)
        download(("manpages-de", "fortunes"), unpacked)
        collected = {
            "python": deduplicated(python_documents(), None, MAX_BYTES),
            "english": deduplicated(english_documents(), "\n\n", MAX_BYTES),
            "german": deduplicated(german_documents(unpacked), "\n", MAX_BYTES),
            "quotes": deduplicated(quote_documents(unpacked), "\n\n", MAX_BYTES),
        }
    write_sets(folder, collected, SIZES)


def download(packages: Sequence[str], folder: Path) -> None:
    """Downloads Debian packages and unpacks them into a folder; nothing is installed."""
    try:
        subprocess.run(["apt-get", "download", "--quiet", *packages], cwd=folder, check=True)
        for package in folder.glob("*.deb"):
            subprocess.run(["dpkg-deb", "--extract", package, folder], check=True)
    except (FileNotFoundError, subprocess.CalledProcessError) as error:
        raise SystemExit(f"the text needs Debian's packages {', '.join(packages)} ({error})") from None


def german_documents(unpacked: Path) -> Iterator[Document]:
    """One manual page a document, in an order that depends on the names alone."""
    pages = (unpacked / "usr/share/man/de").rglob("*.gz")
    files = sorted((page for page in pages if not page.is_symlink()), key=lambda page: _hash(page.name))
    for page in files:
        text = plain_text(gzip.decompress(page.read_bytes()).decode("utf-8", errors="replace"))
        yield Document(text, f"german/{page.name}", "german")


def plain_text(page: str) -> str:
    """What a manual page says: lines of text are kept and those of a paragraph put together, requests are dropped but
    for headings and words in bold or italics."""
    paragraphs: list[list[str]] = [[]]
    for line in page.splitlines():
        request = _REQUEST.match(line)
        kept = line
        if request:
            kept = request[2].replace('"', "") if request[1] in _KEPT_REQUESTS else ""
            if request[1] in {"PP", "P", "LP", "TP", "IP", "SH", "SS", "Pp", "Sh"} or not kept:
                paragraphs.append([])
        for pattern, replacement in _ESCAPES:
            kept = pattern.sub(replacement, kept)
        if kept.strip():
            paragraphs[-1].append(" ".join(kept.split()))
    return "\n".join(" ".join(lines) for lines in paragraphs if lines)


def quote_documents(unpacked: Path) -> Iterator[Document]:
    """Some sayings of one file a document, in an order that depends on the files alone."""
    for path in sorted((unpacked / "usr/share/games/fortunes").glob("*.u8")):
        text = path.read_text(encoding="utf-8", errors="replace").expandtabs()
        sayings = [saying.strip() for saying in re.split(r"(?m)^%$", text) if saying.strip()]
        for first in range(0, len(sayings), QUOTES_PER_DOCUMENT):
            joined = "\n\n".join(sayings[first : first + QUOTES_PER_DOCUMENT])
            yield Document(joined, f"quotes/{path.stem}/{first}", "quotes")


def _hash(name: str) -> bytes:
    return hashlib.sha256(name.encode()).digest()
