"""Optimizer steps from the stream: rank 0 reads the next windows and hands every worker its share of them.

What a step learns from is the next `batch_windows` rows of the stream, whatever the number of workers: a run that goes
on with fewer or more of them takes the same steps.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch.distributed as dist
from ray.exceptions import RayActorError, RayTaskError

from pta_ray.columns import read_fused, struct_column
from pta_ray.errors import StreamError, one_line, root_cause
from pta_ray.training.batches import deal, find_bad


@dataclass(frozen=True)
class Step:
    """One worker's share of one optimizer step."""

    passes: list[pa.Table]
    """The windows of each forward pass. All workers make the same number of passes, so some may be empty."""
    num_positions: int
    """Of the whole step, over all workers; so are the rest."""
    share: float
    """Of the run's text."""
    set_aside: list[str]
    """Ids of windows whose targets are not finite; nobody learns from them."""
    rows: pa.Table | None = None
    """On rank 0, all rows of the step but for their targets, those set aside included."""


def read_steps(tables: Iterable[pa.Table], micro_batch_windows: int, group: dist.ProcessGroup) -> Iterator[Step]:
    """The steps of this worker until the stream ends; all workers of the group iterate together.

    Args:
        tables: on rank 0, the rows of one step each; of no account elsewhere.
        group: of a backend that carries objects, such as gloo.

    Raises:
        StreamError: on all workers, when a stage of the stream has failed on rank 0.
    """
    rank, num_workers = dist.get_rank(), dist.get_world_size()
    stream = _dealt(tables, micro_batch_windows, num_workers) if rank == 0 else None
    while True:
        shares = [None] * num_workers if stream is None else next(stream, [None] * num_workers)
        received: list[Step | str | None] = [None]
        dist.scatter_object_list(received, shares if stream else None, src=0, group=group)
        match received[0]:
            case Step() as step:
                yield step
            case None:
                return
            case problem:
                raise StreamError(problem)


def num_passes(batch_windows: int, micro_batch_windows: int, num_workers: int) -> int:
    """Forward passes of each worker in a step."""
    return -(-batch_windows // (num_workers * micro_batch_windows))


def _dealt(tables: Iterable[pa.Table], micro_batch_windows: int, num_workers: int) -> Iterator[list[Step | str]]:
    """Every worker's share of every step; at the end, if the stream fails, the problem for each."""
    try:
        for table in tables:
            yield list(deal_step(table, micro_batch_windows, num_workers))
    except RayTaskError as error:
        yield [one_line(root_cause(error))] * num_workers
    except RayActorError as error:
        if not error.actor_init_failed:
            raise
        yield [str(error).strip().splitlines()[-1]] * num_workers  # of the traceback within


def deal_step(table: pa.Table, micro_batch_windows: int, num_workers: int) -> Iterator[Step]:
    """Shares the rows of a step out: windows of about equal length make a pass, and work is even among workers."""
    there = np.flatnonzero(table.column("winner").is_valid())  # the others were set aside on their way
    rows = read_fused(struct_column(table.take(there), "fused"))
    bad = find_bad(rows)
    fit = np.setdiff1d(np.arange(len(rows)), bad)
    lengths, sound = [len(rows[i].ids_L) for i in fit], there[fit]
    whole = Step(
        passes=[],
        num_positions=sum(lengths) - len(lengths),
        share=pc.sum(table.column("share")).as_py(),
        set_aside=table.column("window_id").take(there[np.array(bad, np.int64)]).to_pylist(),
    )
    for rank, passes in enumerate(deal(lengths, num_workers, micro_batch_windows)):
        parts = [table.take(sound[indices]) for indices in passes]
        yield replace(whole, passes=parts, rows=table.drop_columns("fused") if rank == 0 else None)
