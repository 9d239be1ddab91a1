"""Runs a function in several real processes that form a gloo group, as the workers of a training do."""

import concurrent.futures
import datetime
import multiprocessing
import os
import tempfile
from collections.abc import Callable
from multiprocessing import forkserver
from pathlib import Path
from typing import TypeVar
from unittest import mock

import torch
import torch.distributed as dist

Result = TypeVar("Result")

ENVIRONMENT = {"DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": "1"}
PRELOADED = ["deepspeed", "deepspeed.runtime.zero.muon.muon_optimizer", "tests.unit.training.tiny_model"]
"""Among them what DeepSpeed imports with the first engine of a process, a whole compiler for instance."""


def in_processes(num_processes: int, function: Callable[..., Result], *arguments: object) -> list[Result]:
    """Calls a module's function in every process of a new group; returns the results in the order of the ranks.

    The processes are forked from one that has imported DeepSpeed already, which takes longer than most tests.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    with mock.patch.dict(os.environ, ENVIRONMENT):  # read when the fork server starts
        forkserver.ensure_running()
    with (
        tempfile.TemporaryDirectory() as folder,
        concurrent.futures.ProcessPoolExecutor(num_processes, mp_context=context) as executor,
    ):
        store = (Path(folder) / "store").as_uri()
        ranks = range(num_processes)
        futures = [executor.submit(_member, rank, num_processes, store, function, *arguments) for rank in ranks]
        return [future.result() for future in futures]


def _member(rank: int, world_size: int, store: str, function: Callable[..., Result], *arguments: object) -> Result:
    os.environ.update(ENVIRONMENT, RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(world_size))
    torch.set_num_threads(1)
    timeout = datetime.timedelta(seconds=60)
    dist.init_process_group("gloo", init_method=store, rank=rank, world_size=world_size, timeout=timeout)
    try:
        return function(*arguments)
    finally:
        dist.destroy_process_group()  # the others then fail instead of waiting
