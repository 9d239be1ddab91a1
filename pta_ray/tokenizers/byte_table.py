"""Token id -> the exact bytes it stands for, and its role.

Shapes: V entries of the vocabulary, N bytes of all tokens together, O ordinary tokens.
"""

import hashlib
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property
from itertools import pairwise

import numpy as np
import numpy.typing as npt


class Role(IntEnum):
    """What a token id is for. Only ordinary tokens stand for bytes of the text."""

    ORDINARY = 0
    EOS = 1
    SPECIAL = 2
    UNUSED = 3


@dataclass(frozen=True)
class ByteTable:
    """The bytes of token i are `data_N[offsets_V1[i] : offsets_V1[i + 1]]`; tokens that are not ordinary have none."""

    data_N: npt.NDArray[np.uint8]
    offsets_V1: npt.NDArray[np.int64]
    roles_V: npt.NDArray[np.uint8]

    @property
    def size(self) -> int:
        """Entries of the tokenizer's vocabulary. A model's head may be padded beyond it."""
        return len(self.roles_V)

    @property
    def eos_id(self) -> int:
        """The id that ends a document, -1 if there is none."""
        ids = np.flatnonzero(self.roles_V == Role.EOS)
        return int(ids[0]) if len(ids) else -1

    @cached_property
    def lengths_V(self) -> npt.NDArray[np.int64]:
        """Bytes per token."""
        return np.diff(self.offsets_V1)

    @cached_property
    def sorted_ids_O(self) -> npt.NDArray[np.int64]:
        """Ids of the ordinary tokens in the order of their bytes.

        Tokens that begin with the same bytes are neighbours here. Of tokens with equal bytes the higher id comes first:
        SentencePiece keeps its byte-fallback duplicates at low ids, and a model hardly ever emits those.
        """
        data, offsets = self.data_N.tobytes(), self.offsets_V1.tolist()
        tokens = [data[begin:end] for begin, end in pairwise(offsets)]
        ids = np.flatnonzero((self.roles_V == Role.ORDINARY) & (self.lengths_V > 0))
        # Sorting is stable: equal tokens keep the falling order that they come in.
        return np.array(sorted(ids[::-1].tolist(), key=tokens.__getitem__), dtype=np.int64)

    def token(self, token_id: int) -> bytes:
        """The bytes of one token."""
        return self.data_N[self.offsets_V1[token_id] : self.offsets_V1[token_id + 1]].tobytes()

    def joined(self, ids_L: npt.NDArray[np.int32]) -> bytes:
        """The bytes that a token sequence stands for."""
        return b"".join(self.token(i) for i in ids_L)

    @cached_property
    def fingerprint(self) -> str:
        """Identifies the table: equal for tokenizers with the same bytes and roles at every id."""
        digest = hashlib.sha256(self.data_N.tobytes())
        digest.update(self.offsets_V1.tobytes())
        digest.update(self.roles_V.tobytes())
        return digest.hexdigest()
