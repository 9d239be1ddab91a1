"""What the runs have left in `results/`, and the figures that tables are made of."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from jobs.experiments.statistics import Estimate, estimate, paired
from jobs.experiments.text import DOMAINS

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class ArmRuns:
    """All runs of an arm in a regime, by seed."""

    runs: Mapping[int, Mapping[str, Any]]

    @property
    def domains(self) -> list[str]:
        """That it was measured in."""
        measured = next(iter(self.runs.values()))["bits_per_byte"]
        return [domain for domain in DOMAINS if domain in measured]

    def of_domain(self, domain: str) -> dict[int, float]:
        """Bits per byte by seed."""
        return {seed: run["bits_per_byte"][domain] for seed, run in self.runs.items()}

    @cached_property
    def mean(self) -> dict[int, float]:
        """Bits per byte by seed, the mean over the domains."""
        means = {}
        for seed, run in self.runs.items():
            found = run["bits_per_byte"].values()
            means[seed] = sum(found) / len(found)
        return means

    def estimate(self) -> Estimate:
        """Of the mean over the domains."""
        return estimate(list(self.mean.values()))

    def against(self, other: "ArmRuns") -> Estimate:
        """The difference from another arm in the mean over the domains, paired by seed."""
        return paired(self.mean, other.mean)

    def relative(self, other: "ArmRuns") -> dict[str, Estimate]:
        """By domain, by which share its bits per byte are above those of another arm, paired by seed."""
        found = {}
        for domain in self.domains:
            mine, its = self.of_domain(domain), other.of_domain(domain)
            found[domain] = estimate([mine[seed] / its[seed] - 1 for seed in sorted(mine.keys() & its.keys())])
        return found


def read(folder: Path) -> dict[str, ArmRuns]:
    """All arms of a regime that have been run, from its folder."""
    arms: dict[str, dict[int, Mapping[str, Any]]] = {}
    for path in sorted(folder.glob("*/*.json")):
        arms.setdefault(path.parent.name, {})[int(path.stem)] = json.loads(path.read_text())
    return {name: ArmRuns(runs) for name, runs in arms.items()}
