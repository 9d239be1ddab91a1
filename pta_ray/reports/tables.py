"""Tables for the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from rich.table import Table

from pta_ray.placement import Placement

if TYPE_CHECKING:  # both import numba or pyarrow, and a dry run answers at once
    from pta_ray.evaluation.bits_per_byte import BitsPerByte
    from pta_ray.evaluation.bootstrap import Estimates, Interval
    from pta_ray.evaluation.fidelity import Fidelity
    from pta_ray.evaluation.harness import SuiteResult
    from pta_ray.evaluation.task_suites import TaskSuites


def placement_table(placement: Placement) -> Table:
    """What would run where."""
    table = Table(title="what runs, with what each reserves", title_justify="left")
    table.add_column("stage")
    for heading in ("actors", "CPUs each", "GPUs each"):
        table.add_column(heading, justify="right")
    table.add_column("what", overflow="fold")
    for actors in placement.stages:
        table.add_row(actors.stage, actors.how_many, f"{actors.cpus:g}", f"{actors.gpus:g}", actors.what)
    return table


def bits_table(bits_per_byte: BitsPerByte, target: str) -> Table:
    """Bits per byte by model and domain: sources, target before, target after; the best of a domain in bold."""
    domains = list(next(iter(bits_per_byte.values())))
    table = Table(title="bits per byte on held-out text (lower is better)", title_justify="left")
    table.add_column("model")
    for domain in domains:
        table.add_column(domain, justify="right")
    table.add_column("mean", justify="right")
    sources = [name for name in bits_per_byte if name not in {target, "fused"}]
    labels = {target: "target, before", "fused": "target, fused"}
    best = {domain: min(values[domain] for values in bits_per_byte.values()) for domain in domains}
    for name in [*sources, target, "fused"]:
        values = bits_per_byte[name]
        cells = [f"[bold]{v:.3f}[/bold]" if v == best[d] else f"{v:.3f}" for d, v in values.items()]
        table.add_row(labels.get(name, f"source {name}"), *cells, f"{sum(values.values()) / len(values):.3f}")
    return table


def fidelity_table(fidelity: Mapping[str, Fidelity]) -> Table:
    """What the alignment kept of each source, on the windows it was measured on."""
    table = Table(title="alignment, on a sample of the windows", title_justify="left")
    table.add_column("source")
    for heading in ("coverage", "information kept", "next-byte divergence, bits", "same next byte"):
        table.add_column(heading, justify="right")
    for name, found in fidelity.items():
        table.add_row(name, *(f"{figure:.3f}" for figure in found.figures.values()))
    return table


def estimates_table(title: str, estimates: Mapping[str, Estimates]) -> Table:
    """Bits per byte, or differences in them, by model and domain, with confidence intervals; the lowest of a column in
    bold."""
    domains = list(next(iter(estimates.values())).domains)
    table = Table(title=title, title_justify="left")
    table.add_column("model")
    for heading in [*domains, "mean"]:
        table.add_column(heading, justify="right")
    rows = {name: [*found.domains.values(), found.mean] for name, found in estimates.items()}
    best = [min(column) for column in zip(*([cell.estimate for cell in row] for row in rows.values()), strict=True)]
    for name, row in rows.items():
        cells = [_with_interval(cell) for cell in row]
        is_best = [cell.estimate == lowest and len(rows) > 1 for cell, lowest in zip(row, best, strict=True)]
        table.add_row(name, *(f"[bold]{c}[/bold]" if b else c for c, b in zip(cells, is_best, strict=True)))
    return table


def _with_interval(found: Interval) -> str:
    if found.low is None or found.high is None:
        return f"{found.estimate:.3f}"
    return f"{found.estimate:.3f} ({found.low:.3f}, {found.high:.3f})"


def suites_table(suites: TaskSuites, scores: Mapping[str, Mapping[str, SuiteResult]]) -> Table:
    """What the models reached in each suite, with standard errors, above the published figures."""
    table = Table(title="lm-evaluation-harness (± standard error)", title_justify="left")
    table.add_column("model")
    for suite in suites.suites:
        table.add_column(suite.name, justify="right")
    for name, found in scores.items():
        table.add_row(name, *(_score(found[suite.name]) for suite in suites.suites))
    for name in dict.fromkeys(name for suite in suites.suites for name in suite.published):
        figures = [suite.published.get(name) for suite in suites.suites]
        table.add_row(f"{name} (published)", *("" if f is None else f"{f:.2f}" for f in figures), style="dim")
    return table


def _score(found: SuiteResult) -> str:
    if found.score is None:
        return "left out"
    return f"{found.score:.2f}" + (f" ± {found.stderr:.2f}" if found.stderr is not None else "")
