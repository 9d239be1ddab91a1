"""Writing results so that an interrupted run leaves no half of one behind."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MEASURED = "bits_per_byte.json"
"""The file with a model's bits per byte, in its folder, and with those of all models, beside them."""


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """A new folder to write into, which takes its name `path` only once the block has succeeded.

    Where another process was quicker to make `path`, that one stays and this one is dropped.
    """
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    try:
        yield unfinished
        if not path.exists():
            unfinished.rename(path)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def write_atomically(path: Path, text: str) -> None:
    """Writes a text file that is either absent or whole."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.unfinished")
    unfinished.write_text(text, encoding="utf-8")
    unfinished.replace(path)
