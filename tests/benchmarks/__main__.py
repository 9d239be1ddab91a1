"""Runs the benchmarks and writes their figures to bench.json: `python -m tests.benchmarks [name ...]`."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.benchmarks import alignment, memory, overhead, pairing, resume, stream, training, vocabulary_map

BENCHMARKS: dict[str, tuple[Callable[[], dict[str, Any]], ...]] = {
    "alignment": (alignment.measure, pairing.measure, vocabulary_map.measure),
    "memory": (memory.measure,),
    "stream": (stream.measure, overhead.measure),
    "training": (training.measure, resume.measure),
}
"""What stands before the dot of a figure's key, and what measures it."""


def main() -> None:
    path = Path("bench.json")
    figures = json.loads(path.read_text()) if path.exists() else {}
    for name in sys.argv[1:] or BENCHMARKS:
        for measure in BENCHMARKS[name]:
            measured = {f"{name}.{key}": value for key, value in measure().items()}
            print(json.dumps(measured, indent=2), flush=True)
            figures |= measured
            path.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
