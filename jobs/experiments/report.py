"""RESULTS.md and its plots, made from the files in `results/` and nothing else.

Every figure is a mean over seeds with the 95% interval of the mean (Student's t); differences are paired by seed.
"""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jobs.experiments.arms import ARMS, IDEAS, MAIN, ONE_CHANGE, RATES, REGIMES, ROBUSTNESS, TRAINING, Arm
from jobs.experiments.models import BAD, SOURCES, TARGET
from jobs.experiments.plots import plot_arms, plot_differences
from jobs.experiments.results import RESULTS, ArmRuns, read
from jobs.experiments.statistics import Estimate, beyond_chance, estimate
from jobs.experiments.text import DOMAINS
from jobs.experiments.windows import WINDOW_TOKENS

BASELINES = ("clm", "itself only", "exact", "mined")
COMPARED = (*BASELINES, "unflattened", "exact, flattened", "mined, flattened")
"""With `pta`, in all regimes."""

UNDER_BAD_SOURCES = {
    **{name: (arm.beside,) if BAD in arm.sources[1:] else ("clm", "itself only") for name, arm in ROBUSTNESS.items()},
    **dict.fromkeys(("1 source", "2 sources"), ("clm", "itself only")),
}
"""What an arm with sources worse than the target is compared with: what it would be without them."""


def write_report(folder: Path = RESULTS.parent) -> None:
    """Writes what there is to tell so far, into the folder that holds `results/`."""
    regimes = {name: read(folder / RESULTS.name / name) for name in REGIMES}
    models = json.loads((folder / RESULTS.name / "models.json").read_text())
    plots = folder / "plots"
    plots.mkdir(exist_ok=True)
    parts = ["# What fusing is worth, measured at a small scale", _finding(regimes), _setting(regimes)]
    parts += [_models(models)]
    for name, arms in regimes.items():
        if arms:
            parts += [_main(name, arms, plots), _gaps(arms, models)]
    scarce = regimes["scarce"]
    for title, group in (("One change at a time", ONE_CHANGE), ("Ideas", IDEAS), ("Learning rates", RATES)):
        parts.append(_changes(title, scarce, group, plots))
    parts += [_robustness(scarce), _winners(scarce), _distances(scarce, models)]
    report = folder / "RESULTS.md"
    report.write_text("\n\n".join(filter(None, parts)) + "\n", encoding="utf-8")
    print(f"{report} is written")


def _finding(regimes: Mapping[str, Mapping[str, ArmRuns]]) -> str:
    """The differences that the experiment was made for, whatever they are."""
    rows = []
    for regime, arms in regimes.items():
        for baseline in COMPARED:
            if "pta" in arms and baseline in arms:
                found = arms["pta"].against(arms[baseline])
                relative = found.mean / arms[baseline].estimate().mean
                rows.append([regime, baseline, str(found), f"{relative:+.2%}", _verdict(found), str(found.num_seeds)])
    return table(["text", "`pta` less", "bits per byte", "relative", "`pta` is", "seeds"], rows) if rows else ""


def _verdict(found: Estimate) -> str:
    if not found.excludes_zero:
        return "not told apart"
    return "better" if found.mean < 0 else "worse"


def _setting(regimes: Mapping[str, Mapping[str, ArmRuns]]) -> str:
    runs = [run for arms in regimes.values() for arm in arms.values() for run in arm.runs.values()]
    runs = [run for run in runs if not run["same_as"]]
    if not runs:
        return "No run has ended yet."
    seconds, tokens = sum(run["seconds"] for run in runs), sum(run["num_tokens"] for run in runs)
    settings = ", ".join(f"{name} {value}" for name, value in TRAINING.items())
    plain = [f"`{name}`" for name, arm in ARMS.items() if arm.training.get("source_temperature") == 1]
    lines = [
        "Made by `python -m jobs.experiments` from the files in `results/`.",
        f"{len(runs)} runs, {tokens:,} tokens learned from, {seconds / 3600:.1f} hours of one core in all.",
        f"Windows of {WINDOW_TOKENS} tokens; {settings}; all else as a job file has it by default, but for what an arm "
        f"changes. Not flattened (source_temperature 1): {', '.join(plain)}.",
        *(
            f"`{name}`: {regime.share:.0%} of the documents of each domain, chosen by the seed, {regime.epochs} "
            f"epoch{'s' if regime.epochs > 1 else ''}; {_tokens(regimes[name])} tokens a run."
            for name, regime in REGIMES.items()
            if regimes[name]
        ),
        "Bits per byte of held-out documents, lower is better; 95% intervals over seeds, differences paired by seed.",
    ]
    return "\n".join(lines)


def _tokens(arms: Mapping[str, ArmRuns]) -> str:
    counts = [run["num_tokens"] for arm in arms.values() for run in arm.runs.values()]
    least, most = min(counts), max(counts)
    return f"{most:,}" if least == most else f"{least:,} to {most:,}"


def _models(models: Mapping[str, Any]) -> str:
    domains = [domain for domain in DOMAINS if domain in models[TARGET]["bits_per_byte"]]
    rows = [
        [
            name,
            f"{found['parameters'] / 1e6:.1f} M",
            f"{found['vocabulary']:,}",
            *_cells(found["bits_per_byte"][domain] for domain in domains),
        ]
        for name, found in models.items()
    ]
    return "## The models before\n\n" + table(["model", "parameters", "vocabulary", *domains], rows)


