"""Validation: bits per byte of the model in training on the held-out text, by domain, over all workers.

It counts what evaluation counts at the end (`evaluation.bits_per_byte`): -sum log2 P(token) over the tokens that stand
for text, over the bytes of that text.

Shapes: B windows of a forward pass, L tokens of the longest, M = L - 1 positions that predict a token, N = B x M,
D domains.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count

import numpy as np
import numpy.typing as npt
import torch
import torch.distributed as dist

from pta_ray.distributions import Scores
from pta_ray.evaluation.bits_per_byte import bits_and_bytes
from pta_ray.text.documents import read
from pta_ray.text.reading import ReadPlan
from pta_ray.text.windows import Window, cut
from pta_ray.tokenizers.byte_tokenizer import ByteTokenizer

Tensor = torch.Tensor

Forward = Callable[[Tensor, Tensor], Tensor]
"""Token ids [B, L] (int64, padded on the right) and weights [N] (1 for a position that counts, else 0) to the CLM loss
of each position [N], in nats, 0 where the weight is 0."""


@dataclass(frozen=True)
class HeldOutWindow:
    """What the target reads of one window."""

    ids_L: npt.NDArray[np.int32]
    domain: int
    """Index into `HeldOut.domains`."""
    num_bytes: int
    """Of the text that its tokens stand for."""


@dataclass(frozen=True)
class HeldOut:
    """The held-out windows of one worker."""

    windows: list[HeldOutWindow]
    """The longest first, so that memory that does not suffice shows at once and passes pad little."""
    most_windows: int
    """Of any worker."""
    domains: list[str]
    eos_id: int
    """-1 if the tokenizer has none."""


def read_held_out(plan: ReadPlan, tokenizer: ByteTokenizer, max_tokens: int, rank: int, world_size: int) -> HeldOut:
    """Reads the held-out text and keeps each `world_size`-th of the windows that the stream cuts from it.

    Documents that cannot be read are left out; the stream, which reads them too, reports them.
    """
    pieces = [piece for task in plan.held_out.tasks for piece in task]
    domains = sorted({piece.source.domain for piece in pieces})
    own, numbers = [], count()
    for piece in pieces:
        domain = domains.index(piece.source.domain)
        for document in read(piece):
            for window in cut(document.text, tokenizer, max_tokens):
                if next(numbers) % world_size == rank:
                    own.append(_tokenized(window, domain, tokenizer, max_tokens))
    # What predicts no text may lack even a position; workers need not agree on how many of those they have.
    kept = sorted((window for window in own if window.num_bytes), key=lambda window: -len(window.ids_L))
    return HeldOut(kept, -(-next(numbers) // world_size), domains, tokenizer.table.eos_id)


def _tokenized(window: Window, domain: int, tokenizer: ByteTokenizer, max_tokens: int) -> HeldOutWindow:
    [ids] = tokenizer.encode([window.text.decode()])
    ids_L = tokenizer.sequence(ids, window.ends_document, max_tokens)
    none = np.empty((len(ids_L) - 1, 0))
    certain = Scores(ids_L, np.zeros(len(ids_L) - 1, np.float32), none.astype(np.int32), none.astype(np.float32))
    _, num_bytes = bits_and_bytes(certain, tokenizer, window.text)
    return HeldOutWindow(ids_L, domain, num_bytes)


@torch.no_grad()  # not inference mode: parameters that ZeRO-3 gathers there could not be trained any more
def validate(
    model: torch.nn.Module, forward: Forward, held_out: HeldOut, micro_batch_windows: int, device: torch.device
) -> dict[str, float]:
    """Bits per byte of every domain that has text. All workers call it, and all get the same.

    Every worker runs as many forward passes as any other, since ZeRO-3 gathers parameters from all of them: where one
    has no windows left, a pass counts nothing.

    Args:
        model: is in evaluation mode meanwhile, and in training mode afterwards.
        device: of the model; the process group must be able to reduce tensors there.
    """
    model.eval()
    bits_D = torch.zeros(len(held_out.domains), dtype=torch.float64, device=device)
    for first in range(0, held_out.most_windows, micro_batch_windows):
        windows = held_out.windows[first : first + micro_batch_windows]
        ids_BL, weight_BM = _padded(windows, held_out.eos_id)
        nats_N = forward(ids_BL.to(device), weight_BM.flatten().to(device)).double()
        domains_B = torch.tensor([window.domain for window in windows], dtype=torch.int64, device=device)
        nats_B = nats_N.view(weight_BM.shape).sum(1)[: len(windows)]
        bits_D.index_add_(0, domains_B, nats_B / math.log(2))
    model.train()
    bytes_D = torch.zeros_like(bits_D)
    for window in held_out.windows:
        bytes_D[window.domain] += window.num_bytes
    sums_2D = torch.stack([bits_D, bytes_D])
    dist.all_reduce(sums_2D)
    found = zip(held_out.domains, *sums_2D.tolist(), strict=True)
    return {domain: bits / num_bytes for domain, bits, num_bytes in found if num_bytes}


def _padded(windows: list[HeldOutWindow], eos_id: int) -> tuple[Tensor, Tensor]:
    """Ids [B, L] and weights [B, M] of a pass: EOS and padding count nothing. Without windows, one row of padding."""
    num_rows, longest = max(len(windows), 1), max((len(window.ids_L) for window in windows), default=2)
    ids_BL = torch.zeros(num_rows, longest, dtype=torch.int64)
    weight_BM = torch.zeros(num_rows, longest - 1)
    for row, window in enumerate(windows):
        ids_L = torch.from_numpy(window.ids_L)
        ids_BL[row, : len(ids_L)] = ids_L
        weight_BM[row, : len(ids_L) - 1] = (ids_L[1:] != eos_id).float()
    return ids_BL, weight_BM


@dataclass
class Best:
    """Which validation was the best so far. Its fields go through JSON, into a checkpoint and back."""

    step: int = 0
    """0 before the first."""
    bits_per_byte: float | None = None
    """Mean over the domains."""
    num_worse_since: int = 0
    """Validations in a row that were not better."""

    def update(self, step: int, bits_per_byte: float) -> bool:
        """Takes a validation in; returns whether it is the best so far. One that is not a number never is."""
        is_best = math.isfinite(bits_per_byte) and (self.bits_per_byte is None or bits_per_byte < self.bits_per_byte)
        if is_best:
            self.step, self.bits_per_byte, self.num_worse_since = step, bits_per_byte, 0
        else:
            self.num_worse_since += 1
        return is_best

    def should_stop(self, patience: int | None) -> bool:
        """Whether so many validations in a row were not better; without patience, never."""
        return patience is not None and self.num_worse_since >= patience
