import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pta_ray.text.windows import cut, cut_for_all
from pta_ray.tokenizers.byte_tokenizer import ByteTokenizer

KINDS = ["byte_level", "sentencepiece"]


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(document=st.text(max_size=400), max_tokens=st.integers(6, 40))
def test_windows_joined_are_the_document(
    tokenizers: dict[str, ByteTokenizer], kind: str, document: str, max_tokens: int
) -> None:
    check(tokenizers[kind], document, max_tokens)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "document",
    ["x" * (1 << 20), "\0" * 3000, "👍🏽" * 900, "e\u0301" * 900, "word " * 3000],
    ids=["line", "nul", "emoji", "combining", "words"],
)
def test_long_documents_without_breaks(tokenizers: dict[str, ByteTokenizer], kind: str, document: str) -> None:
    check(tokenizers[kind], document, 128)


def check(tokenizer: ByteTokenizer, document: str, max_tokens: int) -> None:
    windows = list(cut(document, tokenizer, max_tokens))
    assert b"".join(window.text for window in windows) == document.encode()
    assert [window.ends_document for window in windows] == [False] * (len(windows) - 1) + [True] * bool(windows)
    start = 0
    for window in windows:
        assert window.start == start
        start += len(window.text)
        text = window.text.decode()  # on character boundaries
        [ids] = tokenizer.encode([text])
        assert len(ids) + 2 <= max_tokens or len(text) == 1


def test_cuts_prefer_line_ends(byte_level: ByteTokenizer) -> None:
    windows = list(cut("some words here\n" * 100, byte_level, 64))
    assert all(window.text.endswith(b"\n") for window in windows)


def test_an_empty_document_has_no_window(byte_level: ByteTokenizer) -> None:
    assert list(cut("", byte_level, 64)) == []


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    document=st.text(max_size=300),
    most=st.tuples(st.integers(6, 60), st.integers(6, 60)),
    max_bytes=st.integers(4, 200),
)
def test_windows_for_all_fit_every_model(
    tokenizers: dict[str, ByteTokenizer], document: str, most: tuple[int, int], max_bytes: int
) -> None:
    readers = list(zip((tokenizers[kind] for kind in KINDS), most, strict=True))
    windows = list(cut_for_all(document, readers, max_bytes))
    assert b"".join(window.text for window in windows) == document.encode()
    for window in windows:
        text = window.text.decode()
        fits = all(len(tokenizer.encode([text])[0]) + 2 <= limit for tokenizer, limit in readers)
        assert (fits and len(window.text) <= max_bytes) or len(text) == 1


def test_windows_for_all_are_as_long_as_they_may_be(byte_level: ByteTokenizer) -> None:
    """Their bytes bound them where every model has room, and so they depend on no model."""
    windows = list(cut_for_all("words " * 500, [(byte_level, 10_000)], 600))
    assert [len(window.text) for window in windows] == [600] * 5
