"""Makes the demo's text and its three small models, once, from what is installed: no model hub is asked.

    python -m jobs.demo.make_demo

The output is kept outside the repository and holds `data/<set>/<domain>.jsonl` (see corpus.py), `models/<name>`
(ordinary Hugging Face folders) and `models/bits_per_byte.json`. Takes about four minutes on two cores; a second run
returns at once, an interrupted one goes on with the part it was at.
"""

import argparse
import json
import multiprocessing
import os
import shutil
import signal
import time
from pathlib import Path

from jobs.demo.files import MEASURED, atomic_folder, write_atomically

RECIPE_VERSION = 2
"""Raise it whenever the demo's text or models would come out differently: what is cached is then made anew."""

DEFAULT_OUTPUT = Path("~/.cache/pta-ray/demo")
MODELS = ("python", "translations", "target")


def main() -> None:
    parser = argparse.ArgumentParser(description="Make the demo's text and models, unless that has been done.")
    parser.add_argument("--output", type=Path, default=DEFAULT_OUTPUT, help="folder to keep them in")
    parser.add_argument("--scale", type=float, default=1.0, help="multiplies the training; below 1 to try it out")
    arguments = parser.parse_args()
    output = arguments.output.expanduser()
    recipe = {"version": RECIPE_VERSION, "scale": arguments.scale}

    if recorded(output / "complete.json") == recipe:
        print(f"the demo's text and models are in {output}")
        return
    start = time.monotonic()
    # Ended by a signal or Ctrl-C alike, Python takes its daemonic processes with it.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    prepare(output, recipe)
    make_text(output / "data")
    make_models(output, arguments.scale)
    report(output)
    write_atomically(output / "complete.json", json.dumps(recipe))
    print(f"made the demo's text and models in {time.monotonic() - start:.0f} s, they are in {output}")


def recorded(path: Path) -> dict[str, float] | None:
    """The recipe in a marker file, if there is one."""
    return json.loads(path.read_text()) if path.exists() else None


def prepare(output: Path, recipe: dict[str, float]) -> None:
    """Removes what another recipe made, and leaves a note of the recipe that is now being followed."""
    if recorded(output / "recipe.json") != recipe:
        made_before = [path for path in (output / "data", output / "models") if path.exists()]
        if made_before and not (output / "recipe.json").exists():
            raise SystemExit(f"{output} holds data or models that are not the demo's: choose another folder")
        (output / "complete.json").unlink(missing_ok=True)
        for path in made_before:
            shutil.rmtree(path)
    output.mkdir(parents=True, exist_ok=True)
    write_atomically(output / "recipe.json", json.dumps(recipe))


def make_text(data: Path) -> None:
    """Collects the text, unless it is there."""
    if data.exists():
        return
    from jobs.demo.corpus import write_corpus

    print("collecting text from the installed packages", flush=True)
    with atomic_folder(data) as folder:
        write_corpus(folder)


def make_models(output: Path, scale: float) -> None:
    """Trains the models that are missing, side by side, on one core each.

    Three processes of one thread share any number of cores well, also with whatever else is running; threads that wait
    for each other within a step do not.
    """
    missing = [name for name in MODELS if not (output / "models" / name).exists()]
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=make_one_model, args=(name, output, scale), daemon=True) for name in missing]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    if any(process.exitcode for process in processes):
        raise SystemExit("a model could not be made, see above")


def make_one_model(name: str, output: Path, scale: float) -> None:
    """Trains and measures one model; runs in a process of its own."""
    # Saving a model imports DeepSpeed where it is installed, which then looks for accelerators and warns.
    os.environ.setdefault("DS_ACCELERATOR", "cpu")
    from jobs.demo.corpus import DOMAINS
    from jobs.demo.models import RECIPES, make_model

    make_model(name, RECIPES[name], DOMAINS, output / "data", output / "models", scale)


def report(output: Path) -> None:
    """Writes and prints the bits per byte of every model in every domain of the held-out text."""
    measured = {name: json.loads((output / "models" / name / MEASURED).read_text()) for name in MODELS}
    write_atomically(output / "models" / MEASURED, json.dumps(measured, indent=2) + "\n")
    print("held-out bits per byte".ljust(24) + "".join(domain.rjust(14) for domain in measured["target"]))
    for name, row in measured.items():
        print(name.ljust(24) + "".join(f"{bits:14.3f}" for bits in row.values()))


if __name__ == "__main__":
    main()
