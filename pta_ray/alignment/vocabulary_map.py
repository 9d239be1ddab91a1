"""Each token of one vocabulary and the tokens of another that stand for it: its longest prefix and the nearest token.

Nearness is Levenshtein distance / longer length. The nearest token is found in two exact steps that compute few
distances. First the least distance: the other vocabulary lies in buckets of equal length, searched from the token's own
length outwards, and a token is compared only if a lower bound on its distance lies below the best found so far. Then
the token to name, of all at that distance: the one that shares the longest prefix with the token, and of several the
first in byte order. Names depend on bytes alone, so numbering a vocabulary in another way changes nothing.

Lower bounds on the edits between a and b:
- the difference of their lengths;
- max(|A - B|, |B - A|), A and B the bags of their bytes: an edit takes one byte away at most, and adds one at most.
  A bag is kept as a signature of 64 bits, one per class of (byte, how often it stood before); bits in which two
  signatures differ count different bytes, so the signatures' bound is never above the bags'.

Shapes: V the source's vocabulary, O ordinary target tokens in byte order, B buckets.
"""

import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numba
import numpy as np
import numpy.typing as npt

from pta_ray.alignment.edit_distance import MAX_PATTERN, clear, distance_within, levenshtein, new_masks, prepare
from pta_ray.alignment.trie import Trie, build_trie, walk
from pta_ray.checkpoint import cache_directory
from pta_ray.tokenizers.byte_table import ByteTable, Role

Array = npt.NDArray[Any]

_SIGNATURE_BITS = 64


@dataclass(frozen=True)
class VocabularyMap:
    """Target tokens that stand for a source's, -1 where there is none. EOS stands for EOS."""

    piece_V: npt.NDArray[np.int32]
    """The longest target token that the source token begins with."""
    nearest_V: npt.NDArray[np.int32]
    """The target token at the least normalised edit distance: the token itself, where both have it."""


class _Index(NamedTuple):
    """The target's ordinary tokens, in byte order and in buckets of equal length and equally many signature bits."""

    data_N: Array
    offsets_V1: Array
    trie: Trie
    ids_O: Array
    signatures_O: Array
    lengths_O: Array
    bucketed_starts_O: Array
    """Where the tokens begin in `data_N`, bucket by bucket."""
    bucketed_signatures_O: Array
    begins_B1: Array
    """Where the bucket of a length and a number of signature bits begins in `bucketed_starts_O`."""


def vocabulary_map(source: ByteTable, target: ByteTable) -> VocabularyMap:
    """Maps each ordinary token of the source's vocabulary, and its end of document, to the target's."""
    piece_V = np.full(source.size, -1, np.int32)
    nearest_V = np.full(source.size, -1, np.int32)
    for result_V in (piece_V, nearest_V):
        result_V[source.roles_V == Role.EOS] = target.eos_id
    if len(target.sorted_ids_O) > 0:
        ordinary_ids = np.flatnonzero((source.roles_V == Role.ORDINARY) & (source.lengths_V > 0))
        _map_tokens(source.data_N, source.offsets_V1, ordinary_ids, _index(target), piece_V, nearest_V)
    return VocabularyMap(piece_V, nearest_V)


def longest_prefixes(source: ByteTable, target: ByteTable, trie: Trie) -> npt.NDArray[np.int32]:
    """`VocabularyMap.piece_V` alone, which takes a walk through the target's trie for each token and no search."""
    piece_V = np.full(source.size, -1, np.int32)
    piece_V[source.roles_V == Role.EOS] = target.eos_id
    ordinary_ids = np.flatnonzero((source.roles_V == Role.ORDINARY) & (source.lengths_V > 0))
    _walk_tokens(source.data_N, source.offsets_V1, ordinary_ids, trie, piece_V)
    return piece_V


