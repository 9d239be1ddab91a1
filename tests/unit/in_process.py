"""Telemetry without Ray: the real handle and the real board, in one process."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import pyarrow as pa

from pta_ray import telemetry
from pta_ray.board import Board
from pta_ray.columns import WINDOW_SCHEMA
from pta_ray.telemetry import Telemetry


class _Calls:
    """Stands in for the handle of the actor: each call goes to the board at once."""

    def __init__(self, board: Board) -> None:
        self._board = board

    def __getattr__(self, name: str) -> Any:
        return SimpleNamespace(remote=getattr(self._board, name))


@contextmanager
def in_process(
    max_failed_share: float = 1.0, clock: Callable[[], float] = time.time
) -> Iterator[tuple[Telemetry, Board]]:
    """Telemetry and the board that it reports to; nothing starts Ray in the block."""
    context = SimpleNamespace(get_node_id=lambda: "this host")
    no_ray = SimpleNamespace(get=lambda found: found, get_runtime_context=lambda: context)
    board = Board(max_failed_share, clock)
    with mock.patch.object(telemetry, "ray", no_ray):
        yield Telemetry(_Calls(board)), board


def make_windows(num: int, task: int = 0, first_row: int = 0) -> pa.Table:
    """Windows of one task that follow each other, each a hundredth of the training text."""
    rows_N = np.arange(first_row, first_row + num, dtype=np.int32)
    names = [f"{task}:{row}" for row in rows_N]
    return pa.table(
        [
            names, ["text"] * num, [name.encode() for name in names], np.zeros(num, np.bool_), np.full(num, 0.01),
            np.zeros(num, np.bool_), np.full(num, task, np.int32), rows_N, np.zeros(num, np.bool_),
        ],
        schema=WINDOW_SCHEMA,
    )  # fmt: skip
