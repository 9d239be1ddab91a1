"""What is sent to a cluster: the job as it is written, and a name that is the same for the same job."""

import hashlib
import itertools
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import yaml

from pta_ray.errors import JobError
from pta_ray.job_file import checked, read_job

_NAME_LENGTH = 24  # KubeRay takes names of 47 characters at most, with all that is put before and behind it


@dataclass(frozen=True)
class Submission:
    """A job that is sound as far as can be told without the cluster's files."""

    name: str
    """Made from the content: who sends the same job twice means the same run."""
    content: str
    """The job file, overrides applied."""


def prepare(path: Path, overrides: list[str]) -> Submission:
    """Reads a job file for a machine that is not this one: its paths are left as they are.

    Raises:
        JobError: it is not sound, or its output would be lost with the driver's working directory.
    """
    raw = read_job(path, overrides)
    job = checked(raw)
    # The values as they were written: here `~` and `$VARIABLE` would be filled in, and paths made absolute.
    output = str(raw["output"])
    if not output.startswith(("/", "~", "$")):
        problem = (
            f"{output} would be in the driver's working directory; give a path that all hosts of the cluster share"
        )
        raise JobError("output", f"{problem}: --set output=/shared/{output}")
    content = yaml.safe_dump(raw, sort_keys=False)
    readable = re.sub("[^a-z0-9]+", "-", Path(job.output).name.lower())[:_NAME_LENGTH].strip("-")
    digest = hashlib.sha256(content.encode()).hexdigest()[:8]
    return Submission("-".join(filter(None, ["pta-ray", readable, digest])), content)


def next_run(name: str, has_ended: Callable[[str], bool]) -> str:
    """The name of the run to follow or to start: the first that is not behind us, `name`, `name-2` and so on."""
    names = itertools.chain([name], (f"{name}-{i}" for i in itertools.count(2)))
    return next(run for run in names if not has_ended(run))