def load_vocabulary_map(source: ByteTable, target: ByteTable) -> VocabularyMap:
    """`vocabulary_map`, kept on disk under the fingerprints of both tables. A file that is no such map is replaced."""
    name = f"{source.fingerprint[:32]}-{target.fingerprint[:32]}.npz"
    path = cache_directory() / "vocabulary-maps" / name
    found = _read(path, source, target)
    if found is None:
        found = vocabulary_map(source, target)
        path.parent.mkdir(parents=True, exist_ok=True)
        # Several processes may make the same map at a time: each writes a file of its own, the last rename stands.
        with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".partial", delete=False) as file:
            np.savez(file, piece_V=found.piece_V, nearest_V=found.nearest_V)
        Path(file.name).replace(path)
    return found


def _read(path: Path, source: ByteTable, target: ByteTable) -> VocabularyMap | None:
    try:
        with np.load(path) as arrays:
            results = arrays["piece_V"], arrays["nearest_V"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, TypeError):
        return None
    for result_V in results:
        if result_V.dtype != np.int32 or result_V.shape != (source.size,):
            return None
        if np.any((result_V < -1) | (result_V >= target.size)):
            return None
    return VocabularyMap(*results)


def _index(target: ByteTable) -> _Index:
    ids_O = target.sorted_ids_O
    lengths_O = target.lengths_V[ids_O]
    signatures_O = _signatures(target.data_N, target.offsets_V1, ids_O)
    num_bits_O = np.bitwise_count(signatures_O)
    order_O = np.lexsort((num_bits_O, lengths_O))
    bucket_O = lengths_O * (_SIGNATURE_BITS + 1) + num_bits_O
    num_buckets = (lengths_O.max() + 1) * (_SIGNATURE_BITS + 1)
    begins_B1 = np.searchsorted(bucket_O[order_O], np.arange(num_buckets + 1))
    return _Index(
        target.data_N, target.offsets_V1, build_trie(target), ids_O, signatures_O, lengths_O,
        target.offsets_V1[ids_O[order_O]], signatures_O[order_O], begins_B1,
    )  # fmt: skip


@numba.njit(cache=True, nogil=True)
def _signatures(data_N: Array, offsets_V1: Array, ids_O: Array) -> Array:
    signatures_O = np.empty(len(ids_O), np.uint64)
    for place in range(len(ids_O)):
        i = ids_O[place]
        signatures_O[place] = _signature(data_N[offsets_V1[i] : offsets_V1[i + 1]])
    return signatures_O


@numba.njit(cache=True, nogil=True)
def _signature(x: Array) -> Any:
    signature = np.uint64(0)
    for i in range(len(x)):
        before = 0
        for j in range(i):
            before += x[j] == x[i]
        signature |= np.uint64(1) << np.uint64((x[i] + 37 * before) % _SIGNATURE_BITS)
    return signature


