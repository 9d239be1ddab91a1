"""What a source says at every boundary of the target, and what each method makes of it.

Shapes as in `alignment`.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pta_ray.alignment.align import Aligned, Moved, method_of
from pta_ray.alignment.conditioning import EOS_LENGTH
from pta_ray.alignment.vocabularies import Vocabularies
from pta_ray.config import Alignment
from pta_ray.distributions import Scores, SparseDistribution
from pta_ray.inspection.groups import Ends
from pta_ray.inspection.model import Boundary, Masses, Where
from pta_ray.pages.labels import LabelBook

_NOTHING = Masses(labels=[], probs=[], tail=1)


@dataclass(frozen=True)
class Work:
    """One source's alignment along a window, by the job's settings and by the methods to compare with."""

    settings: Alignment
    vocabularies: Vocabularies
    text: bytes
    target: Scores
    ends_T: Ends
    num_source_tokens: int
    ends_S: Ends
    aligned: dict[str, Aligned]
    """By method, the job's first."""
    moved: Moved
    """Of the job's method."""

    @property
    def chosen(self) -> Aligned:
        """The job's."""
        return self.aligned[self.settings.method]


def boundary(book: LabelBook, work: Work, m: int) -> Boundary:
    """All that is known of one boundary."""
    source, pinned, moved = work.chosen.source, work.chosen.pinned, work.moved
    where, s = _where(work, m), int(work.chosen.pairing.last_T[m])
    is_silent = where == "silent"
    said = [] if is_silent else np.flatnonzero(source.ids_TC[m] >= 0).tolist()
    senders = [c for c in said if moved.p_MC[m, c] > 0]
    num_Y = int((moved.candidates.ids_MY[m] >= 0).sum())
    aligned = {name: _NOTHING if is_silent else _aligned(book, work, of, m) for name, of in work.aligned.items()}
    actual = float(pinned.actual_M[m])
    return Boundary(
        where=where,
        source_token=s + 1 if 0 <= s < work.num_source_tokens - 1 else -1,
        residue=book.of_bytes(_residue(work, m)),
        confidence=_short(work.chosen.distribution.confidence_M[m]),
        source=_masses([_source_label(book, work, m, c) for c in said], source.probs_TC[m, said]),
        to_move=_shorts(moved.p_MC[m, said]),
        pinned=_short(actual) if method_of(work.settings).pinned and not is_silent else None,
        target=_target(book, work, m, num_Y),
        senders=[said.index(c) for c in senders],
        cost=_unlike(moved.cost_MCY[m, senders, :num_Y], 1, 3),
        plan=_unlike(moved.plan_MCY[m, senders, :num_Y], 0, 5),
        aligned=aligned,
        source_bits=None if is_silent else _bits(actual),
        bits={name: None if is_silent else _bits(of.distribution.probs_MK[m, 0]) for name, of in work.aligned.items()},
    )


def _where(work: Work, m: int) -> Where:
    if work.chosen.distribution.confidence_M[m] <= 0:
        return "silent"
    return "shared" if work.chosen.pairing.is_shared_T[m] else "inside"


def _residue(work: Work, m: int) -> bytes:
    """The bytes between the source's last boundary and this one; the space before the text is at offset -1."""
    s = int(work.chosen.pairing.last_T[m])
    if work.ends_S is None or work.ends_T is None or s < 0:
        return b""
    return (b" " + work.text)[work.ends_S[s] + 1 : work.ends_T[m] + 1]


def _source_label(book: LabelBook, work: Work, m: int, c: int) -> int:
    """What is left of a candidate behind the residue."""
    source, table = work.chosen.source, work.vocabularies.source
    start, length = int(source.starts_TC[m, c]), int(source.lengths_TC[m, c])
    if length == EOS_LENGTH:
        return book.of_symbol("end")
    return book.of_bytes(table.data_N[start : start + length].tobytes())


def _target(book: LabelBook, work: Work, m: int, num_Y: int) -> Masses:
    """The target's candidates; its belief in the actual token, which pinning keeps from the transport, is put back."""
    ids_Y = work.moved.candidates.ids_MY[m, :num_Y]
    q_Y = work.moved.candidates.probs_MY[m, :num_Y].copy()
    q_Y[0] = np.exp(work.target.next_log_probs_M[m])
    return _masses([book.of_token(work.vocabularies.target, i) for i in ids_Y], q_Y)


def _aligned(book: LabelBook, work: Work, aligned: Aligned, m: int) -> Masses:
    found: SparseDistribution = aligned.distribution
    named = np.flatnonzero(found.ids_MK[m] >= 0)
    labels = [book.of_token(work.vocabularies.target, i) for i in found.ids_MK[m, named]]
    return _masses(labels, found.probs_MK[m, named])


def _masses(labels: list[int], probs: npt.NDArray[np.float32]) -> Masses:
    tail = max(1 - float(probs.sum(dtype=np.float64)), 0)
    return Masses(labels=labels, probs=_shorts(probs), tail=_short(round(tail, 6)))  # beyond that it is rounding


def _bits(prob: float | np.float32) -> float | None:
    return float(np.round(-np.log2(prob, dtype=np.float64), 3)) + 0.0 if prob > 0 else None


def _short(value: float | np.floating) -> float:
    return float(f"{value:.4g}")


def _shorts(values: npt.NDArray[np.float32]) -> list[float]:
    return [_short(value) for value in values.tolist()]


def _unlike(values_CY: npt.NDArray[np.float32], usual: float, digits: int) -> list[dict[int, float]]:
    """The entries of each row that are not the usual one."""
    rounded_CY = np.round(values_CY.astype(np.float64), digits)
    return [{int(y): float(row[y]) for y in np.flatnonzero(row != usual)} for row in rounded_CY]
