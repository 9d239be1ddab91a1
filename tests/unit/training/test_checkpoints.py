import json
import os
import shutil
import subprocess
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from pta_ray.errors import JobError, StreamError
from pta_ray.ledger import Ledger
from pta_ray.training import checkpoints
from pta_ray.training.checkpoints import CheckpointStore, Tensor
from pta_ray.training.manifest import check_settings, check_target, check_text
from tests.unit.training.test_manifest import STATE, describe


def learned() -> Ledger:
    ledger = Ledger()
    ledger.add(np.array([0, 1, 0]), np.array([0, 4, 1]), np.array([False, False, True]))
    return ledger


def make_tensors(rank: int, step: int) -> dict[str, Tensor]:
    rng = np.random.default_rng([rank, step])
    return {f"layer.{rank}.{name}": rng.normal(size=(8, 5)).astype(np.float32) for name in ("weight", "exp_avg")}


def write(store: CheckpointStore, step: int, num_workers: int = 2) -> None:
    files: dict[str, int] = {}
    for rank in range(num_workers):
        files |= store.write_tensors(step, rank, make_tensors(rank, step))
    store.commit(step, describe(step), learned(), files)


def assert_equal(read: dict[str, Tensor], written: dict[str, Tensor]) -> None:
    assert read.keys() == written.keys()
    for name, tensor in written.items():
        assert read[name].dtype == np.float32
        np.testing.assert_array_equal(read[name], tensor, strict=True)


