"""The text that an inspection is asked for."""

from pathlib import Path

from pta_ray.errors import JobError


def given_text(text: str | None, file: Path | None) -> str:
    """The text itself, or what a file holds, its line ends as they are.

    Raises:
        JobError: neither or both are given, or it is no text; names the option.
    """
    if (text is None) == (file is None):
        raise JobError("--text", "give either --text or --file")
    if file is None:
        # The shell may have handed over bytes that are no UTF-8.
        option, data = "--text", (text or "").encode("utf-8", "surrogateescape")
    else:
        option, data = "--file", _read(file)
    if not data:
        raise JobError(option, "is empty; give some text")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise JobError(option, f"is not UTF-8 (byte {error.start}); convert it") from None


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise JobError("--file", f"cannot read {file}: {error.strerror}") from None
