"""What the alignment of one source's vocabulary with the target's needs, made once for all windows."""

from typing import NamedTuple

from pta_ray.alignment.trie import Trie, build_trie
from pta_ray.alignment.vocabulary_map import VocabularyMap, load_vocabulary_map
from pta_ray.tokenizers.byte_table import ByteTable


class Vocabularies(NamedTuple):
    """A source's and the target's tokens as bytes, with the indexes over them."""

    source: ByteTable
    target: ByteTable
    trie: Trie
    """Of the target's tokens."""
    map: VocabularyMap


def prepare_vocabularies(source: ByteTable, target: ByteTable) -> Vocabularies:
    """Builds the indexes, or reads the vocabulary map from where an earlier run of the same tokenizers has kept it."""
    return Vocabularies(source, target, build_trie(target), load_vocabulary_map(source, target))
