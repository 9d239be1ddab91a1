"""What the process of an engine may and may not load."""

import subprocess
import sys


def test_the_process_that_scores_loads_no_compiler_of_numba() -> None:
    """vLLM looks through all modules of its process and trips over llvmlite's."""
    command = "import sys, pta_ray.inspection.scoring; sys.exit('llvmlite' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", command], check=False).returncode == 0
