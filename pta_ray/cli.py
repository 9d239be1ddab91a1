"""The command line. Nothing heavy is imported before a job has proved sound."""

import json
import sys
import traceback
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Literal

import typer
import yaml
from rich.console import Console

from pta_ray.config import Job
from pta_ray.errors import JobError, StreamError, one_line
from pta_ray.job_file import load_job
from pta_ray.placement import Placement, place
from pta_ray.settings import expand

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

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)


@dataclass
class Failing:
    """How the failure of a command is shown."""

    with_traceback: bool = False


def _print_version(is_asked: bool) -> None:
    if is_asked:
        print(f"pta-ray {version('pta-ray')}")
        raise typer.Exit


@app.callback()
def root(
    context: typer.Context,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    _: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Fuse several language models with different tokenizers into one, as one elastic stream on Ray."""
    context.ensure_object(Failing).with_traceback = debug


@app.command()
def fuse(
    job_file: JobFile,
    overrides: Overrides = None,
    from_cache: Annotated[
        str | None,
        typer.Option(metavar="DIR", help="Train from what `pta-ray align` wrote there; no source is loaded."),
    ] = None,
    simulated: Annotated[
        bool, typer.Option("--simulated", help="Train even from what simulated models make up; the result says so.")
    ] = False,
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
    cache = check_from_cache(job, from_cache, simulated) if from_cache else None
    if cache is None:
        check_fuse(job, simulated)
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


@app.command()
def evaluate(
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL ...",
            help="A directory, hub id or URI, or an entry as in a job file: '{model: ..., name: ...}'.",
        ),
    ],
    data: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATH", help="Text of one domain, or an entry as in a job file: '{path: ..., domain: ...}'."
        ),
    ] = None,
    tasks: Annotated[
        str | None,
        typer.Option(metavar="FILE|NAMES", help="Task suites, or tasks of lm-evaluation-harness (extra: eval)."),
    ] = None,
    run_generated_code: Annotated[
        bool, typer.Option("--run-generated-code", help="Run programs that the models write, shut in by bubblewrap.")
    ] = False,
    window_bytes: Annotated[
        int, typer.Option(help="The longest piece of a document that is read at once, the same for all models.")
    ] = 4096,
    engine: Annotated[
        Literal["vllm", "transformers"], typer.Option(help="Of the models that name none of their own.")
    ] = "vllm",
    json_file: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write everything there.")] = None,
    plot_file: Annotated[
        Path | None, typer.Option("--plot", metavar="FILE", help="Draw the intervals (.svg, .png, .pdf; extra: eval).")
    ] = None,
    address: Address = None,
) -> None:
    """Compare models of any tokenizers: bits per byte on text, scores on tasks.

    Bits per byte come with 95% confidence intervals, and as differences from the first model on the same documents.
    """
    from pta_ray.evaluation.settings import load_evaluation
    from pta_ray.evaluation.task_suites import load_suites
    from pta_ray.preflight import check_evaluation, check_plot, check_tasks

    settings = load_evaluation(models, data or [], window_bytes, engine)
    suites = load_suites(tasks) if tasks else None
    if not data and not suites:
        raise JobError("evaluate", "there is nothing to do: give --data, --tasks or both")
    check_evaluation(settings, [path for path in (json_file, plot_file) if path])
    if suites:
        check_tasks(suites, run_generated_code)
    if plot_file:
        check_plot(plot_file, bool(data))
    from pta_ray.evaluation_run import run_evaluation

    run_evaluation(settings, suites, run_generated_code, (json_file, plot_file), address)


@app.command()
def inspect(
    job_file: JobFile,
    text: Annotated[str | None, typer.Option("--text", metavar="TEXT", help="The text to look at.")] = None,
    file: Annotated[Path | None, typer.Option("--file", metavar="FILE", help="Or a UTF-8 file that holds it.")] = None,
    source: Annotated[
        str | None, typer.Option("--source", metavar="NAME", help="Ask this source alone, not all of the job's.")
    ] = None,
    output: Annotated[Path, typer.Option(metavar="PAGE.html", help="Where the page is written.")] = Path(
        "inspect.html"
    ),
    plain: Annotated[bool, typer.Option("--plain", help="Print it to the terminal instead.")] = False,
    overrides: Overrides = None,
) -> None:
    """Show how the tokens of a job's models pair along a text, and what is transported where, as one HTML page."""
    from pta_ray.inspection.text import given_text
    from pta_ray.preflight import check_inspect

    job, document = load_job(job_file, overrides or []), given_text(text, file)
    check_inspect(job, source, output)
    from pta_ray.inspection.run import inspect_text

    found = inspect_text(job, document, source, Console(stderr=True))
    if plain:
        from pta_ray.inspection.plain import print_inspection

        print_inspection(found, Console())
    else:
        from pta_ray.inspection.page import write_page

        write_page(found, output)
        Console().print(f"{output} ({output.stat().st_size / 1e6:.1f} MB)", highlight=False, markup=False)


@app.command()
def doctor(
    job_file: Annotated[
        Path | None, typer.Argument(metavar="JOB.yaml", help="Also look at all that this job needs.")
    ] = None,
    overrides: Overrides = None,
    address: Annotated[str | None, typer.Option(envvar="RAY_ADDRESS", help="Also ask this Ray cluster.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
) -> None:
    """Look whether this machine, or the cluster at an address, can run a job, and say what mends what is wrong.

    Exit code 0 if all is well or there are only warnings, 2 if there is an error.
    """
    from pta_ray.doctor.examine import examine
    from pta_ray.doctor.finding import Severity, worst
    from pta_ray.doctor.show import findings_json, findings_table

    findings = list(examine(job_file, overrides or [], address))
    if as_json:
        print(findings_json(findings))
    else:
        Console().print(findings_table(findings))
    if worst(findings) is Severity.ERROR:
        raise typer.Exit(2)


@app.command()
def submit(
    job_file: JobFile,
    overrides: Overrides = None,
    address: Annotated[
        str | None,
        typer.Option(metavar="http://HOST:8265", help="The dashboard of a Ray cluster that is there already."),
    ] = None,
    kubernetes: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Or, on Kubernetes, a cluster for it alone: an overlay of cluster/kuberay (extra: k8s)."
        ),
    ] = None,
    render: Annotated[
        bool, typer.Option("--render", help="Print what would be applied to Kubernetes; ask no cluster.")
    ] = False,
) -> None:
    """Fuse on a cluster: start it there, follow its log from here, and end as it ends.

    The run goes on if this ends; the same command then follows it again. One that failed goes on from its newest
    checkpoint.
    """
    from pta_ray.preflight import check_submit
    from pta_ray.submission.job import prepare

    submission = prepare(job_file, overrides or [])
    check_submit(address, kubernetes, render)
    if render and kubernetes:
        from pta_ray.submission.rendering import name_run, read_manifests

        shared, job, config_map = name_run(read_manifests(kubernetes), submission, submission.name)
        sys.stdout.write(yaml.safe_dump_all([*shared, config_map, job], sort_keys=False))
        return
    from pta_ray.submission.start import run_on_kubernetes, run_on_ray

    raise typer.Exit(run_on_kubernetes(submission, kubernetes) if kubernetes else run_on_ray(submission, str(address)))


@app.command()
def report(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The output directory of a finished fuse.")],
    output: Annotated[
        Path | None, typer.Option(metavar="FILE.html", help="Where the page is written; RUN/report.html by default.")
    ] = None,
) -> None:
    """Show what a run was and what came of it, as one HTML page. A fuse writes it at its end."""
    from pta_ray.preflight import check_page
    from pta_ray.run_report.write import REPORT, write_report

    path = output or run / REPORT
    if output:
        check_page(output)
    write_report(run, path)
    Console().print(f"{path} ({path.stat().st_size / 1e3:.0f} kB)", highlight=False, markup=False)


@app.command()
def plan(
    job_file: JobFile,
    overrides: Overrides = None,
    cluster: Annotated[
        str | None,
        typer.Option(
            metavar="HOSTS",
            help="As '2x{gpus: 8, gpu: H100, cpus: 96, memory: 1TB}', several kinds joined by +; or `here`, the cores "
            "of this machine. By default as many hosts of eight A100 as the job takes.",
        ),
    ] = None,
    address: Annotated[str | None, typer.Option(help="Ask this Ray cluster what it has, instead.")] = None,
    tokens: Annotated[
        float | None, typer.Option(help="Of the training text, in the target's; by default from its files' sizes.")
    ] = None,
    price: Annotated[float | None, typer.Option(help="Of a GPU for an hour.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
) -> None:
    """Estimate a job before it runs: memory, speed, bottleneck, hours and cost, from model configurations alone."""
    from pta_ray.planning.run import plan_job

    found = plan_job(load_job(job_file, overrides or []), cluster, address, tokens, price)
    if as_json:
        print(json.dumps(found.as_json(), indent=2))
        return
    from pta_ray.reports.plan_tables import print_plan

    print_plan(found, Console())


def _print_plan(job: Job, placement: Placement) -> None:
    from pta_ray.reports.tables import placement_table

    console = Console()
    console.print(yaml.safe_dump(job.model_dump(mode="json"), sort_keys=False), highlight=False, markup=False)
    console.print(placement_table(placement))


def main() -> None:
    """The entry point: a problem that a user can mend is one line and exit code 2, a failed run exit code 1."""
    failing = Failing()
    try:
        app(obj=failing)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    except (JobError, StreamError) as error:
        _report(error, str(error), failing)
        sys.exit(2 if isinstance(error, JobError) else 1)
    except Exception as error:  # of no kind of ours
        _report(error, f"{one_line(error)} (pta-ray --debug ... shows where)", failing)
        sys.exit(1)


def _report(error: Exception, line: str, failing: Failing) -> None:
    if failing.with_traceback:
        traceback.print_exception(error)
    print(f"error: {line}", file=sys.stderr)
