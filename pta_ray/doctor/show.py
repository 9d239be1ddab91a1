"""Findings for people and for programs."""

import json
from collections.abc import Sequence
from dataclasses import asdict

from rich.table import Table
from rich.text import Text

from pta_ray.doctor.finding import Finding, Severity, worst

_STYLES = {Severity.OK: "green", Severity.WARNING: "yellow", Severity.ERROR: "bold red"}


def findings_table(findings: Sequence[Finding]) -> Table:
    """A row each, with the mend beneath what is wrong."""
    counts = {severity: sum(finding.severity is severity for finding in findings) for severity in Severity}
    plurals = {Severity.OK: "ok", Severity.WARNING: "warnings", Severity.ERROR: "errors"}
    caption = ", ".join(f"{count} {s if count == 1 else plurals[s]}" for s, count in counts.items() if count)
    table = Table(caption=caption, caption_justify="left")
    table.add_column("")
    table.add_column("what", overflow="fold")
    table.add_column("found, and what mends it", overflow="fold")
    for finding in findings:
        found = Text(finding.detail)
        if finding.mend:
            found.append(f"\n-> {finding.mend}", style="bold")
        table.add_row(Text(finding.severity, style=_STYLES[finding.severity]), Text(finding.what), found)
    return table


def findings_json(findings: Sequence[Finding]) -> str:
    """`severity`, the worst of all, and `findings`: each with `severity`, `what`, `detail` and `mend`."""
    content = {"severity": worst(findings), "findings": [asdict(finding) for finding in findings]}
    return json.dumps(content, indent=2, ensure_ascii=False)
