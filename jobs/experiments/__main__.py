"""What probabilistic token alignment is worth, at a size that two CPU cores carry: from nothing to the tables.

    python -m jobs.experiments            # all of it, hours; what is there already is not made again
    python -m jobs.experiments --arms main robustness --seeds 0 1
    python -m jobs.experiments --report   # only the tables and plots, from the results in the repository

Text, models and scores go to a folder outside the repository; each run of an arm leaves one file in `results/`, so that
an interrupted experiment goes on where it was. `RESULTS.md` and its plots are made from those files alone.
"""

import argparse
import multiprocessing
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import product
from pathlib import Path
from typing import Any

from jobs.experiments.arms import ARMS, IDEAS, MAIN, ONE_CHANGE, RATES, REGIMES, ROBUSTNESS
from jobs.experiments.models import MODELS, make
from jobs.experiments.text import make_text

DEFAULT_FOLDER = Path("~/.cache/pta-ray/experiments")
GROUPS = {"main": MAIN, "one-change": ONE_CHANGE, "ideas": IDEAS, "robustness": ROBUSTNESS, "rates": RATES}
SEEDS = (0, 1, 2, 3, 4)
PROCESSES = 2
"""Of one thread each: they share a small machine better than threads that wait for each other within a step."""


def main() -> None:
    parser = argparse.ArgumentParser(description="Run the experiment and write its tables.")
    parser.add_argument("--folder", type=Path, default=DEFAULT_FOLDER, help="for text, models and scores")
    parser.add_argument("--arms", nargs="+", choices=GROUPS, default=list(GROUPS), help="which groups of arms")
    parser.add_argument("--seeds", nargs="+", type=int, default=SEEDS)
    parser.add_argument("--report", action="store_true", help="write the tables from the results that are there")
    arguments = parser.parse_args()
    if not arguments.report:
        run(arguments.folder.expanduser(), arguments.arms, arguments.seeds)
    from jobs.experiments.report import write_report

    write_report()


def run(folder: Path, groups: Sequence[str], seeds: Sequence[int]) -> None:
    """Makes everything that is missing."""
    from jobs.experiments import fusing, runs

    make_text(folder / "data")
    names = [name for group in groups for name in GROUPS[group]]
    in_processes(make, [(model, folder) for model in ("python", "german", "target", "bad", "smollm2")])
    runs.cut_text(folder)
    in_processes(runs.score_text, [(folder, name, model) for name, model in product(runs.SETS, MODELS)])
    runs.measure_models(folder)
    # Arms that differ in their training only learn from the same windows.
    by_key = {fusing.key(ARMS[name]): name for name in names}
    in_processes(runs.fuse_arm, [(folder, name) for name in by_key.values()])
    todo = [
        (folder, regime, name, seed)
        for seed, name, regime in product(seeds, names, REGIMES)
        if regime == "scarce" or name in MAIN
    ]
    in_processes(runs.run, todo)


def in_processes(function: Callable[..., Any], calls: Sequence[tuple[Any, ...]]) -> None:
    """Makes calls in several processes; the first that fails ends it all."""
    os.environ["OMP_NUM_THREADS"] = "1"
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(PROCESSES, mp_context=context) as executor:
        pending = [executor.submit(function, *arguments) for arguments in calls]
        for call in pending:
            call.result()


if __name__ == "__main__":
    main()
