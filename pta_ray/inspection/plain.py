"""An inspection for the terminal: what the page shows, one boundary after the other."""

from collections.abc import Mapping, Sequence

from rich import box
from rich.columns import Columns
from rich.console import Console, Group, RenderableType
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from pta_ray.inspection.model import Boundary, Inspection, Masses, SourceView, WindowView

_SHADES = (16, 17, 18, 24, 30, 36, 77, 154, 226)
"""Of viridis, among the 256 colours of a terminal."""


def print_inspection(inspection: Inspection, console: Console) -> None:
    """Prints every window: who wins it, and per source the pairing and all boundaries."""
    printer = _Printer(inspection)
    console.print(f"target {inspection.target}; alignment: {inspection.settings}", markup=False)
    if inspection.left_out:
        console.print(f"not asked, and not in the contest: {', '.join(inspection.left_out)}", markup=False)
    if inspection.simulated:
        console.print(f"simulated, so made up: what {', '.join(inspection.simulated)} says", markup=False)
    for n, view in enumerate(inspection.windows):
        console.print(printer.contest(n, view))
        for name, source in zip(inspection.sources, view.sources, strict=True):
            console.print(Rule(Text(f"{name}: pairing")))
            console.print(printer.pairing(view, source))
            for m in range(len(source.boundaries)):
                console.print(printer.boundary(name, view, source, m))


