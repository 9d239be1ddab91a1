"""What scoring actors load, and what they do with the blocks they are given."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pta_ray.columns import scores_of, sound, windows_of
from pta_ray.config import ServedModel
from pta_ray.sources.scorer import BLOCKS_IN_ACTOR, Scorer, ScoringTask, num_threads
from pta_ray.telemetry import Telemetry
from pta_ray.tokenizers.byte_tokenizer import ByteTokenizer
from tests.unit.in_process import in_process, make_windows


def test_a_scoring_actor_loads_no_compiler_of_numba() -> None:
    """vLLM looks through all modules of its process and trips over llvmlite's."""
    command = "import sys, pta_ray.sources.scorer; sys.exit('llvmlite' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", command], check=False).returncode == 0


@pytest.mark.parametrize(
    ("reserved", "host_cpus", "num_cores", "expected"),
    [(3, 6, 2, 1), (3, 5.5, 2, 2), (1, 20, 2, 1), (4, 64, 64, 4), (0.5, 8, 8, 1), (2, 4, 16, 2)],
)
def test_actors_share_the_cores_that_there_are(
    reserved: float, host_cpus: float, num_cores: int, expected: int
) -> None:
    assert num_threads(reserved, host_cpus, num_cores) == expected


def scorer(tokenizer: ByteTokenizer, folder: Path, telemetry: Telemetry) -> Scorer:
    """Two simulated models in one actor; the first cannot score every third window or so."""
    tasks = []
    for i, bad_share in enumerate((0.4, 0.0)):
        simulated = {"tokens_per_second": 1e5, "bad_window_rate": bad_share}
        settings = ServedModel.model_validate(
            {"model": str(folder), "name": f"m{i}", "engine": "simulated", "simulated": simulated}
        )
        tasks.append(ScoringTask(i, settings, tokenizer, 4, 64, f"score m{i}"))
    return Scorer(tasks, telemetry)


def test_what_one_model_cannot_score_the_next_one_is_not_asked(byte_level: ByteTokenizer, tmp_path: Path) -> None:
    with in_process() as (telemetry, board):
        block = scorer(byte_level, tmp_path, telemetry)(make_windows(24))
    kept = sound(windows_of(block)).num_rows
    assert 0 < kept < 24 and len(board.snapshot().set_aside) == 24 - kept
    assert len(scores_of(block, 0)) == len(scores_of(block, 1)) == kept
    assert board.snapshot().stages["score m1"].rows == kept


def test_blocks_that_come_at_the_same_time_keep_their_own_scores(byte_level: ByteTokenizer, tmp_path: Path) -> None:
    blocks = [make_windows(8).slice(4 * i, 4) for i in range(2)]
    with in_process() as (telemetry, _):
        score = scorer(byte_level, tmp_path, telemetry)
        one_by_one = [score(block) for block in blocks]
        with ThreadPoolExecutor(BLOCKS_IN_ACTOR) as threads:
            together = list(threads.map(score, blocks))
    assert together == one_by_one
