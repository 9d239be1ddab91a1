"""The command line. Nothing heavy is imported before a job has proved sound."""

import sys
from pathlib import Path
from typing import Annotated

import typer
import yaml
from rich.console import Console

from pta_ray.config import Job, load_job
from pta_ray.errors import JobError, StreamError

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


@app.callback()
def root() -> None:
    """Fuse several language models with different tokenizers into one, as one elastic stream on Ray."""


@app.command()
def fuse(
    job_file: Annotated[Path, typer.Argument(metavar="JOB.yaml", help="Target, sources, data, and how to fuse them.")],
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Replace one value of the job file.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the resolved job and what would run where; load nothing.")
    ] = False,
    address: Annotated[
        str | None,
        typer.Option(envvar="RAY_ADDRESS", help="Join this Ray cluster; without it Ray is started on this machine."),
    ] = None,
) -> None:
    """Fuse the sources of a job into its target: text in, an ordinary Hugging Face checkpoint out."""
    from pta_ray.preflight import check

    job = load_job(job_file, overrides or [])
    check(job)
    if dry_run:
        _print_plan(job)
        return
    from pta_ray.runner import run_fuse

    run_fuse(job, address)


def _print_plan(job: Job) -> None:
    from pta_ray.placement import place
    from pta_ray.reports.tables import placement_table

    console = Console()
    console.print(yaml.safe_dump(job.model_dump(mode="json"), sort_keys=False), highlight=False, markup=False)
    console.print(placement_table(place(job, has_gpus=False)))


def main() -> None:
    """The entry point: a problem that a user can mend is one line and exit code 2, a failed run exit code 1."""
    try:
        app()
    except JobError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    except StreamError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
