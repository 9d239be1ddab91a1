"""The command line. Nothing heavy is imported before a job has proved sound."""

import sys
from pathlib import Path
from typing import Annotated

import typer
import yaml
from rich.console import Console

from pta_ray.config import Job, expand, load_job
from pta_ray.errors import JobError, StreamError
from pta_ray.placement import Placement, place

JobFile = Annotated[Path, typer.Argument(metavar="JOB.yaml", help="Target, sources, data, and how to fuse them.")]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Replace one value of the job file.")
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Print the resolved job and what would run where; load nothing.")
]
Address = Annotated[
    str | None,
    typer.Option(envvar="RAY_ADDRESS", help="Join this Ray cluster; without it Ray is started on this machine."),
]

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


@app.callback()
def root() -> None:
    """Fuse several language models with different tokenizers into one, as one elastic stream on Ray."""


@app.command()
def fuse(
    job_file: JobFile,
    overrides: Overrides = None,
    from_cache: Annotated[
        str | None,
        typer.Option(metavar="DIR", help="Train from what `pta-ray align` wrote there; no source is loaded."),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the newest checkpoint of an interrupted run, if there is one.")
    ] = False,
    dry_run: DryRun = False,
    address: Address = None,
) -> None:
    """Fuse the sources of a job into its target: text in, an ordinary Hugging Face checkpoint out."""
    from pta_ray.cache import place_from_cache
    from pta_ray.preflight import check_from_cache, check_fuse

    job = load_job(job_file, overrides or [])
    cache = check_from_cache(job, from_cache) if from_cache else None
    if cache is None:
        check_fuse(job)
    if dry_run:
        _print_plan(job, place_from_cache(job, cache, has_gpus=False) if cache else place(job, has_gpus=False))
        return
    from pta_ray import runner

    if cache:
        runner.run_fuse_from_cache(job, address, resume, cache)
    else:
        runner.run_fuse(job, address, resume)


@app.command()
def align(
    job_file: JobFile,
    output: Annotated[
        str, typer.Option(metavar="DIR", help="Where the cache is written, on a disk that all hosts share.")
    ],
    overrides: Overrides = None,
    dry_run: DryRun = False,
    address: Address = None,
) -> None:
    """Run the stream of a job up to what the target would learn from, and keep that as a Parquet cache.

    `pta-ray fuse --from-cache` trains from it, as often as you like.
    """
    from pta_ray.cache import place_align
    from pta_ray.preflight import check_align

    job, output = load_job(job_file, overrides or []), expand(output).rstrip("/")
    check_align(job, output)
    if dry_run:
        _print_plan(job, place_align(job, output, has_gpus=False))
        return
    from pta_ray.runner import run_align

    run_align(job, address, output)


def _print_plan(job: Job, placement: Placement) -> None:
    from pta_ray.reports.tables import placement_table

    console = Console()
    console.print(yaml.safe_dump(job.model_dump(mode="json"), sort_keys=False), highlight=False, markup=False)
    console.print(placement_table(placement))


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
