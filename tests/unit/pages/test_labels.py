"""Everything in a text can be seen, and symbols can be told from the characters that they look like."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pta_ray.pages.labels import LabelBook, is_right_to_left, label_of, plain


@pytest.mark.parametrize(
    ("data", "label"),
    [
        (b"", [""]),
        (b"word", ["word"]),
        (b" word", ["", "·", "word"]),
        (b"\n\t", ["", "␊␉"]),
        (b"a\r\nb", ["a", "␍␊", "b"]),
        ("␊".encode(), ["␊"]),
        ("日".encode()[:1], ["", "⟨E6⟩"]),
        ("日".encode()[1:], ["", "⟨97⟩⟨A5⟩"]),
        ("日本".encode()[:-1], ["日", "⟨E6⟩⟨9C⟩"]),
        ("\u0301x".encode(), ["", "◌\u0301", "x"]),
        ("e\u0301".encode(), ["e\u0301"]),
        ("a\u202eb".encode(), ["a", "⟨U+202E⟩", "b"]),
        ("\u00a0".encode(), ["", "⟨U+00A0⟩"]),
        ("👨\u200d👩".encode(), ["👨\u200d👩"]),
        ("\u200d👩".encode(), ["", "⟨U+200D⟩", "👩"]),
        ("\ufe0f".encode(), ["", "⟨U+FE0F⟩"]),
        ("שלום".encode(), ["שלום"]),
    ],
)
def test_labels(data: bytes, label: list[str]) -> None:
    assert label_of(data) == label


@given(st.binary(max_size=12) | st.text(max_size=12).map(lambda text: text.encode(errors="surrogatepass")))
def test_nothing_in_a_label_is_invisible_or_turns_its_neighbours_around(data: bytes) -> None:
    label = label_of(data)
    assert all(label[1:]), "only the plain text in front may be empty"
    for char in plain(label):
        assert char in "\u200c\u200d" or unicodedata.category(char) not in {"Cc", "Cf", "Cs", "Zl", "Zp", "Zs"}
    assert plain(label).encode().decode() == plain(label)


@given(st.text(alphabet=st.characters(whitelist_categories=["Lu", "Ll", "Lo", "Nd", "Po"]), min_size=1))
def test_visible_text_is_its_own_label(text: str) -> None:
    assert label_of(text.encode()) == [text]


@pytest.mark.parametrize(
    ("line", "expected"), [("12: שלום world", True), ("abc שלום", False), ("مرحبا", True), ("123", False), ("", False)]
)
def test_a_line_takes_the_direction_of_its_first_strong_character(line: str, expected: bool) -> None:
    assert is_right_to_left(line) is expected


def test_a_label_is_kept_once() -> None:
    book = LabelBook()
    assert [book.of_bytes(b"a"), book.of_symbol("end"), book.of_bytes(b"a"), book.of_bytes(b"end")] == [0, 1, 0, 2]
    assert book.labels == [["a"], ["", "⟨end⟩"], ["end"]]


def test_the_rest_of_a_character_is_one_symbol() -> None:
    book = LabelBook()
    for data in (b"", b"a b", b" a"):
        book.of_bytes(data, follows_part=True)
    assert book.labels == [["", "⋯"], ["", "⋯", "a", "·", "b"], ["", "⋯·", "a"]]
