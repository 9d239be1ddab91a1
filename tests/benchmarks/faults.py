"""Kills processes and hosts of several fusions at random moments; writes a table of what was tried and what came of it.

`python -m tests.benchmarks.faults FILE.md` writes it, and the same as FILE.json. PTA_RAY_FAULT_SEED sets the seed.
"""

import json
import os
import random
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import median

from pta_ray.checkpoint import cache_directory
from tests.end_to_end.faults import DRIVER, HOST, Hosts, Kill, Outcome, fuse_and_kill
from tests.end_to_end.simulated_runs import READING, write_job

ALONE = "left alone"
ACTORS = ["scoring actor"] * 5 + ["alignment actor"] * 3 + [READING]
RUNS: dict[str, list[str]] = {
    "actors and driver": [*ACTORS, *ACTORS[2:8], DRIVER, DRIVER],
    "training": ["training worker"] * 3 + ["split coordinator", "training controller"],
    "hosts": [*ACTORS[3:7], HOST, HOST],
}
"""What is killed in each run, in random order."""


def measure(folder: Path, demo: Path, seed: int, names: Sequence[str] = (ALONE, *RUNS)) -> list[Outcome]:
    """A run that is left alone, and those of `RUNS`, all over the same text."""
    rng = random.Random(seed)
    outcomes = []
    for name in names:
        kills = RUNS.get(name, [])
        if name == ALONE:
            job = write_job(folder / name, demo, served={"simulated": {"tokens_per_second": 4000}})
            outcomes.append(fuse_and_kill(name, job, kills, rng))
        elif HOST in kills:
            # Fewest and most: a cluster that has lost a host has room for the fewest.
            job = write_job(folder / name, demo, served={"replicas": [1, 2]}, alignment={"replicas": [1, 2]})
            with Hosts() as hosts:
                outcomes.append(fuse_and_kill(name, job, kills, rng, hosts))
        else:
            outcomes.append(fuse_and_kill(name, write_job(folder / name, demo), kills, rng))
        print(summary(outcomes[-1:]), flush=True)
    return outcomes


def seed_of_environment() -> int:
    """A new one, unless PTA_RAY_FAULT_SEED is set."""
    return int(os.environ.get("PTA_RAY_FAULT_SEED", random.SystemRandom().randrange(1 << 32)))


def summary(outcomes: Sequence[Outcome]) -> str:
    """A Markdown table with a row for each run and kind of victim."""
    heads = [
        "run",
        "killed",
        "times",
        "at second (after step)",
        "seconds to the second checkpoint, median (most)",
    ]
    heads += ["windows", "trained", "lost", "doubled", "set aside", "left behind"]
    lines = [heads, ["---"] * len(heads)]
    for outcome in outcomes:
        came_of_it = [outcome.num_windows, outcome.trained, outcome.lost, outcome.doubled, outcome.set_aside]
        kinds = Counter(kill.what for kill in outcome.kills) or {"nothing": 0}
        for what, count in kinds.items():
            found = [kill for kill in outcome.kills if kill.what == what]
            moments = ", ".join(f"{kill.second:.0f} ({kill.step})" for kill in found)
            row = [outcome.run, what, count, moments, _recovery(found), *came_of_it, len(outcome.left)]
            lines.append([str(cell) for cell in row])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _recovery(kills: Sequence[Kill]) -> str:
    seconds = [kill.recovery_seconds for kill in kills if kill.recovery_seconds is not None]
    return f"{median(seconds):.0f} ({max(seconds):.0f})" if seconds else "-"


def main() -> None:
    path, demo = Path(sys.argv[1]), cache_directory() / "test-demo"
    subprocess.run(
        [sys.executable, "-m", "jobs.demo.make_demo", "--output", str(demo), "--scale", "0.02"], check=True
    )  # fmt: skip
    seed = seed_of_environment()
    print(f"seed {seed}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        outcomes = measure(Path(folder), demo, seed)
    write(path, seed, outcomes)


def write(path: Path, seed: int, outcomes: Sequence[Outcome]) -> None:
    """The table as Markdown, and all that is known as JSON beside it."""
    num_kills = sum(len(outcome.kills) for outcome in outcomes)
    path.write_text(f"{num_kills} random kills, seed {seed}.\n\n{summary(outcomes)}\n")
    found = {"seed": seed, "num_kills": num_kills, "runs": [asdict(outcome) for outcome in outcomes]}
    path.with_suffix(".json").write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
