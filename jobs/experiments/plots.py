"""The plots of RESULTS.md."""

import math
from collections.abc import Mapping
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

from jobs.experiments.results import ArmRuns
from jobs.experiments.statistics import Estimate, estimate, paired
from pta_ray.evaluation.bootstrap import Estimates, Interval
from pta_ray.reports.plot import plot_estimates

matplotlib.rcParams["svg.hashsalt"] = "pta-ray"  # the same file for the same results

_WIDTH, _ROW_HEIGHT = 6.0, 0.25  # inches


def plot_arms(path: Path, arms: Mapping[str, ArmRuns], baseline: str) -> None:
    """Bits per byte of several arms by domain, and beside them their differences from one of them, paired by seed."""
    other = arms[baseline]
    absolute = {
        name: Estimates(
            {domain: _interval(estimate(list(arm.of_domain(domain).values()))) for domain in arm.domains},
            _interval(arm.estimate()),
        )
        for name, arm in arms.items()
    }
    differences = {
        name: Estimates(
            {domain: _interval(paired(arm.of_domain(domain), other.of_domain(domain))) for domain in arm.domains},
            _interval(arm.against(other)),
        )
        for name, arm in arms.items()
    }
    plot_estimates(path, {"bits per byte": absolute, f"less {baseline}": differences})


def plot_differences(path: Path, differences: Mapping[str, Estimate], label: str) -> None:
    """One interval a row, in the order that they come in, and a line at zero."""
    figure = Figure(figsize=(_WIDTH, 0.8 + _ROW_HEIGHT * len(differences)), layout="constrained")
    axis = figure.subplots()
    for row, found in enumerate(differences.values()):
        has_ends = not math.isnan(found.low)
        error = [[found.mean - found.low], [found.high - found.mean]] if has_ends else None
        axis.errorbar(found.mean, row, xerr=error, fmt="o", markersize=4, capsize=2, color="C0")
    axis.axvline(0, color="black", linewidth=0.8)
    axis.set_yticks(range(len(differences)), list(differences))
    axis.invert_yaxis()
    axis.set_xlabel(label)
    axis.grid(axis="x", alpha=0.3)
    figure.savefig(path, metadata={"Date": None})


def _interval(found: Estimate) -> Interval:
    if math.isnan(found.low):
        return Interval(found.mean, None, None)
    return Interval(found.mean, found.low, found.high)
