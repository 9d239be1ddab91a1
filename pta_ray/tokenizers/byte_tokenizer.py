"""A tokenizer together with its byte table: text -> ids, ids -> byte boundaries, exact or none."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

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
    exact: bool
    """Whether tokens spell any text byte for byte. If not (lowercasing, NFC, dropped white space, unknown tokens),
    windows that it happens to spell have boundaries, and all others pair by edit distance."""
    adds_space: bool
    """Whether it may put a space of its own before a text (SentencePiece's dummy prefix)."""

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.backend.encode_special_tokens = True  # tokenizers does not pickle this setting

    def encode(self, texts: Sequence[str]) -> list[npt.NDArray[np.int32]]:
        """Ids of each text, without start token or EOS. Special tokens spelt out in a text are text."""
        encodings = self.backend.encode_batch_fast(list(texts), add_special_tokens=False)
        return [np.array(encoding.ids, np.int32) for encoding in encodings]

    @property
    def highest_id(self) -> int:
        """The highest id that a sequence may hold; special tokens beyond it never occur."""
        used = np.flatnonzero((self.table.roles_V == Role.ORDINARY) | (self.table.roles_V == Role.EOS))
        return max(int(used.max()), self.start_id)

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
        # Not at the top: vLLM cannot start in a process that has loaded numba's compiler.
        from pta_ray.tokenizers.spelling import spell

        table, text_N = self.table, np.frombuffer(text, np.uint8)
        body = sequence_L[1:]
        has_end = bool(body.size) and table.roles_V[body[-1]] == Role.EOS
        spelling = body[:-1] if has_end else body
        ends_L = np.zeros(len(sequence_L), np.int64)
        for first in (0, -1) if self.adds_space else (0,):
            ends_L[0] = first
            if spell(table.data_N, table.offsets_V1, table.roles_V, spelling, text_N, ends_L):
                break
        else:
            return None
        end = int(ends_L[len(spelling)])
        if self.adds_space and first == 0 and end > 0 and not has_end and not text[:end].strip(b" "):
            return None  # perhaps cut among leading spaces: whether the first is the text's own cannot be told
        if has_end:
            if end != len(text):
                return None  # EOS amid the text, or text that the tokenizer dropped
            ends_L[-1] = end + 1
        return ends_L
