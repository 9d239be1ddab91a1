"""The nearest-token map against brute force and rapidfuzz."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rapidfuzz.distance import Levenshtein
from rapidfuzz.process import cdist

from pta_ray.alignment.vocabulary_map import VocabularyMap, load_vocabulary_map, vocabulary_map
from pta_ray.tokenizers.byte_table import ByteTable
from tests.real_vocabularies import sentencepiece_table, tekken_table
from tests.unit.alignment import toy

similar = st.text("abc\x00\xff", max_size=7).map(lambda text: text.encode("latin-1"))
long = st.text("abc", min_size=60, max_size=70).map(str.encode)
vocabularies = st.lists(st.one_of(similar, st.binary(max_size=4), long), max_size=25)


def common_prefix(x: bytes, y: bytes) -> int:
    return next((i for i, (a, b) in enumerate(zip(x, y, strict=False)) if a != b), min(len(x), len(y)))


def brute_force(source: ByteTable, target: ByteTable) -> tuple[list[bytes | None], list[bytes | None]]:
    """The bytes of each source token's piece and of its nearest token, None where there is none."""
    ys = [target.token(i) for i in target.sorted_ids_O]
    pieces: list[bytes | None] = []
    nearest: list[bytes | None] = []
    for x in map(source.token, range(source.size)):
        ends = b"" if target.eos_id >= 0 else None
        pieces.append(max((y for y in ys if x.startswith(y)), key=len, default=None) if x else ends)

        def key(y: bytes, x: bytes = x) -> tuple[Fraction, int, bytes]:
            return Fraction(Levenshtein.distance(x, y), max(len(x), len(y))), -common_prefix(x, y), y

        nearest.append(min(ys, key=key, default=None) if x else ends)
    return pieces, nearest


def named(ids_V: np.ndarray, target: ByteTable) -> list[bytes | None]:
    return [target.token(i) if i >= 0 else None for i in ids_V]


@given(vocabularies, vocabularies)
def test_the_map_agrees_with_brute_force(xs: list[bytes], ys: list[bytes]) -> None:
    source, target = toy.table(xs), toy.table(ys)
    found = vocabulary_map(source, target)
    assert (named(found.piece_V, target), named(found.nearest_V, target)) == brute_force(source, target)


@given(vocabularies, vocabularies, st.randoms())
def test_renumbering_either_vocabulary_changes_nothing(xs: list[bytes], ys: list[bytes], random: object) -> None:
    def spoken(xs: list[bytes], ys: list[bytes]) -> dict[bytes, tuple[bytes | None, bytes | None]]:
        target = toy.table(ys)
        found = vocabulary_map(toy.table(xs), target)
        return dict(
            zip(xs, zip(named(found.piece_V, target), named(found.nearest_V, target), strict=True), strict=True)
        )

    shuffled_xs, shuffled_ys = list(xs), list(ys)
    random.shuffle(shuffled_xs)  # type: ignore[attr-defined]
    random.shuffle(shuffled_ys)  # type: ignore[attr-defined]
    assert spoken(xs, ys) == spoken(shuffled_xs, shuffled_ys)


def test_of_tokens_with_equal_bytes_the_first_in_byte_order_is_named() -> None:
    target = toy.table([b"ab", b"b", b"ab"])
    found = vocabulary_map(toy.table([b"ab", b"abc", b"xab"]), target)
    assert found.piece_V.tolist() == [2, 2, -1]
    assert found.nearest_V.tolist() == [2, 2, 2]


def sample(table: ByteTable, num: int) -> ByteTable:
    ids = np.random.default_rng(0).choice(table.sorted_ids_O, num, replace=False)
    return toy.table([table.token(i) for i in ids])


@pytest.fixture(scope="module")
def real() -> tuple[ByteTable, ByteTable]:
    return sentencepiece_table(), tekken_table()


@pytest.mark.parametrize("turned", [False, True])
def test_distances_between_real_vocabularies_are_the_least(real: tuple[ByteTable, ByteTable], turned: bool) -> None:
    whole, target = real[::-1] if turned else real
    source = sample(whole, 300)
    xs, ys = ([table.token(i) for i in range(table.size)] for table in (source, target))
    nearest = named(vocabulary_map(source, target).nearest_V, target)
    expected = cdist(xs, [y for y in ys if y], scorer=Levenshtein.normalized_distance, dtype=np.float64).min(1)
    found = [Levenshtein.normalized_distance(x, y) for x, y in zip(xs, nearest, strict=True)]
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def cached_files(cache: Path) -> list[Path]:
    return [path for path in cache.rglob("*") if path.is_file()]


def equal(one: VocabularyMap, other: VocabularyMap) -> bool:
    return np.array_equal(one.piece_V, other.piece_V) and np.array_equal(one.nearest_V, other.nearest_V)


def test_a_map_is_kept_on_disk_and_read_from_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    source, target = toy.table([b"ab", b"c", b""]), toy.table([b"", b"abc", b"a"])
    made = load_vocabulary_map(source, target)
    assert equal(made, vocabulary_map(source, target))
    (path,) = cached_files(tmp_path)
    # Another map of the same shape in its place shows where the second answer comes from.
    np.savez(path, piece_V=made.piece_V[::-1], nearest_V=made.nearest_V[::-1])
    assert equal(load_vocabulary_map(source, target), VocabularyMap(made.piece_V[::-1], made.nearest_V[::-1]))
    load_vocabulary_map(target, source)
    assert len(cached_files(tmp_path)) == 2


@pytest.mark.parametrize("content", ["truncated", "text", "other arrays", "other shape", "out of range"])
def test_a_broken_or_foreign_file_is_made_anew(content: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    source, target = toy.table([b"ab", b"c", b""]), toy.table([b"", b"abc", b"a"])
    made = load_vocabulary_map(source, target)
    (path,) = cached_files(tmp_path)
    good = path.read_bytes()
    if content == "truncated":
        path.write_bytes(good[: len(good) // 2])
    elif content == "text":
        path.write_text("no map")
    elif content == "other arrays":
        np.savez(path, piece=made.piece_V)
    elif content == "other shape":
        np.savez(path, piece_V=made.piece_V[:2], nearest_V=made.nearest_V)
    elif content == "out of range":
        np.savez(path, piece_V=made.piece_V + 100, nearest_V=made.nearest_V)
    assert equal(load_vocabulary_map(source, target), made)
    assert [file.read_bytes() for file in cached_files(tmp_path)] == [good]
