"""What the alignment of one source's vocabulary with the target's needs, made once for all windows."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from pta_ray.alignment.trie import Trie, build_trie
from pta_ray.alignment.vocabulary_map import load_vocabulary_map, longest_prefixes
from pta_ray.tokenizers.byte_table import ByteTable


@dataclass(frozen=True)
class Vocabularies:
    """A source's and the target's tokens as bytes, with the indexes over them. Each map is made when it is first used.

    Shapes: V tokens of the source.
    """

    source: ByteTable
    target: ByteTable
    trie: Trie
    """Of the target's tokens."""

    @cached_property
    def source_trie(self) -> Trie:
        """Of the source's tokens."""
        return build_trie(self.source)

    @cached_property
    def piece_V(self) -> npt.NDArray[np.int32]:
        """The longest target token that each source token begins with, see `VocabularyMap`."""
        return longest_prefixes(self.source, self.target, self.trie)

    @cached_property
    def nearest_V(self) -> npt.NDArray[np.int32]:
        """The target token nearest to each source token, see `VocabularyMap`; kept on disk for the next run."""
        return load_vocabulary_map(self.source, self.target).nearest_V


def prepare_vocabularies(source: ByteTable, target: ByteTable) -> Vocabularies:
    """Builds the index over the target's tokens."""
    return Vocabularies(source, target, build_trie(target))
