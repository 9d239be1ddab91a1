"""Whether a job would make again what another one has made."""

from collections.abc import Mapping
from typing import Any

from pta_ray.config import Job
from pta_ray.errors import JobError

# What only says how a job runs.
_RUNNING: Mapping[str, Any] = {
    "target": True, "sources": True, "output": True, "data": {"max_failed_share", "cache"}, "alignment": {"replicas"},
}  # fmt: skip


def check_agreement(made: Job, job: Job, exclude: Mapping[str, Any], what: str, start_over: str) -> None:
    """Refuses a job that differs from an earlier one in a setting that counts.

    Of the models their names count, and where the sources lie; how they are run does not.

    Args:
        exclude: further sections, or fields of sections, that do not count, as pydantic's `model_dump` takes them.
        what: was made by the earlier job.
        start_over: what to do instead of going back to the earlier settings.

    Raises:
        JobError: names the first field that differs, and what it has to be.
    """
    wanted = _settings(job, exclude)
    for field, value in _settings(made, exclude).items():
        if wanted[field] != value:
            mend = f"set it to that, or {start_over}"
            raise JobError(field, f"is {wanted[field]}, and {what} was made with {value}; {mend}")


def _settings(job: Job, exclude: Mapping[str, Any]) -> dict[str, object]:
    """Every setting that counts, by field."""
    sections = job.model_dump(mode="json", exclude={**_RUNNING, **exclude})
    settings: dict[str, object] = {
        "target.name": job.target.name,
        "sources": [f"{source.name} ({source.model})" for source in job.sources],
    }
    for section, values in sections.items():
        settings |= {f"{section}.{name}": value for name, value in values.items()}
    return settings
