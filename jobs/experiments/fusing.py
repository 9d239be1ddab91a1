"""What an arm's target learns from: every window aligned and fused as the stream does it, with the arm's changes."""

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from jobs.demo.files import write_atomically
from jobs.experiments.arms import Arm
from jobs.experiments.changes import changed, changed_own, changed_target
from jobs.experiments.models import TARGET
from jobs.experiments.windows import TextSet
from pta_ray.alignment.align import align
from pta_ray.alignment.vocabularies import prepare_vocabularies
from pta_ray.columns import fused_column, read_fused, struct_column
from pta_ray.distributions import FusedRow, Scores
from pta_ray.evaluation.fidelity import Fidelity, measure_fidelity
from pta_ray.fusion.candidate import Candidate, claim_of_source, claim_of_target
from pta_ray.fusion.choices import CHOICES

_SAMPLE = 8
"""Fidelity is measured on every eighth window."""


def fused_rows(pool: TextSet, arm: Arm) -> list[FusedRow]:
    """The fused windows of an arm."""
    return read_fused(struct_column(pq.read_table(fuse(pool, arm)), "fused"))


def key(arm: Arm) -> str:
    """The same for all arms that learn from the same windows."""
    return hashlib.sha256(json.dumps(arm.targets_settings(), sort_keys=True).encode()).hexdigest()[:16]


def fused_path(pool: TextSet, arm: Arm) -> Path:
    """Where the fused windows of an arm are, once they have been made."""
    return pool.folder / "fused" / f"{key(arm)}.parquet"


def fuse(pool: TextSet, arm: Arm) -> Path:
    """Makes the fused windows of an arm, unless they are there, and beside them a JSON file: who won how many windows
    of each domain, and what the alignment kept of each source. Returns their path."""
    path = fused_path(pool, arm)
    if path.exists():
        return path
    alignment, table = arm.alignment_settings(), pool.tokenizer(TARGET).table
    targets = pool.scores(TARGET, alignment.top_k)
    own = [changed_own(arm.change, claim_of_target(TARGET, target, table)) for target in targets]
    best, fold, fidelity = own, CHOICES[arm.fusion_settings().choice], {}
    for source in arm.sources:
        claims, found = claims_of(pool, arm, source, targets, own)
        best = [fold(holder, claim) for holder, claim in zip(best, claims, strict=True)]
        fidelity[source] = found.figures
    as_intervals = alignment.targets == "intervals"
    rows = [b.row(target.ids_L, as_intervals) for b, target in zip(best, targets, strict=True)]
    won = Counter((w.domain, b.name) for w, b in zip(pool.windows, best, strict=True))
    by_domain = {domain: {name: n for (d, name), n in sorted(won.items()) if d == domain} for domain, _ in won}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path.with_suffix(".json"), json.dumps({"won": by_domain, "fidelity": fidelity}, indent=1))
    unfinished = path.with_suffix(".unfinished")
    pq.write_table(pa.table({"fused": fused_column(rows)}), unfinished)
    unfinished.rename(path)
    return path


def claims_of(
    pool: TextSet, arm: Arm, source: str, targets: Sequence[Scores], own: Sequence[Candidate]
) -> tuple[list[Candidate], Fidelity]:
    """A source's claims to all windows, and how well alignment has kept what it says.

    Args:
        targets, own: what the target says about each window, and its claims.
    """
    tokenizer, speaker = pool.tokenizer(TARGET), pool.tokenizer(source)
    vocabularies, alignment = prepare_vocabularies(speaker.table, tokenizer.table), arm.alignment_settings()
    counts_V = np.bincount(np.concatenate([t.ids_L for t in targets]), minlength=tokenizer.table.size)
    claims, fidelity = [], Fidelity()
    for n, scores in enumerate(pool.scores(source, alignment.top_k)):
        text, target = pool.windows[n].text, changed_target(arm.change, targets[n], counts_V)
        ends_S, ends_T = speaker.boundaries(scores.ids_L, text), tokenizer.boundaries(target.ids_L, text)
        if ends_T is None:
            raise ValueError("the target's tokenizer spells every text")
        aligned = align(alignment, vocabularies, text, scores, ends_S, target, ends_T)
        distribution = changed(arm.change, aligned.distribution, own[n].distribution, paired(ends_S, ends_T))
        if n % _SAMPLE == 0:
            fidelity += measure_fidelity(vocabularies.source, aligned.source, vocabularies.target, distribution)
        as_changed = replace(aligned, distribution=distribution)
        claims.append(claim_of_source(source, as_changed, vocabularies, target.next_ids_M))
    return claims, fidelity


def paired(ends_S: npt.NDArray[np.int64] | None, ends_T: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Where the target's next token and the source's begin and end together [M]: the pairs of the kind 1-1. None are
    known of a source that has no token for something in the text."""
    spans_T = zip(ends_T[:-1].tolist(), ends_T[1:].tolist(), strict=True)
    spans_S = set() if ends_S is None else set(zip(ends_S[:-1].tolist(), ends_S[1:].tolist(), strict=True))
    return np.array([span in spans_S for span in spans_T])
