"""A plot of bits per byte with their intervals, and of the differences from the first model."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from pta_ray.evaluation.bootstrap import Estimates

_WIDTH, _ROW_HEIGHT = 5.0, 0.22  # inches, of one panel and of one interval
_SPREAD = 0.7  # of the space of a domain is taken by its models


def plot_estimates(path: Path, panels: Mapping[str, Mapping[str, Estimates]]) -> None:
    """Writes one panel beside the other, each with what it shows as its label; the format is that of the file's name.

    Args:
        panels: estimates by model, by what they are of.
    """
    first = next(iter(panels.values()))
    groups = [*next(iter(first.values())).domains, "mean"]
    height = 1.2 + _ROW_HEIGHT * len(groups) * (len(first) + 1)
    figure = Figure(figsize=(_WIDTH * len(panels), height), layout="constrained")
    axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    names = list(first)
    for axis, (label, estimates) in zip(axes, panels.items(), strict=True):
        for name, found in estimates.items():
            _draw(axis, found, names.index(name), len(names), name)
        axis.set_xlabel(label)
        axis.grid(axis="x", alpha=0.3)
    for axis in axes[1:]:
        axis.axvline(0, color="black", linewidth=0.8)
    axes[0].set_yticks(range(len(groups)), groups)
    axes[0].invert_yaxis()
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=min(len(names), 3))
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)


def _draw(axis: Any, found: Estimates, place: int, num: int, name: str) -> None:
    """The intervals of one model, which has a place and a colour of its own in every domain."""
    intervals = [*found.domains.values(), found.mean]
    offset = _SPREAD * ((place + 0.5) / num - 0.5)
    centre = [one.estimate for one in intervals]
    below = [0.0 if one.low is None else max(one.estimate - one.low, 0.0) for one in intervals]
    above = [0.0 if one.high is None else max(one.high - one.estimate, 0.0) for one in intervals]
    rows = [row + offset for row in range(len(intervals))]
    axis.errorbar(centre, rows, xerr=[below, above], fmt="o", markersize=4, capsize=2, color=f"C{place}", label=name)
