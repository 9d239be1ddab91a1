"""Work on windows of which one may be bad: it is tried alone, three times, and then set aside."""

import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

import pyarrow as pa

from pta_ray.board import SetAside
from pta_ray.errors import JobError, StreamError, one_line
from pta_ray.telemetry import Telemetry, Work

Result = TypeVar("Result")

_ATTEMPTS = 3


def attempt(
    telemetry: Telemetry,
    stage: str,
    timeout_seconds: float,
    windows: pa.Table,
    work_on: Callable[[Sequence[int], Work], list[Result]],
) -> list[Result | None]:
    """Does a stage's work on all windows of a batch together; if that fails, or has killed the process that was at it,
    on each of them alone.

    Args:
        windows: with the columns of `WINDOW_SCHEMA`.
        work_on: the results for some of the windows, by their numbers in the batch. May raise anything.

    Returns:
        The result for each window, None for those that were set aside.

    Raises:
        JobError, StreamError: of `work_on`, which trying again would not mend; or too much of the text has failed.
    """
    if not windows.num_rows:
        return []
    everything = range(windows.num_rows)
    try:
        with telemetry.attempt(stage, windows, timeout_seconds) as work:
            if not work.times_failed:
                return [*work_on(everything, work)]
            work.leave()
    except (JobError, StreamError):
        raise
    except Exception:
        logging.getLogger(__name__).exception("%s: a batch has failed; its windows are tried alone", stage)
    return [_alone(telemetry, stage, timeout_seconds, windows.slice(i, 1), partial(work_on, [i])) for i in everything]


def _alone(
    telemetry: Telemetry, stage: str, timeout_seconds: float, window: pa.Table, work: Callable[[Work], list[Result]]
) -> Result | None:
    reason = "a process that was at it has died"
    while True:
        try:
            with telemetry.attempt(stage, window, timeout_seconds) as found:
                if found.times_failed < _ATTEMPTS:
                    return work(found)[0]
                found.leave()
                break
        except (JobError, StreamError):
            raise
        except Exception as error:
            reason = one_line(error)
    [row] = window.select(["window_id", "share", "task"]).to_pylist()
    telemetry.set_aside(SetAside(row["window_id"], stage, reason, row["share"], row["task"]))
    return None
