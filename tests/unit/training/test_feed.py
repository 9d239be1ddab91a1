"""Steps from tables: the same windows for any number of workers, the first of which reads."""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pytest
import torch.distributed as dist
from hypothesis import given
from hypothesis import strategies as st
from ray.exceptions import RayTaskError

from pta_ray.columns import fused_column
from pta_ray.distributions import FusedRow, SparseDistribution
from pta_ray.errors import StreamError
from pta_ray.training.feed import Step, deal_step, num_passes, read_steps
from tests.unit.training.processes import in_processes


def make_rows(lengths: list[int], broken: frozenset[int] = frozenset(), gone: frozenset[int] = frozenset()) -> pa.Table:
    """Windows of so many tokens, of which some have a target that is not a number, and some were set aside before."""
    rows = []
    for i, length in enumerate(lengths):
        probs_MK = np.full((length - 1, 2), np.nan if i in broken else 0.25, np.float32)
        fused = SparseDistribution(np.ones((length - 1, 2), np.int32), probs_MK, np.ones(length - 1, np.float32))
        rows.append(FusedRow(np.full(length, i, np.int32), fused, np.zeros(length - 1, np.bool_)))
    is_gone = np.isin(np.arange(len(lengths)), [*gone])
    columns = {"window_id": [str(i) for i in range(len(lengths))], "share": [0.125] * len(lengths)}
    columns["winner"] = [None if i in gone else "target" for i in range(len(lengths))]
    places = pa.array(np.arange(len(lengths)), mask=is_gone)
    return pa.table({**columns, "fused": fused_column(rows).take(places)})


@given(st.lists(st.integers(2, 9), min_size=1, max_size=13), st.integers(1, 4), st.integers(1, 3), st.data())
def test_every_sound_window_goes_to_one_worker_and_no_other_window_to_any(
    lengths: list[int], num_workers: int, micro_batch: int, data: st.DataObject
) -> None:
    gone = data.draw(st.frozensets(st.integers(0, len(lengths) - 1)))
    broken = data.draw(st.frozensets(st.integers(0, len(lengths) - 1))) - gone
    table = make_rows(lengths, broken, gone)
    steps = list(deal_step(table, micro_batch, num_workers))
    dealt = [name for step in steps for part in step.passes for name in part.column("window_id").to_pylist()]
    sound = [i for i in range(len(lengths)) if i not in broken | gone]
    assert sorted(dealt, key=int) == [str(i) for i in sound]
    assert len({len(step.passes) for step in steps}) == 1
    assert len(steps[0].passes) <= num_passes(len(lengths), micro_batch, num_workers)
    for step in steps:
        assert step.num_positions == sum(lengths[i] - 1 for i in sound)
        assert sorted(step.set_aside, key=int) == [str(i) for i in sorted(broken)]
        assert step.share == 0.125 * len(lengths)
    assert steps[0].rows is not None and steps[0].rows.equals(table.drop_columns("fused"))
    assert [step.rows for step in steps[1:]] == [None] * (num_workers - 1)


def read(num_tables: int, fails: bool) -> list[Step]:
    """What a worker gets of a stream that the first one reads, and which may fail at its end."""

    def tables() -> Iterator[pa.Table]:
        for i in range(num_tables):
            yield make_rows([3] * (i + 2))
        if fails:
            raise RayTaskError("align", "a traceback", ValueError("no such engine\nadvice"))

    group = dist.new_group(backend="gloo")
    return list(read_steps(tables() if dist.get_rank() == 0 else (), 2, group))


def test_all_workers_take_the_same_number_of_steps() -> None:
    first, second = in_processes(2, read, 3, False)
    assert [step.num_positions for step in first] == [step.num_positions for step in second] == [4, 6, 8]


def read_and_fail() -> str:
    """The problem that a worker hears of."""
    with pytest.raises(StreamError) as caught:
        read(1, True)
    return str(caught.value)


def test_a_stream_that_fails_stops_all_workers_with_its_problem() -> None:
    assert in_processes(2, read_and_fail) == ["ValueError: no such engine"] * 2
