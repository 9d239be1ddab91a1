"""A tokenizer together with its byte table: text -> ids, ids -> byte boundaries, exact or refused."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from pta_ray.tokenizers.byte_table import ByteTable, Role


@dataclass(frozen=True)
class ByteTokenizer:
    """Picklable, and light: actors that hold it import no deep-learning library for it."""

    backend: Tokenizer
    table: ByteTable
    start_id: int
    """Precedes every sequence: BOS where the tokenizer has one, else EOS, which separated documents in training."""

    def encode(self, texts: Sequence[str]) -> list[npt.NDArray[np.int32]]:
        """Ids of each text, without start token or EOS. Special tokens spelt out in a text are text."""
        encodings = self.backend.encode_batch_fast(list(texts), add_special_tokens=False)
        return [np.array(encoding.ids, np.int32) for encoding in encodings]

    def sequence(self, ids: npt.NDArray[np.int32], ends_document: bool, max_tokens: int) -> npt.NDArray[np.int32]:
        """What a model reads for a window: start token, ids, EOS where the document ends; at most `max_tokens`."""
        eos_id = self.table.eos_id
        end = [eos_id] if ends_document and eos_id >= 0 else []
        return np.concatenate([[self.start_id], ids, end]).astype(np.int32)[:max_tokens]

    def boundaries(self, sequence_L: npt.NDArray[np.int32], text: bytes) -> npt.NDArray[np.int64] | None:
        """The byte offset in the text at which each token of a sequence ends, or None if it spells other bytes.

        The start token ends at 0, or at -1 where the tokenizer put a space of its own before the text (SentencePiece's
        dummy prefix), so that the space is one more byte that the model has to predict. EOS ends one past the text.
        A truncated sequence spells a prefix of the text.
        """
        body = sequence_L[1:]
        widths = self.table.lengths_V[body]
        roles = self.table.roles_V[body]
        if body.size and roles[-1] == Role.EOS:
            widths[-1], roles = 1, roles[:-1]
        if np.any(roles != Role.ORDINARY):
            return None  # an unknown token: which bytes it stands for cannot be told
        spelt = self.table.joined(body)
        ends_L = np.concatenate([[0], np.cumsum(widths)])
        if text.startswith(spelt):
            return ends_L
        if (b" " + text).startswith(spelt):
            return ends_L - 1
        return None
