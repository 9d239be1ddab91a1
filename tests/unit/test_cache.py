from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pta_ray.cache import (
    Cache,
    Description,
    check_settings,
    check_target,
    data_files,
    open_cache,
    place_align,
    place_from_cache,
    write_description,
)
from pta_ray.columns import fused_column, read_fused, struct_column
from pta_ray.config import Job
from pta_ray.distributions import FusedRow, IntervalTargets, SparseDistribution
from pta_ray.errors import JobError

JOB = {
    "target": {"model": "a/target", "replicas": 2},
    "sources": ["b/first", "b/second"],
    "data": {"train": ["text.jsonl"], "held_out": ["held_out.jsonl"], "epochs": 2},
    "output": "runs/fused",
}
COUNTS = {"bits/target/text": 81.5, "bytes/target/text": 40, "positions/first": 5}


def make_rows(lengths: list[int], seed: int = 0) -> pa.Table:
    rng = np.random.default_rng(seed)
    rows = []
    for length in lengths:
        ids_L = rng.integers(0, 1 << 17, length).astype(np.int32)
        low = rng.integers(0, 1 << 17, (length - 1, 3)).astype(np.int32)
        probs = rng.dirichlet(np.ones(4), length - 1)[:, :3].astype(np.float32)
        confidence_M = rng.random(length - 1, np.float32)
        of_tokens = SparseDistribution(low - 1, probs, confidence_M)
        targets = of_tokens if seed % 2 else IntervalTargets(low, low + 1, probs, confidence_M)
        rows.append(FusedRow(ids_L, targets, confidence_M < 0.5))
    places = np.arange(len(lengths), dtype=np.int32)
    return pa.table(
        {
            "window_id": [f"text/{seed}:{i}" for i in places],
            "domain": ["text"] * len(lengths),
            "task": np.full_like(places, seed),
            "row": places,
            "ends_task": places == len(lengths) - 1,
            "share": rng.random(len(lengths)),
            "winner": rng.choice(["target", "first"], len(lengths)).tolist(),
            "fused": fused_column(rows),
        }
    )


def describe(num_rows: int) -> Description:
    return Description(
        job=Job.model_validate(JOB),
        packages={"ray": "2.60.0"},
        models={name: {"model": f"x/{name}", "sha256": name * 8} for name in ("target", "first", "second")},
        target_tokenizer="bytes",
        counts=COUNTS,
        num_set_aside=1,
        num_rows=num_rows,
    )


def write_cache(folder: Path, parts: list[pa.Table]) -> None:
    for i, part in enumerate(parts):
        pq.write_table(part, folder / f"0f_{i:06}-0.parquet", compression="zstd")
    write_description(folder, describe(sum(part.num_rows for part in parts)))


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    write_cache(tmp_path, [make_rows([5, 2], 0), make_rows([9, 3, 4], 1)])
    (tmp_path / "_align.log").write_text("noise")
    return open_cache(str(tmp_path))


def test_a_cache_says_what_made_it(cache: Cache) -> None:
    assert cache.description == describe(5)
    assert [type(n) for n in cache.description.counts.values()] == [float, int, int]
    assert [path.name for path in cache.files] == ["0f_000000-0.parquet", "0f_000001-0.parquet"]


def test_an_infinite_setting_survives(tmp_path: Path) -> None:
    balanced = Job.model_validate({**JOB, "alignment": {"rho": float("inf")}})
    pq.write_table(make_rows([3]), tmp_path / "0f_000000-0.parquet")
    write_description(tmp_path, describe(1).model_copy(update={"job": balanced}))
    check_settings(open_cache(str(tmp_path)), balanced)


def test_any_reader_of_parquet_takes_the_directory(cache: Cache) -> None:
    read = pq.read_table(cache.directory)
    assert read.column("window_id").to_pylist() == ["text/0:0", "text/0:1", "text/1:0", "text/1:1", "text/1:2"]
    assert pq.read_schema(cache.directory / "_common_metadata").equals(read.schema)


@given(st.lists(st.integers(1, 40), min_size=1, max_size=8), st.integers(0, 99))
def test_rows_survive_to_the_bit(tmp_path_factory: pytest.TempPathFactory, lengths: list[int], seed: int) -> None:
    folder, rows = tmp_path_factory.mktemp("cache"), make_rows(lengths, seed)
    write_cache(folder, [rows])
    read = pq.read_table(open_cache(str(folder)).files[0])
    assert read.equals(rows) and read.schema == rows.schema
    before, after = (read_fused(struct_column(table, "fused")) for table in (rows, read))
    for row, row_read in zip(before, after, strict=True):
        np.testing.assert_array_equal(row_read.ids_L, row.ids_L)
        np.testing.assert_array_equal(row_read.is_own_M, row.is_own_M)
        for array, expected in zip(vars(row_read.targets).values(), vars(row.targets).values(), strict=True):
            np.testing.assert_array_equal(array, expected)


