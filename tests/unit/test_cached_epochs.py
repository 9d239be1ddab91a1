"""The epochs that read a cache: everything once in each, in an order that nothing but the seed decides."""

import itertools
import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pta_ray.cache import Description, count_rows, data_files, is_finished, open_cache, write_description
from pta_ray.cached_epochs import LaterEpochs, later_epochs, rebatched
from pta_ray.columns import FUSED_TYPE, Fused, fused_rows
from pta_ray.config import Data, Job
from pta_ray.distributions import FusedRow, SparseDistribution
from pta_ray.errors import JobError, StreamError
from pta_ray.growing_cache import Keeping, begin_cache, check_growing_cache, drop_doubles, end_growth, keep
from pta_ray.ledger import Ledger
from pta_ray.text.reading import plan_reads

Window = tuple[int, int]

NUM_TASKS = 5  # of an epoch
SEED = 3

LENGTHS = st.lists(st.integers(0, 9), min_size=1, max_size=NUM_TASKS).filter(any)
"""Windows of each task."""


def stream(lengths: Sequence[int], bad: set[Window] = frozenset()) -> pa.Table:
    """The fused rows of an epoch; the text of a window is its place, and some were set aside."""
    places = [(task, row) for task, length in enumerate(lengths) for row in range(length)]
    windows = pa.table(
        {
            "window_id": [f"text/{task}:{row}" for task, row in places],
            "domain": ["text"] * len(places),
            "task": pa.array([task for task, _ in places], pa.int32()),
            "row": pa.array([row for _, row in places], pa.int32()),
            "ends_task": pa.array([row == lengths[task] - 1 for task, row in places], pa.bool_()),
            "share": pa.array([1 / len(places)] * len(places), pa.float64()),
        }
    )
    return fused_rows(windows, [None if place in bad else fused(*place) for place in places])


def fused(task: int, row: int) -> Fused:
    targets = SparseDistribution(
        np.array([[task, row]], np.int32), np.full((1, 2), 0.5, np.float32), np.ones(1, np.float32)
    )
    return Fused("source", FusedRow(np.array([task, row], np.int32), targets, np.zeros(1, np.bool_)))


def write(directory: Path, rows: pa.Table, cuts: Sequence[int]) -> None:
    """Keeps rows in blocks that end at some of them."""
    edges = [0, *sorted(cut % (len(rows) + 1) for cut in cuts), len(rows)]
    for start, stop in itertools.pairwise(edges):
        keep(directory, rows.slice(start, stop - start))


def later(directory: Path, num_epochs: int = 3) -> LaterEpochs:
    return LaterEpochs(str(directory), num_epochs, SEED, NUM_TASKS)


def read(directory: Path, learned: Ledger | None = None, num_epochs: int = 3) -> list[tuple[int, int, bool, str]]:
    """Task, row, end of the task and window of all rows."""
    tables = list(later(directory, num_epochs).read(learned or Ledger()))
    names = ["task", "row", "ends_task", "window_id"]
    return [row for table in tables for row in zip(*(table.column(n).to_pylist() for n in names), strict=True)]


@st.composite
def kept(draw: st.DrawFn) -> tuple[list[int], set[Window], list[list[int]]]:
    """How long tasks are, which windows were set aside, and where the blocks of several attempts were cut."""
    lengths = draw(LENGTHS)
    places = [(task, row) for task, length in enumerate(lengths) for row in range(length)]
    bad = draw(st.sets(st.sampled_from(places), max_size=len(places) - 1))
    return lengths, bad, draw(st.lists(st.lists(st.integers(0, 50), max_size=6), min_size=1, max_size=3))