class _Printer:
    """Renders the parts of one inspection."""

    def __init__(self, inspection: Inspection) -> None:
        self._inspection = inspection

    def contest(self, n: int, view: WindowView) -> Table:
        """Who wins a window."""
        title = f"window {n + 1} of {len(self._inspection.windows)}, from byte {view.start}: {view.winner} wins"
        table = _table(Text(title), "model", "bits per byte, own tokens", "speaks at", "outcome")
        for claim in view.claims:
            name = f"* {claim.name}" if claim.name == view.winner else claim.name
            own = f"{claim.bits_per_byte:.3f}" if claim.num_bytes else "-"
            table.add_row(Text(name), own, f"{claim.num_spoken} of {len(view.bits)}", Text(claim.reason))
        return table

    def pairing(self, view: WindowView, source: SourceView) -> Table:
        """The groups, one a row."""
        table = _table(None, "source tokens", "", "target tokens", "text")
        for group in (group for line in source.lines for group in line.groups):
            ours, theirs = view.tokens[slice(*group.target)], source.tokens[slice(*group.source)]
            text = Text() if group.text is None else self._label(group.text)
            table.add_row(self._labels(theirs), f"{len(theirs)}-{len(ours)}", self._labels(ours), text)
        return table

    def boundary(self, name: str, view: WindowView, source: SourceView, m: int) -> Group:
        """All of one boundary."""
        boundary = source.boundaries[m]
        heading = Text(f"{name}: boundary {m + 1} of {len(view.bits)}")
        if view.ends is not None:
            heading.append(f", byte {view.start + max(view.ends[m], 0)}")
        lead = Text("next token ").append(self._label(view.tokens[m + 1])).append(f"; {boundary.where}")
        if boundary.where == "inside":
            lead.append(" ").append(self._label(source.tokens[boundary.source_token]))
            lead.append(", read ").append(self._label(boundary.residue))
        parts: list[RenderableType] = [Rule(heading), lead, Text(self._figures(name, boundary, view.bits[m]))]
        if boundary.where != "silent":
            parts.append(Columns([self._source(boundary), self._target(boundary), self._aligned(boundary)]))
            if boundary.senders:
                most = max((value for row in boundary.plan for value in row.values()), default=0.0)
                parts += [Text("cost, in hundredths, by source candidate"), self._heat(boundary, boundary.cost, 1, 1)]
                parts += [
                    Text("plan, in hundredths, by source candidate"),
                    self._heat(boundary, boundary.plan, 0, most),
                ]
        return Group(*parts)

    def _figures(self, name: str, boundary: Boundary, target_bits: float) -> str:
        told = [f"confidence {_share(boundary.confidence)}"]
        if boundary.where == "silent":
            return f"{told[0]}; bits: {self._inspection.target} {target_bits:.2f}"
        told += [
            f"source's tail {_share(boundary.source.tail)}",
            f"aligned tail {_share(boundary.aligned[self._inspection.method].tail)}",
        ]
        if boundary.pinned is not None:
            told.append(f"next token pinned to {_share(boundary.pinned)}")
        all_bits = {self._inspection.target: target_bits, name: boundary.source_bits, **boundary.bits}
        each = (f"{who} {'not named' if bits is None else f'{bits:.2f}'}" for who, bits in all_bits.items())
        return f"{', '.join(told)}; bits: {', '.join(each)}"

    def _source(self, boundary: Boundary) -> Table:
        table = _table(None, "", "source's candidate", "p", "to move")
        rows = zip(boundary.source.labels, boundary.source.probs, boundary.to_move, strict=True)
        for c, (i, prob, moved) in enumerate(rows):
            table.add_row(str(c + 1), self._label(i), _share(prob), _share(moved))
        table.add_row("", "tail", _share(boundary.source.tail), "", style="dim")
        return table

    def _target(self, boundary: Boundary) -> Table:
        table = _table(None, "target's candidate", "q")
        for i, prob in zip(boundary.target.labels, boundary.target.probs, strict=True):
            table.add_row(self._label(i), _share(prob))
        table.add_row("tail", _share(boundary.target.tail), style="dim")
        return table

    def _aligned(self, boundary: Boundary) -> Table:
        table = _table(None, "aligned", *boundary.aligned)
        masses = [_sums(found) for found in boundary.aligned.values()]
        for i in dict.fromkeys(i for sums in masses for i in sums):
            table.add_row(self._label(i), *(_share(sums[i]) if i in sums else "-" for sums in masses))
        table.add_row("tail", *(_share(found.tail) for found in boundary.aligned.values()), style="dim")
        return table

    def _heat(self, boundary: Boundary, rows: Sequence[Mapping[int, float]], usual: float, most: float) -> Table:
        """A matrix in hundredths, a row for each of the target's candidates, and columns by number: a terminal is not
        as wide as the target's candidates are many."""
        table = Table(box=None, padding=0)
        table.add_column("", max_width=20, no_wrap=True)
        for sender in boundary.senders:
            table.add_column(str(sender + 1), justify="right", min_width=4)
        for y, i in enumerate(boundary.target.labels):
            table.add_row(self._label(i).append(" "), *(_cell(row.get(y, usual), most) for row in rows))
        return table

    def _label(self, i: int) -> Text:
        """Symbols are dim, so that they can be told from text."""
        parts = self._inspection.labels[i]
        return Text.assemble(*((part, "dim" if n % 2 else "") for n, part in enumerate(parts)))

    def _labels(self, labels: Sequence[int]) -> Text:
        return Text(" | ", style="dim").join(self._label(i) for i in labels)


def _table(title: Text | None, *headings: str) -> Table:
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1), show_edge=False)
    for heading in headings:
        table.add_column(heading, overflow="fold")
    return table


def _cell(value: float, most: float) -> Text:
    shade = round(value / most * (len(_SHADES) - 1)) if most > 0 else 0
    ink = "white" if shade < len(_SHADES) // 2 else "black"
    style = f"{ink} on color({_SHADES[shade]})" if value > 0 else "dim"
    return Text(f"{round(100 * value):4d}" if value > 0 else "   .", style=style)


def _sums(masses: Masses) -> dict[int, float]:
    """By label: tokens of a vocabulary may have the same bytes."""
    sums: dict[int, float] = {}
    for i, prob in zip(masses.labels, masses.probs, strict=True):
        sums[i] = sums.get(i, 0) + prob
    return sums


def _share(value: float) -> str:
    return "0" if value == 0 else f"{value:.1e}" if value < 0.0005 else f"{value:.4f}"