def test_the_order_of_the_files_is_that_of_the_stream(tmp_path: Path) -> None:
    numbers = [0, 7, 10, 999_999, 1_000_000, 1_000_001]  # Ray Data pads to six digits
    for number in reversed(numbers):
        (tmp_path / f"0f_{number:06}-0.parquet").touch()
    assert [int(path.name[3:-10]) for path in data_files(tmp_path)] == numbers


def unfinish(folder: Path) -> None:
    (folder / "_common_metadata").unlink()


def lose_a_file(folder: Path) -> None:
    data_files(folder)[0].unlink()


def cut_a_file(folder: Path) -> None:
    path = data_files(folder)[1]
    path.write_bytes(path.read_bytes()[:-9])


def replace_metadata(folder: Path) -> None:
    pq.write_metadata(pa.schema([("window_id", pa.string())]), folder / "_common_metadata")


def cut_metadata(folder: Path) -> None:
    (folder / "_common_metadata").write_bytes(b"PAR1")


def age(folder: Path) -> None:
    schema = pq.read_schema(folder / "_common_metadata")
    earlier = schema.metadata[b"pta-ray"].replace(b'"format": 3', b'"format": 2')
    pq.write_metadata(schema.with_metadata({b"pta-ray": earlier}), folder / "_common_metadata")


@pytest.mark.parametrize(
    ("harm", "problem"),
    [
        (unfinish, "is not a finished cache"),
        (lose_a_file, "holds 3 of the 5 windows"),
        (cut_a_file, "holds a damaged file"),
        (replace_metadata, "is not a cache of pta-ray"),
        (cut_metadata, "is not a cache of pta-ray"),
        (age, "by a version of pta-ray"),
    ],
)
def test_what_is_no_whole_cache_is_refused(cache: Cache, harm: Callable[[Path], None], problem: str) -> None:
    harm(cache.directory)
    with pytest.raises(JobError, match=problem) as caught:
        open_cache(str(cache.directory))
    assert caught.value.field == "--from-cache" and "\n" not in str(caught.value)


@pytest.mark.parametrize("directory", ["no/such/directory", "s3://bucket/cache", __file__])
def test_what_is_no_directory_is_refused(directory: str) -> None:
    with pytest.raises(JobError, match=r"^--from-cache: "):
        open_cache(directory)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"alignment": {"top_k": 5}}, "alignment.top_k"),
        ({"alignment": {"rho": 0.1}}, "alignment.rho"),
        ({"alignment": {"targets": "intervals"}}, "alignment.targets"),
        ({"data": {**JOB["data"], "window_tokens": 512}}, "data.window_tokens"),
        ({"data": {**JOB["data"], "epochs": 1}}, "data.epochs"),
        ({"data": {**JOB["data"], "seed": 3}}, "data.seed"),
        ({"data": {**JOB["data"], "train": ["other.jsonl"]}}, "data.train"),
        ({"data": {**JOB["data"], "held_out": []}}, "data.held_out"),
        ({"target": {"model": "a/target", "name": "student"}}, "target.name"),
        ({"sources": ["b/second", "b/first"]}, "sources"),
        ({"sources": ["b/first"]}, "sources"),
    ],
)
def test_settings_that_would_make_other_rows_are_refused(cache: Cache, changes: dict, field: str) -> None:
    with pytest.raises(JobError, match="and the cache was made with") as caught:
        check_settings(cache, Job.model_validate({**JOB, **changes}))
    assert caught.value.field == field


def test_how_models_run_and_the_target_is_trained_is_free(cache: Cache) -> None:
    changes = {
        "target": {"model": "elsewhere/target", "engine": "transformers"},
        "sources": [{"model": "b/first", "gpus": 2}, "b/second"],
        "training": {"learning_rate": 1e-3, "workers": 2, "zero_stage": 3},
        "output": "runs/another",
    }
    job = Job.model_validate({**JOB, **changes})
    check_settings(cache, job)
    check_target(cache, job, "target" * 8, "bytes")


@pytest.mark.parametrize(("sha256", "tokenizer"), [("other", "bytes"), ("target" * 8, "other")])
def test_another_target_is_refused(cache: Cache, sha256: str, tokenizer: str) -> None:
    with pytest.raises(JobError, match=r"^target.model: .* fuse into x/target as it was then, or align anew"):
        check_target(cache, Job.model_validate(JOB), sha256, tokenizer)


def test_an_alignment_reserves_nothing_for_training() -> None:
    placement = place_align(Job.model_validate(JOB), "cache", has_gpus=True)
    assert [actors.stage for actors in placement.stages][-2:] == ["align", "write"]
    assert placement.gpus == 2 + 1 + 1
    assert placement.cpus == 1 + 4 + 1 + 0.5


def test_training_from_a_cache_reserves_no_scoring(cache: Cache) -> None:
    job = Job.model_validate(JOB)
    placement = place_from_cache(job, cache, has_gpus=True)
    assert [actors.stage for actors in placement.stages if actors.count] == ["read", "train"]
    assert placement.gpus == 1 and placement.cpus == 2
