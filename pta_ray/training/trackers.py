"""Where the scalars of a training go besides metrics.json: TensorBoard, W&B, MLflow.

The last two are imported only when a job names them, and find server, account and project in their own environment
variables. What is logged is the job and the scalars, no environment variable. W&B itself adds the machine, its load and
the installed packages; MLflow the user's name.
"""

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import yaml
from tensorboardX import SummaryWriter

_PROJECT = "pta-ray"


class Tracker(Protocol):
    """One place that scalars go to."""

    def log(self, step: int, scalars: Mapping[str, float]) -> None:
        """Takes the scalars of an optimizer step."""

    def close(self) -> None:
        """Returns when everything is written."""


class Trackers:
    """All trackers of a run; in one worker only."""

    def __init__(self, trackers: list[Tracker]) -> None:
        self._trackers = trackers

    @classmethod
    def start(cls, names: list[str], directory: str, run: str, config: dict[str, Any], first_step: int) -> "Trackers":
        """Starts what a job names.

        Args:
            directory: a local one; takes files in a folder per tracker.
            run: identifies the run to the trackers' servers. The same when the run is resumed, and another for every
                other run.
            config: the job, as its `model_dump(mode="json")`.
            first_step: the first that will be logged. Later than 1, the run is resumed: what a run that broke off has
                logged from there on is replaced (TensorBoard), kept (W&B) or kept beside the new (MLflow).
        """
        run = re.sub(r"[^\w.-]", "_", run, flags=re.ASCII)  # what all of them take for an id
        return cls([_TRACKERS[name](directory, run, config, first_step) for name in names])

    def log(self, step: int, scalars: Mapping[str, float]) -> None:
        """Logs the scalars of an optimizer step; steps rise. `/` in a name groups."""
        for tracker in self._trackers:
            tracker.log(step, scalars)

    def close(self) -> None:
        """Ends the run; returns when everything is written."""
        for tracker in self._trackers:
            tracker.close()


class TensorBoard:
    """Event files in `<directory>/tensorboard`."""

    def __init__(self, directory: str, run: str, config: dict[str, Any], first_step: int) -> None:
        # A file is named by the second in which it is opened: the suffix keeps two of them apart.
        self._writer = SummaryWriter(
            str(Path(directory) / "tensorboard"), purge_step=first_step, filename_suffix=f".{first_step}"
        )
        text = yaml.safe_dump(config, sort_keys=False)
        self._writer.add_text(run, f"```yaml\n{text}```", first_step)

    def log(self, step: int, scalars: Mapping[str, float]) -> None:
        """See `Tracker.log`."""
        for name, value in scalars.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        """See `Tracker.close`."""
        self._writer.close()


class Wandb:
    """A run at Weights & Biases; offline ones in `<directory>/wandb`."""

    def __init__(self, directory: str, run: str, config: dict[str, Any], first_step: int) -> None:
        import wandb

        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", _PROJECT),
            id=run,
            name=run,
            resume="allow",
            dir=directory,
            config=config,
            allow_val_change=True,  # a resumed run may have other settings, as many workers as there are now
            settings=wandb.Settings(console="off", disable_git=True, disable_code=True),
        )

    def log(self, step: int, scalars: Mapping[str, float]) -> None:
        """See `Tracker.log`. W&B itself passes over steps that it has seen before the run was resumed."""
        self._run.log(dict(scalars), step=step)

    def close(self) -> None:
        """See `Tracker.close`."""
        self._run.finish()


class Mlflow:
    """A run of an MLflow experiment."""

    def __init__(self, directory: str, run: str, config: dict[str, Any], first_step: int) -> None:
        import mlflow

        self._mlflow = mlflow
        experiment = os.environ.get("MLFLOW_EXPERIMENT_NAME", _PROJECT)
        mlflow.set_experiment(experiment)
        found = mlflow.search_runs(
            experiment_names=[experiment],
            filter_string=f"attributes.run_name = '{run}'",
            max_results=1,
            output_format="list",
        )
        self._run_id = mlflow.start_run(run_id=found[0].info.run_id if found else None, run_name=run).info.run_id
        if not found:  # parameters of a run cannot be changed any more
            mlflow.log_params(_flat(config))

    def log(self, step: int, scalars: Mapping[str, float]) -> None:
        """See `Tracker.log`. Does not wait for the server."""
        metrics = {re.sub(r"[^/\w.\- :]", "_", name): value for name, value in scalars.items()}
        self._mlflow.log_metrics(metrics, step=step, run_id=self._run_id, synchronous=False)

    def close(self) -> None:
        """See `Tracker.close`."""
        self._mlflow.flush_async_logging()
        self._mlflow.end_run()


_TRACKERS: dict[str, Callable[[str, str, dict[str, Any], int], Tracker]] = {
    "tensorboard": TensorBoard,
    "wandb": Wandb,
    "mlflow": Mlflow,
}


def _flat(config: Any, prefix: str = "") -> dict[str, Any]:
    """The leaves of nested sections and lists, by their dotted names."""
    if isinstance(config, dict):
        items = list(config.items())
    elif isinstance(config, list):
        items = list(enumerate(config))
    else:
        return {prefix: config}
    return {
        name: leaf
        for key, value in items
        for name, leaf in _flat(value, f"{prefix}.{key}" if prefix else str(key)).items()
    }