@numba.njit(cache=True, nogil=True)
def _count(word: Any) -> Any:
    """Bits set, by halves, quarters and eighths: LLVM compiles exactly this to one instruction."""
    word = word - ((word >> np.uint64(1)) & np.uint64(0x5555555555555555))
    word = (word & np.uint64(0x3333333333333333)) + ((word >> np.uint64(2)) & np.uint64(0x3333333333333333))
    word = (word + (word >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return np.int64((word * np.uint64(0x0101010101010101)) >> np.uint64(56))


@numba.njit(cache=True, nogil=True)
def _walk_tokens(data_N: Array, offsets_V1: Array, ordinary_ids: Array, trie: Trie, piece_V: Array) -> None:
    for i in ordinary_ids:
        piece_V[i], _, _ = walk(trie, data_N[offsets_V1[i] : offsets_V1[i + 1]])


@numba.njit(cache=True, nogil=True)
def _map_tokens(
    data_N: Array, offsets_V1: Array, ordinary_ids: Array, index: _Index, piece_V: Array, nearest_V: Array
) -> None:
    masks = new_masks()
    for i in ordinary_ids:
        x = data_N[offsets_V1[i] : offsets_V1[i + 1]]
        piece, _, _ = walk(index.trie, x)
        shared = 0
        if piece >= 0:
            shared = index.offsets_V1[piece + 1] - index.offsets_V1[piece]
        piece_V[i] = nearest_V[i] = piece
        if shared == len(x):
            continue
        if len(x) <= MAX_PATTERN:
            prepare(x, masks)
        edits, longer = _least_distance(x, masks, index, len(x) - shared)
        nearest_V[i] = _first_at(x, masks, index, edits, longer)
        if len(x) <= MAX_PATTERN:
            clear(x, masks)


@numba.njit(cache=True, nogil=True)
def _least_distance(x: Array, masks: Array, index: _Index, edits: int) -> tuple[int, int]:
    """The least edits / longer length over the target's tokens, as a fraction. `edits` / len(x) is reached anyway."""
    longest = len(index.begins_B1) // (_SIGNATURE_BITS + 1) - 1
    longer = len(x)
    for difference in range(max(len(x), longest)):
        # Of two lengths as far off the greater has the lower bound on the normalised distance.
        if difference * longer >= edits * (len(x) + difference):
            break
        if len(x) + difference <= longest:
            edits, longer = _search_length(x, masks, index, len(x) + difference, edits, longer)
        if difference > 0 and 1 <= len(x) - difference <= longest:
            edits, longer = _search_length(x, masks, index, len(x) - difference, edits, longer)
    return edits, longer


@numba.njit(cache=True, nogil=True)
def _search_length(x: Array, masks: Array, index: _Index, length: int, edits: int, longer: int) -> tuple[int, int]:
    """Looks among the tokens of one length for a normalised distance below edits / longer."""
    # Passing the whole index on, or reading it in the loop, would count references to each of its arrays every time.
    data_N, starts_O, signatures_O = index.data_N, index.bucketed_starts_O, index.bucketed_signatures_O
    signature = _signature(x)
    num_bits, longer_here = _count(signature), max(length, len(x))
    most = (edits * longer_here - 1) // longer
    if most < abs(length - len(x)):
        return edits, longer
    for other_bits in range(max(1, num_bits - most), min(_SIGNATURE_BITS, num_bits + most) + 1):
        bucket = length * (_SIGNATURE_BITS + 1) + other_bits
        # max(|A - B|, |B - A|) <= most, written for |A and B|.
        needed = max(num_bits, other_bits) - most
        for at in range(index.begins_B1[bucket], index.begins_B1[bucket + 1]):
            if _count(signature & signatures_O[at]) >= needed:
                y = data_N[starts_O[at] : starts_O[at] + length]
                d = _edits(x, masks, y, most)
                if d <= most:
                    edits, longer = d, longer_here
                    needed -= most + 1 - d
                    most = d - 1
    return edits, longer


@numba.njit(cache=True, nogil=True)
def _first_at(x: Array, masks: Array, index: _Index, edits: int, longer: int) -> int:
    """Of the tokens at this distance the one with the longest prefix in common with x, then the first in byte order."""
    signature = _signature(x)
    num_bits = _count(signature)
    data_N, offsets_V1, ids_O = index.data_N, index.offsets_V1, index.ids_O
    lengths_O, signatures_O = index.lengths_O, index.signatures_O
    # The edits that make this distance, by the other token's length; -1 where no whole number does.
    allowed_L = np.full(len(index.begins_B1) // (_SIGNATURE_BITS + 1), -1, np.int64)
    for length in range(len(allowed_L)):
        if edits * max(length, len(x)) % longer == 0:
            allowed_L[length] = edits * max(length, len(x)) // longer
    inner_low = inner_high = 0
    for shared in range(len(x), -1, -1):
        # The tokens that share at least this prefix, without those that share a longer one.
        _, low, high = walk(index.trie, x[:shared])
        for place in range(low, high):
            if inner_low <= place < inner_high:
                continue
            allowed, other = allowed_L[lengths_O[place]], signatures_O[place]
            if max(num_bits, _count(other)) - _count(signature & other) > allowed:
                continue
            start = offsets_V1[ids_O[place]]
            if _edits(x, masks, data_N[start : start + lengths_O[place]], allowed) == allowed:
                return int(ids_O[place])
        if low < high:
            inner_low, inner_high = low, high
    return -1


@numba.njit(cache=True, nogil=True)
def _edits(x: Array, masks: Array, y: Array, most: int) -> int:
    """The edits between x, prepared if it is short enough, and y, or some number above `most` if there are more."""
    if len(x) > MAX_PATTERN:
        return int(levenshtein(x, y))
    return int(distance_within(masks, len(x), y, most))