@settings(max_examples=25, deadline=None)
@given(kept())
def test_each_epoch_has_every_window_that_was_not_set_aside_once(
    tmp_path_factory: pytest.TempPathFactory, case: tuple[list[int], set[Window], list[list[int]]]
) -> None:
    lengths, bad, attempts = case
    directory = tmp_path_factory.mktemp("cache")
    for cuts in attempts:
        write(directory, stream(lengths, bad), cuts)
    rows = read(directory)
    expected = sorted(f"text/{t}:{r}" for t, length in enumerate(lengths) for r in range(length) if (t, r) not in bad)
    for epoch in (1, 2):
        of_epoch = [row for row in rows if row[0] // NUM_TASKS == epoch]
        assert sorted(window for *_, window in of_epoch) == expected
        assert all(window.startswith(f"text/{task % NUM_TASKS}:") for task, _, _, window in of_epoch)
    ledger = Ledger()
    ledger.add(*(np.array(column) for column in list(zip(*rows, strict=True))[:3]))  # raises where one comes twice
    assert all(ledger.is_done(task) for task, *_ in rows), "the ledger does not see that a task has ended"
    assert read(directory, ledger) == []


@settings(max_examples=25, deadline=None)
@given(kept(), st.integers(0, 100), st.lists(st.integers(0, 50), max_size=6))
def test_a_run_that_goes_on_reads_exactly_the_rest_in_the_same_order(
    tmp_path_factory: pytest.TempPathFactory,
    case: tuple[list[int], set[Window], list[list[int]]],
    num_learned: int,
    cuts: list[int],
) -> None:
    lengths, bad, attempts = case
    directories = [tmp_path_factory.mktemp("cache") for _ in range(2)]
    write(directories[0], stream(lengths, bad), attempts[0])
    write(directories[1], stream(lengths, bad), cuts)  # the order must not follow from where blocks were cut
    rows = read(directories[0])
    num_learned %= len(rows) + 1
    ledger = Ledger()
    if num_learned:
        ledger.add(*(np.array(column) for column in list(zip(*rows[:num_learned], strict=True))[:3]))
    assert read(directories[1], ledger) == rows[num_learned:]


def test_the_rows_are_those_of_the_first_epoch_but_for_their_places(tmp_path: Path) -> None:
    rows = stream([700, 30])  # more than is shuffled at once
    write(tmp_path, rows, range(0, 730, 32))
    for table in later(tmp_path, 2).read(Ledger()):
        assert table.schema == rows.schema
        first = rows.take(pc.index_in(table.column("window_id"), value_set=rows.column("window_id")))
        for name in ("fused", "share", "winner"):
            assert table.column(name).to_pylist() == first.column(name).to_pylist()


def test_the_order_is_another_one_in_each_epoch(tmp_path: Path) -> None:
    write(tmp_path, stream([8, 8, 8, 8]), [16])
    rows = read(tmp_path)
    orders = [[window for task, _, _, window in rows if task // NUM_TASKS == epoch] for epoch in (1, 2)]
    in_order = stream([8, 8, 8, 8]).column("window_id").to_pylist()
    assert orders[0] != orders[1] and in_order not in orders
    assert [window[:6] for window in orders[0]] != [window[:6] for window in orders[1]], "tasks come in the same order"
    assert sum(next(later(tmp_path).read(Ledger())).column("share").to_pylist()) == pytest.approx(8 / 32)


def test_the_cache_is_not_looked_at_before_the_first_epoch_is_over(tmp_path: Path) -> None:
    rows = later(tmp_path).read(Ledger())
    write(tmp_path, stream([3]), [])
    assert len(next(rows)) == 3


def test_a_cache_that_was_taken_away_ends_the_run(tmp_path: Path) -> None:
    with pytest.raises(StreamError, match="holds no window of the first epoch any more"):
        list(later(tmp_path).read(Ledger()))


def test_half_a_file_is_never_read(tmp_path: Path) -> None:
    write(tmp_path, stream([4]), [])
    (tmp_path / "_unfinished-0").write_bytes(b"PAR1 and no more: its writer was killed")
    assert len(read(tmp_path, num_epochs=2)) == 4
    drop_doubles(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["0000000000-0000000000-0000000003.parquet"]


@settings(max_examples=25, deadline=None)
@given(kept())
def test_a_finished_cache_has_each_window_once(
    tmp_path_factory: pytest.TempPathFactory, case: tuple[list[int], set[Window], list[list[int]]]
) -> None:
    lengths, bad, attempts = case
    directory = tmp_path_factory.mktemp("cache")
    for cuts in attempts:
        write(directory, stream(lengths, bad), cuts)
    before = read(directory)
    drop_doubles(directory)
    assert read(directory) == before
    windows = [w for path in data_files(directory) for w in pq.read_table(path).column("window_id").to_pylist()]
    assert sorted(windows) == sorted(window for task, _, _, window in before if task < 2 * NUM_TASKS)
    assert len(windows) == count_rows(data_files(directory))


def test_a_stage_passes_on_what_it_writes(tmp_path: Path) -> None:
    rows = stream([4, 3], bad={(1, 0)})

    class Stage:
        def __init__(self, start: int) -> None:
            self._start = start

        def __call__(self, block: pa.Table) -> pa.Table:
            return block.slice(self._start)

    assert Keeping(str(tmp_path), Stage, 2)(rows).equals(rows.slice(2))
    names = [path.stem for path in data_files(tmp_path)]
    assert names == ["0000000000-0000000002-0000000003", "0000000001-0000000001-0000000002"]


@given(st.lists(st.integers(0, 7), max_size=9), st.integers(1, 6))
def test_tables_of_one_size_have_the_same_rows(sizes: list[int], num_rows: int) -> None:
    numbers = np.split(np.arange(sum(sizes)), np.cumsum(sizes)[:-1]) if sizes else []
    found = list(rebatched((pa.table({"n": part}) for part in numbers), num_rows))
    assert [n for table in found for n in table.column("n").to_pylist()] == list(range(sum(sizes)))
    assert all(len(table) == num_rows for table in found[:-1])
    assert all(0 < len(table) <= num_rows for table in found)


@pytest.fixture
def job(tmp_path: Path) -> Job:
    (tmp_path / "text.jsonl").write_text("\n".join(json.dumps({"text": f"word {i} " * 50}) for i in range(200)))
    data = {"train": str(tmp_path / "text.jsonl"), "epochs": 3, "cache": str(tmp_path / "cache")}
    return Job.model_validate({"target": "a/target", "sources": ["b/source"], "data": data})


def finish(job: Job) -> None:
    directory = Path(job.data.cache)
    drop_doubles(directory)
    models = {name: {"model": name, "sha256": "0"} for name in ("target", "source")}
    num_rows = count_rows(data_files(directory))
    found = Description(
        job=job, packages={}, models=models, target_tokenizer="", counts={}, num_set_aside=0, num_rows=num_rows
    )
    write_description(directory, found)
    end_growth(directory)


def test_a_plan_has_the_first_epochs_tasks_and_the_shares_of_all(job: Job) -> None:
    with_cache, without = plan_reads(job.data), plan_reads(job.data.model_copy(update={"cache": ""}))
    assert with_cache.train_bytes == without.train_bytes
    assert 3 * len(with_cache.tasks) == len(without.tasks)
    assert with_cache.tasks == without.tasks[: len(with_cache.tasks)]
    assert sum(piece.size for task in with_cache.tasks for piece in task) * 3 == with_cache.train_bytes


def test_nothing_is_left_to_score_once_a_later_epoch_has_begun(job: Job) -> None:
    plan = plan_reads(job.data)
    learned = Ledger()
    assert plan.left(learned) == list(range(len(plan.tasks)))
    of_all = [np.arange(len(plan.tasks) - 1), np.zeros(len(plan.tasks) - 1, np.int64)]
    learned.add(*of_all, np.ones(len(plan.tasks) - 1, np.bool_))
    assert plan.left(learned) == [len(plan.tasks) - 1]  # it may have no window at all, which no ledger tells
    learned.add(np.array([len(plan.tasks) + 2]), np.array([0]), np.array([False]))
    assert plan.left(learned) == []


def test_a_cache_grows_over_several_runs_and_is_then_like_any_other(job: Job) -> None:
    directory = Path(job.data.cache)
    check_growing_cache(job)
    begin_cache(job, goes_on=False)
    write(directory, stream([6]), [2])
    check_growing_cache(job)
    begin_cache(job, goes_on=True)
    assert len(read(directory, num_epochs=2)) == 6
    finish(job)
    assert is_finished(directory) and not (directory / "_job.json").exists()
    check_growing_cache(job)
    begin_cache(job, goes_on=True)  # it was killed behind the training
    found = open_cache(str(directory))
    assert later_epochs(found) == LaterEpochs(str(directory), 3, 0, 1)
    with pytest.raises(JobError, match=r"^data.cache: .* holds this job's cache; train from it with --from-cache"):
        begin_cache(job, goes_on=False)


def test_a_run_that_starts_over_begins_with_an_empty_cache(job: Job) -> None:
    begin_cache(job, goes_on=False)
    write(Path(job.data.cache), stream([6]), [])
    (Path(job.data.cache) / "_unfinished-0").touch()
    begin_cache(job, goes_on=False)
    assert [path.name for path in Path(job.data.cache).iterdir()] == ["_job.json"]


def test_a_run_does_not_go_on_without_what_it_has_kept(job: Job) -> None:
    with pytest.raises(JobError, match=r"^data.cache: .* does not hold what the run has kept so far; put it back"):
        begin_cache(job, goes_on=True)
    assert not Path(job.data.cache).exists()


def leave_a_file(path: Path) -> None:
    path.write_text("")


def leave_something(path: Path) -> None:
    path.mkdir()
    (path / "0000000000-0000000000-0000000003.parquet").touch()


def leave_a_broken_job(path: Path) -> None:
    path.mkdir()
    (path / "_job.json").write_text("{}")


def leave_foreign_metadata(path: Path) -> None:
    path.mkdir()
    pq.write_metadata(pa.schema([("fused", FUSED_TYPE)]), path / "_common_metadata")


@pytest.mark.parametrize("leave", [leave_a_file, leave_something, leave_a_broken_job, leave_foreign_metadata])
def test_a_directory_with_something_else_is_refused_and_left_alone(job: Job, leave: Callable[[Path], None]) -> None:
    path = Path(job.data.cache)
    leave(path)
    before = sorted(path.rglob("*"))
    for refuse in (check_growing_cache, partial(begin_cache, goes_on=False), partial(begin_cache, goes_on=True)):
        with pytest.raises(JobError, match=r"^data.cache: "):
            refuse(job)
    assert path.exists() and sorted(path.rglob("*")) == before


@pytest.mark.parametrize("is_whole", [False, True])
def test_the_cache_of_another_job_is_refused(job: Job, is_whole: bool) -> None:
    begin_cache(job, goes_on=False)
    if is_whole:
        write(Path(job.data.cache), stream([6]), [])
        finish(job)
    other = job.model_copy(update={"data": Data(**{**job.data.model_dump(), "seed": 7})})
    with pytest.raises(JobError, match=r"^data.seed: is 7, and the cache in .* was made with 0; .* data.cache=DIR"):
        check_growing_cache(other)


def test_a_cache_beyond_the_network_is_refused(job: Job) -> None:
    data = job.data.model_copy(update={"cache": "s3://bucket/cache"})
    with pytest.raises(JobError, match=r"^data.cache: .* must be a local directory"):
        check_growing_cache(job.model_copy(update={"data": data}))