def _main(regime: str, arms: Mapping[str, ArmRuns], plots: Path) -> str:
    shown = {name: arms[name] for name in MAIN if name in arms}
    if not shown:
        return ""
    domains = next(iter(shown.values())).domains
    rows = []
    for name, arm in shown.items():
        means = [sum(arm.of_domain(d).values()) / len(arm.runs) for d in domains]
        others = [str(arm.against(shown[b])) if b in shown and b != name else "" for b in BASELINES]
        rows.append([name, *_cells(means), f"{arm.estimate().mean:.4f}", *others, str(len(arm.runs))])
    headings = ["arm", *domains, "mean", *(f"less {b}" for b in BASELINES), "seeds"]
    plot = plots / f"{regime}.svg"
    plot_arms(plot, shown, "clm" if "clm" in shown else next(iter(shown)))
    parts = [f"## {regime.capitalize()} text", table(headings, rows), f"![Bits per byte](plots/{plot.name})"]
    gained = [[b, *map(_percent, shown["pta"].relative(shown[b]).values())] for b in COMPARED if {b, "pta"} <= {*shown}]
    if gained:
        parts += ["What `pta` is worth in each domain, relative to these:", table(["less", *domains], gained)]
    return "\n\n".join(parts)


def _gaps(arms: Mapping[str, ArmRuns], models: Mapping[str, Any]) -> str:
    shown = [name for name in MAIN if name in arms]
    if not shown:
        return ""
    domains, rows = arms[shown[0]].domains, []
    for domain in domains:
        before = models[TARGET]["bits_per_byte"][domain]
        best = min(SOURCES, key=lambda source: models[source]["bits_per_byte"][domain])
        gap = before - models[best]["bits_per_byte"][domain]
        closed = [(before - sum(arms[n].of_domain(domain).values()) / len(arms[n].runs)) / gap for n in shown]
        rows.append([domain, best, f"{gap:.3f}", *(f"{share:.1%}" for share in closed)])
    note = "The share of the gap between the target before and the best source that each arm closes:"
    return f"{note}\n\n" + table(["domain", "best source", "gap", *shown], rows)


def _changes(title: str, arms: Mapping[str, ArmRuns], group: Mapping[str, Arm], plots: Path) -> str:
    differences = {n: arms[n].against(arms[a.beside]) for n, a in group.items() if n in arms and a.beside in arms}
    if not differences:
        return ""
    marks = ["yes" if is_beyond else "" for is_beyond in beyond_chance([*differences.values()])]
    rows = [
        [name, f"{arms[name].estimate().mean:.4f}", group[name].beside, str(found), mark, str(found.num_seeds)]
        for (name, found), mark in zip(differences.items(), marks, strict=True)
    ]
    plot = plots / f"{title.lower().replace(' ', '-')}.svg"
    plot_differences(plot, differences, "difference in bits per byte")
    note = (
        "Scarce text. The difference from the arm that has all but the change: below zero is better. Of those beyond "
        "chance, one in twenty is expected not to be (Benjamini and Hochberg)."
    )
    cells = table(["arm", "mean", "less", "difference", "beyond chance", "seeds"], rows)
    return f"## {title}\n\n{note}\n\n{cells}\n\n![Differences](plots/{plot.name})"


def _robustness(arms: Mapping[str, ArmRuns]) -> str:
    rows = []
    for name, others in UNDER_BAD_SOURCES.items():
        for other in others:
            if name in arms and other in arms:
                relative = arms[name].relative(arms[other])
                rows.append([name, other, *map(_percent, relative.values()), str(len(arms[name].runs))])
    if not rows:
        return ""
    note = (
        "Scarce text. What sources cost that are worse than the target: `bad` is so everywhere, the one source (for "
        "Python) and the two (and for German) where they are no specialists. Relative bits per byte, lower is better."
    )
    domains = next(iter(arms.values())).domains
    return f"## Robustness\n\n{note}\n\n" + table(["arm", "less", *domains, "seeds"], rows)


def _winners(arms: Mapping[str, ArmRuns]) -> str:
    rows = []
    winners = {name: next(iter(arm.runs.values()))["won"] for name, arm in arms.items()}
    for name, found in winners.items():
        if name != "pta" and found == winners.get("pta"):
            continue
        kept = [f"{measured['information_kept']:.3f}" for measured in found["fidelity"].values()]
        rows.append([name, *map(_shares, found["won"].values()), " / ".join(kept)])
    if not rows:
        return ""
    domains = next(iter(arms.values())).domains
    heading = "## Who wins the windows, and how much information alignment keeps of each source"
    return f"{heading}\n\nArms that are not named have the winners of `pta`.\n\n" + table(
        ["arm", *domains, "information kept"], rows
    )


def _shares(won: Mapping[str, int]) -> str:
    total = sum(won.values())
    return ", ".join(f"{name} {n / total:.0%}" for name, n in sorted(won.items(), key=lambda item: -item[1]))


def _distances(arms: Mapping[str, ArmRuns], models: Mapping[str, Any]) -> str:
    shown = [name for name in MAIN if name in arms]
    if not shown:
        return ""
    rows = []
    for domain in arms[shown[0]].domains:
        for source in SOURCES:
            before = models[TARGET]["distances"][domain][source]
            after = [
                estimate([run["distances"][domain][source] for run in arms[name].runs.values()]).mean for name in shown
            ]
            rows.append([domain, source, *_cells([before, *after])])
    note = (
        "Divergence of next-byte distributions from the source's, in bits a boundary: less is more alike. Scarce text."
    )
    return f"## Do the models become alike?\n\n{note}\n\n" + table(["domain", "source", "before", *shown], rows)


def _percent(found: Estimate) -> str:
    return f"{found.mean:+.2%}" + ("" if math.isnan(found.low) else f" [{found.low:+.2%}, {found.high:+.2%}]")


def _cells(values: Iterable[float]) -> list[str]:
    return [f"{value:.3f}" for value in values]


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of Markdown."""
    lines = [f"| {' | '.join(headings)} |", f"|{'|'.join('---' for _ in headings)}|"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])
