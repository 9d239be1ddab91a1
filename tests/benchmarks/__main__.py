"""Runs the benchmarks and writes their figures to bench.json: `python -m tests.benchmarks [name ...]`."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

from tests.benchmarks import alignment, memory

BENCHMARKS: dict[str, Callable[[], dict[str, float]]] = {"alignment": alignment.measure, "memory": memory.measure}


def main() -> None:
    path = Path("bench.json")
    figures = json.loads(path.read_text()) if path.exists() else {}
    for name in sys.argv[1:] or BENCHMARKS:
        measured = {f"{name}.{key}": value for key, value in BENCHMARKS[name]().items()}
        print(json.dumps(measured, indent=2), flush=True)
        figures |= measured
        path.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
