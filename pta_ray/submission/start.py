"""Starts a job where it shall run, and follows it on this terminal."""

import sys
from pathlib import Path

from pta_ray.submission.following import Patience, follow
from pta_ray.submission.job import Submission


def run_on_ray(submission: Submission, address: str) -> int:
    """Runs a job on a Ray cluster to its end, and returns its exit code.

    Raises:
        JobError: the cluster does not take it.
        StreamError: the cluster was away for too long.
    """
    from pta_ray.submission.ray_jobs import submit

    patience = Patience()
    return follow(submit(submission, address, _say, patience), _write, _say, patience)


def run_on_kubernetes(submission: Submission, directory: Path) -> int:
    """Runs a job on a cluster that a kustomize directory describes. Returns and raises as `run_on_ray`."""
    from pta_ray.submission.kubernetes import connect, submit
    from pta_ray.submission.rendering import read_manifests

    patience, manifests = Patience(), read_manifests(directory)
    return follow(submit(submission, manifests, _say, patience, connect()), _write, _say, patience)


def _write(piece: str) -> None:
    sys.stdout.write(piece)
    sys.stdout.flush()


def _say(line: str) -> None:
    print(f"pta-ray submit: {line}", file=sys.stderr, flush=True)