@pytest.fixture(params=["path", "file", "fsspec+memory"])
def directory(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A path, a URI, and a file system that knows no directories without files."""
    match request.param:
        case "path":
            return str(tmp_path / "new" / "checkpoints")
        case "file":
            return (tmp_path / "new" / "checkpoints").as_uri()
        case memory:
            return f"{memory}://{uuid.uuid4().hex}/checkpoints"


@pytest.fixture
def store(tmp_path: Path) -> CheckpointStore:
    """With three complete checkpoints."""
    store = CheckpointStore(str(tmp_path / "checkpoints"))
    for step in (40, 80, 120):
        write(store, step)
    return store


@pytest.fixture
def newest(store: CheckpointStore, tmp_path: Path) -> Path:
    """The directory of the newest checkpoint of `store`."""
    return tmp_path / "checkpoints" / "step-00000120"


def test_what_was_committed_is_there_again_wherever_it_lies(directory: str) -> None:
    store = CheckpointStore(directory)
    assert store.newest() is None and store.steps() == []
    for step in (40, 120):
        write(store, step)
    assert store.steps() == [40, 120]
    checkpoint = CheckpointStore(directory).newest()
    assert checkpoint is not None and checkpoint.step == 120
    assert checkpoint.location == f"{directory}/step-00000120"
    assert checkpoint.manifest.model_copy(update={"files": {}}) == describe(120)
    assert checkpoint.ledger().to_table().equals(learned().to_table())
    assert_equal(dict(checkpoint.tensors()), make_tensors(0, 120) | make_tensors(1, 120))
    store.prune(1, keep=[])
    assert store.steps() == [120]


@given(
    st.lists(arrays.arrays(np.float32, arrays.array_shapes(min_dims=0, min_side=0, max_side=6)), max_size=8),
    st.integers(1, 3),
    st.integers(0, 300),
)
def test_tensors_survive_to_the_bit_whoever_writes_them_in_files_of_any_size(
    tmp_path_factory: pytest.TempPathFactory, tensors: list[Tensor], num_workers: int, part_bytes: int
) -> None:
    folder = tmp_path_factory.mktemp("checkpoints")
    store = CheckpointStore(str(folder))
    # A transposed array lies in memory in another order than its shape says.
    named = {f"tensor.{i}": tensor.T for i, tensor in enumerate(tensors)}
    files: dict[str, int] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoints, "_PART_BYTES", part_bytes)
        for rank in range(num_workers):
            share = list(named.items())[rank::num_workers]
            files |= store.write_tensors(7, rank, iter(share))
    store.commit(7, describe(7), learned(), files)
    assert {path.name: path.stat().st_size for path in folder.glob("*/*.safetensors")} == files
    assert_equal(dict(store.open(7).tensors()), named)


def test_a_file_holds_tensors_up_to_its_size_and_a_larger_one_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoints, "_PART_BYTES", 400)
    store, sizes = CheckpointStore(str(tmp_path)), [50, 50, 10, 500, 60, 30]
    files = store.write_tensors(1, 3, ((str(i), np.zeros(size, np.float32)) for i, size in enumerate(sizes)))
    store.commit(1, describe(1), Ledger(), files)
    assert list(files) == [f"tensors-3-{part}.safetensors" for part in range(4)]
    assert [name for name, _ in store.open(1).tensors()] == ["0", "1", "2", "3", "4", "5"]


def drop_manifest(folder: Path) -> None:
    (folder / "checkpoint.json").unlink()


def empty_manifest(folder: Path) -> None:
    (folder / "checkpoint.json").write_bytes(b"")


@pytest.mark.parametrize("stop", [drop_manifest, empty_manifest])
def test_what_a_writer_left_that_died_is_passed_over_and_removed(
    store: CheckpointStore, newest: Path, stop: Callable[[Path], None]
) -> None:
    stop(newest)
    resumed = CheckpointStore(str(newest.parent))
    checkpoint = resumed.newest()
    assert checkpoint is not None and checkpoint.step == 80
    resumed.prune(9, keep=[])
    assert sorted(path.name for path in newest.parent.iterdir()) == ["step-00000040", "step-00000080"]


def test_what_a_writer_left_that_died_is_written_over(store: CheckpointStore, newest: Path) -> None:
    for rank in range(3):
        store.write_tensors(160, rank, make_tensors(rank, 999))
    resumed = CheckpointStore(str(newest.parent))
    write(resumed, 160, num_workers=1)
    assert_equal(dict(resumed.open(160).tensors()), make_tensors(0, 160))


def test_a_complete_checkpoint_that_is_written_again_is_incomplete_meanwhile(store: CheckpointStore) -> None:
    store.write_tensors(120, 0, make_tensors(0, 999))
    assert store.steps() == [40, 80]
    write(store, 120)
    assert_equal(dict(store.open(120).tensors()), make_tensors(0, 120) | make_tensors(1, 120))


def test_pruning_keeps_the_last_ones_the_best_one_and_the_one_being_written(
    store: CheckpointStore, newest: Path
) -> None:
    (newest.parent / "step-notes").mkdir()
    (newest.parent / "best.txt").touch()
    write(store, 160)
    store.write_tensors(200, 0, make_tensors(0, 200))
    store.prune(2, keep=[40, 41])
    assert store.steps() == [40, 120, 160]
    assert {path.name for path in newest.parent.iterdir()} == {
        "best.txt", "step-notes", "step-00000040", "step-00000120", "step-00000160", "step-00000200",
    }  # fmt: skip
    store.commit(200, describe(200), learned(), {})
    store.prune(1, keep=[])
    assert store.steps() == [200]


def lose_tensors(folder: Path) -> None:
    (folder / "tensors-1-0.safetensors").unlink()


def cut_tensors(folder: Path) -> None:
    path = folder / "tensors-0-0.safetensors"
    path.write_bytes(path.read_bytes()[:-4])


def lose_ledger(folder: Path) -> None:
    (folder / "ledger.parquet").unlink()


def cut_manifest(folder: Path) -> None:
    path = folder / "checkpoint.json"
    path.write_text(path.read_text()[:-4])


def replace_manifest(folder: Path) -> None:
    (folder / "checkpoint.json").write_text('{"global_step": 120}')


def age(folder: Path) -> None:
    path = folder / "checkpoint.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": 1}))


@pytest.mark.parametrize(
    ("harm", "problem"),
    [
        (lose_tensors, r"tensors-1-0\.safetensors is missing"),
        (cut_tensors, r"tensors-0-0\.safetensors holds \d+ of its \d+ bytes"),
        (lose_ledger, r"ledger\.parquet is missing"),
        (cut_manifest, r"checkpoint\.json is not one that this version of pta-ray writes"),
        (replace_manifest, r"checkpoint\.json is not one that this version of pta-ray writes"),
        (age, r"checkpoint\.json is not one that this version of pta-ray writes"),
    ],
)
def test_a_damaged_checkpoint_is_refused_and_no_older_one_taken(
    store: CheckpointStore, newest: Path, harm: Callable[[Path], None], problem: str
) -> None:
    harm(newest)
    for opening in (store.newest, lambda: store.open(120)):
        with pytest.raises(JobError, match=problem) as caught:
            opening()
        assert str(caught.value).startswith(f"--resume: {newest}: ") and "\n" not in str(caught.value)
        assert "remove that directory to go on from the checkpoint before it" in str(caught.value)
    shutil.rmtree(newest)
    checkpoint = store.newest()
    assert checkpoint is not None and checkpoint.step == 80


@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("tensors-0-0.safetensors", lambda checkpoint: dict(checkpoint.tensors())),
        ("ledger.parquet", lambda checkpoint: checkpoint.ledger()),
    ],
)
def test_a_file_of_other_content_is_refused_when_it_is_read(
    store: CheckpointStore, newest: Path, name: str, read: Callable[[checkpoints.Checkpoint], object]
) -> None:
    path = newest / name
    path.write_bytes(b"\xff" * path.stat().st_size)
    with pytest.raises(JobError, match=rf"^--resume: {newest}: {name} cannot be read") as caught:
        read(store.open(120))
    assert "\n" not in str(caught.value)


def test_a_step_without_a_checkpoint_is_refused(store: CheckpointStore) -> None:
    with pytest.raises(JobError, match=r"^--resume: .*step-00000041: checkpoint.json cannot be read"):
        store.open(41)


@pytest.mark.parametrize("directory", ["nowhere://bucket/checkpoints", __file__])
def test_a_directory_that_cannot_be_reached_is_refused(directory: str) -> None:
    with pytest.raises(JobError, match=rf"^training.checkpoints.directory: cannot reach {directory} "):
        CheckpointStore(directory).steps()


def test_a_directory_that_cannot_be_made_stops_the_run(tmp_path: Path) -> None:
    store = CheckpointStore(str(tmp_path / "checkpoints"))
    (tmp_path / "checkpoints").touch()
    with pytest.raises(
        StreamError, match=r"cannot write .*/step-00000001 \(.*directory.*\); .*newest checkpoint that is complete"
    ) as caught:
        store.write_tensors(1, 0, make_tensors(0, 1))
    assert "\n" not in str(caught.value)


def test_a_directory_that_workers_do_not_share_is_noticed_at_once(store: CheckpointStore, tmp_path: Path) -> None:
    elsewhere = CheckpointStore(str(tmp_path / "elsewhere"))
    files = store.write_tensors(160, 0, make_tensors(0, 160)) | elsewhere.write_tensors(160, 1, make_tensors(1, 160))
    with pytest.raises(StreamError, match=r"tensors-1-0.safetensors is missing; .*share.*step 120 is complete"):
        store.commit(160, describe(160), learned(), files)
    assert store.steps() == [40, 80, 120]


@pytest.fixture
def mount() -> Iterator[Callable[[Path], None]]:
    """Puts a file system of one megabyte at a path."""
    mounted = []

    def mount_at(path: Path) -> None:
        path.mkdir(parents=True)
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(path)], capture_output=True)
        if done.returncode:
            pytest.skip(f"cannot mount a file system here: {done.stderr.decode().strip()}")
        mounted.append(path)

    yield mount_at
    for path in reversed(mounted):
        subprocess.run(["umount", str(path)], check=True)


@pytest.fixture
def small_disk(tmp_path: Path, mount: Callable[[Path], None]) -> Path:
    mount(tmp_path / "disk")
    return tmp_path / "disk"


def test_a_full_disk_stops_the_run_and_leaves_the_checkpoint_before(small_disk: Path) -> None:
    store = CheckpointStore(str(small_disk / "checkpoints"))
    large = {"weight": np.ones(1 << 19, np.float32)}  # two megabytes
    with pytest.raises(
        StreamError, match=r"No space left on device.*; no other checkpoint is complete: mend that and start over"
    ):
        store.write_tensors(40, 0, large)
    write(store, 40)
    with pytest.raises(StreamError, match=r"cannot write .*/step-00000080 .*No space left.*") as caught:
        store.write_tensors(80, 0, large)
    assert "the checkpoint of step 40 is complete: mend that and go on from it with --resume" in str(caught.value)
    assert "\n" not in str(caught.value)
    checkpoint = CheckpointStore(str(small_disk / "checkpoints")).newest()
    assert checkpoint is not None and checkpoint.step == 40
    assert_equal(dict(checkpoint.tensors()), make_tensors(0, 40) | make_tensors(1, 40))


@pytest.mark.parametrize("free_pages", [0, 1, 2])
def test_a_disk_that_is_full_before_the_manifest_is_written(small_disk: Path, free_pages: int) -> None:
    store = CheckpointStore(str(small_disk / "checkpoints"))
    write(store, 40)
    files = store.write_tensors(80, 0, make_tensors(0, 80))
    manifest = describe(80).model_copy(update={"state": {"losses": [[step, 2.5] for step in range(2000)]}})
    # The ledger takes one page; another holds the beginning of the manifest.
    filler_bytes = shutil.disk_usage(small_disk).free - free_pages * os.sysconf("SC_PAGE_SIZE")
    (small_disk / "filler").write_bytes(bytes(filler_bytes))
    with pytest.raises(StreamError, match=r"No space left on device.*step 40 is complete"):
        store.commit(80, manifest, learned(), files)
    assert store.steps() == [40]
    (small_disk / "filler").unlink()
    store.commit(80, manifest, learned(), files)
    assert store.steps() == [40, 80]


def test_a_checkpoint_that_can_be_removed_in_part_only_is_incomplete_then(
    small_disk: Path, mount: Callable[[Path], None]
) -> None:
    store, folder = CheckpointStore(str(small_disk)), small_disk / "step-00000040"
    # What is mounted cannot be removed; one of the two is met first, whether the oldest or the newest file is.
    mount(folder / "oldest")
    write(store, 40)
    mount(folder / "newest")
    write(store, 80)
    with pytest.raises(StreamError, match=r"cannot remove .*/step-00000040 .*checkpoint of step 80 is complete"):
        store.prune(1, keep=[])
    assert (folder / "ledger.parquet").exists() and store.steps() == [80]


def test_a_job_agrees_with_the_checkpoint_it_left(store: CheckpointStore) -> None:
    manifest = store.open(120).manifest
    check_settings(manifest, describe(120).job)  # with a rho that JSON has no word for
    check_target(manifest, "target" * 8)
    check_text(manifest, "plan" * 8)
    assert manifest.state == STATE
