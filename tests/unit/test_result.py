from pathlib import Path

import pytest

from pta_ray.result import staging_directory


def test_a_result_appears_in_one_step(tmp_path: Path) -> None:
    output = tmp_path / "deep" / "out"
    with staging_directory(output) as staging:
        (staging / "model.safetensors").write_text("weights")
        (staging / ".ray").mkdir()
        assert not output.exists()
    assert [path.name for path in output.iterdir()] == ["model.safetensors"]
    assert not staging.exists()


def test_a_failure_leaves_no_result_and_keeps_the_log(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), staging_directory(tmp_path / "out") as staging:
        (staging / "fuse.log").write_text("why")
        raise RuntimeError
    assert not (tmp_path / "out").exists()
    assert (staging / "fuse.log").read_text() == "why"


def test_a_refused_run_leaves_nothing(tmp_path: Path) -> None:
    from pta_ray.errors import JobError

    with pytest.raises(JobError), staging_directory(tmp_path / "out"):
        raise JobError("cpus", "too few")
    assert list(tmp_path.iterdir()) == []
