"""The text of an inspection, and what cannot be one."""

from pathlib import Path

import pytest

from pta_ray.errors import JobError
from pta_ray.inspection.text import given_text


def test_line_ends_stay_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "text").write_bytes("a\r\nø".encode())
    assert given_text(None, tmp_path / "text") == "a\r\nø" == given_text("a\r\nø", None)


@pytest.mark.parametrize(
    ("text", "content", "expected"),
    [
        (None, None, "--text: give either"),
        ("a", b"b", "--text: give either"),
        ("", None, "--text: is empty"),
        (None, b"", "--file: is empty"),
        (None, b"ab\xff", r"--file: is not UTF-8 \(byte 2\)"),
        ("ab\udcff", None, r"--text: is not UTF-8 \(byte 2\)"),
    ],
)
def test_what_is_no_text_is_refused(tmp_path: Path, text: str | None, content: bytes | None, expected: str) -> None:
    file = tmp_path / "text" if content is not None else None
    if file is not None:
        file.write_bytes(content or b"")
    with pytest.raises(JobError, match=expected):
        given_text(text, file)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(JobError, match=r"--file: cannot read .*missing: No such file"):
        given_text(None, tmp_path / "missing")
