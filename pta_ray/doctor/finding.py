"""What the doctor says of one thing."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from pta_ray.errors import JobError


class Severity(StrEnum):
    """From what is well to what keeps a job from running."""

    OK = "ok"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    severity: Severity
    what: str
    """The thing: a package, a device, a field of the job file."""
    detail: str
    """How it is."""
    mend: str = ""
    """What makes it well, where something is wrong."""


def ok(what: str, detail: str) -> Finding:
    """Nothing to mend."""
    return Finding(Severity.OK, what, detail)


def warning(what: str, detail: str, mend: str) -> Finding:
    """A job may run nevertheless."""
    return Finding(Severity.WARNING, what, detail, mend)


def error(what: str, detail: str, mend: str) -> Finding:
    """No job can run, or not this one."""
    return Finding(Severity.ERROR, what, detail, mend)


def refused(refusal: JobError) -> Finding:
    """What `pta-ray fuse` would end with; most refusals name the mend behind a semicolon."""
    detail, _, mend = refusal.problem.partition("; ")
    return error(refusal.field, detail, mend or f"see to what {refusal.field} names, or change it")


def worst(findings: Iterable[Finding]) -> Severity:
    """The gravest severity there is."""
    return max((finding.severity for finding in findings), key=list(Severity).index, default=Severity.OK)
