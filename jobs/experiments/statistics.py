"""Means over seeds and paired differences between arms.

All arms of a seed learn from the same windows in the same order: differences are taken by seed, and only what is left
of the seeds' variance enters their intervals.
"""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

CONFIDENCE = 0.95


class Estimate(NamedTuple):
    """A mean over seeds with the ends of its interval (Student's t)."""

    mean: float
    low: float
    high: float
    num_seeds: int
    p_value: float
    """Of a mean that is 0, two-sided."""

    @property
    def excludes_zero(self) -> bool:
        """Whether all of the interval lies on one side."""
        return self.low > 0 or self.high < 0

    def __str__(self) -> str:
        if math.isnan(self.low):
            return f"{self.mean:+.4f}"
        return f"{self.mean:+.4f} [{self.low:+.4f}, {self.high:+.4f}]"


def estimate(values: Sequence[float]) -> Estimate:
    """The mean of one value for each seed. With a single one there is no interval."""
    mean, count = float(np.mean(values)), len(values)
    if count < 2:
        return Estimate(mean, math.nan, math.nan, count, math.nan)
    error = float(np.std(values, ddof=1)) / math.sqrt(count)
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, count - 1)) * error
    p_value = float(mean == 0) if error == 0 else 2 * float(stats.t.sf(abs(mean) / error, count - 1))
    return Estimate(mean, mean - half, mean + half, count, p_value)


def paired(arm: Mapping[int, float], other: Mapping[int, float]) -> Estimate:
    """The difference arm - other over the seeds that both have, at least one."""
    return estimate([arm[seed] - other[seed] for seed in sorted(arm.keys() & other.keys())])


def beyond_chance(found: Sequence[Estimate]) -> list[bool]:
    """Which of many differences are not 0. No more than one in twenty of those is expected to be wrongly among them
    (Benjamini and Hochberg 1995); one after the other, one in twenty of all that are nothing would be. Those of a
    single seed are not."""
    tested = [number for number, each in enumerate(found) if each.num_seeds > 1]
    adjusted = stats.false_discovery_control([found[number].p_value for number in tested]) if tested else []
    accepted = {number for number, p_value in zip(tested, adjusted, strict=True) if p_value <= 1 - CONFIDENCE}
    return [number in accepted for number in range(len(found))]
