"""The steps of one worker: learn, validate, keep checkpoints, and go on from the newest of them."""

import math
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
import torch.distributed as dist

from pta_ray.columns import read_fused, struct_column
from pta_ray.errors import StreamError
from pta_ray.ledger import Ledger
from pta_ray.training.batches import Batch, collate, empty_batch
from pta_ray.training.checkpoints import Checkpoint, CheckpointStore
from pta_ray.training.feed import Step, read_steps
from pta_ray.training.flattening import flatten
from pta_ray.training.manifest import Manifest
from pta_ray.training.progress import Progress
from pta_ray.training.representations import Sample, compare, draw_sample, hidden_states
from pta_ray.training.schedule import learning_rate
from pta_ray.training.setup import TrainingTask
from pta_ray.training.state import read_state, write_state
from pta_ray.training.trackers import Trackers
from pta_ray.training.validation import HeldOut, read_held_out, validate
from pta_ray.versions import versions


class Trainer:
    """Takes an engine through the stream. All workers have one, and call its methods together."""

    def __init__(self, engine: Any, task: TrainingTask, group: dist.ProcessGroup) -> None:
        """`group` carries objects and CPU tensors between the workers."""
        self._engine = engine
        self._task = task
        self._settings = task.job.training
        self._group = group
        self._is_first = dist.get_rank() == 0
        self._store = CheckpointStore(task.checkpoints)
        self._trackers = Trackers([])
        self._held_out: HeldOut | None = None
        self._saved_step = 0
        self._bits_per_byte: dict[str, float] = {}
        self._before: tuple[Sample, torch.Tensor] | None = None
        self._representations: dict[str, Any] | None = None
        self.progress = Progress()
        """Complete on the first worker; the others know nothing of single windows."""

    def look_at_start(self) -> None:
        """Notes what the starting weights make of some held-out text; to be called before `restore` or never."""
        text = self._held_out_text()
        seed = self._task.job.data.seed
        drawn = [draw_sample([w.ids_L for w in text.windows], text.eos_id, seed) if self._is_first else None]
        dist.broadcast_object_list(drawn, src=0, group=self._group)
        if sample := drawn[0]:
            self._before = sample, self._hidden_states(sample)

    def restore(self, checkpoint: Checkpoint) -> None:
        """Goes on from a checkpoint, whatever the number of workers that wrote it."""
        self._load(checkpoint)
        ledger = checkpoint.ledger() if self._is_first else Ledger()
        self.progress = Progress.from_json(checkpoint.manifest.state["progress"], ledger)
        self._saved_step = self.progress.step
        if self._is_first:
            self._prune()  # what a run that died has left half written takes room

    def start_tracking(self) -> None:
        """Sends the scalars from here on to what the job names."""
        if self._is_first:
            run = f"{Path(self._task.job.output).name}-{self.progress.run_id}"
            config = self._task.job.model_dump(mode="json")
            first_step = self.progress.step + 1
            self._trackers = Trackers.start([*self._settings.trackers], self._task.staging, run, config, first_step)

    def fit(self, tables: Iterable[pa.Table]) -> None:
        """Learns from the stream until it ends, or until validations no longer get better; leaves the result's weights.

        Args:
            tables: on rank 0, the rows of one step each, without those that the ledger holds.
        """
        settings, progress = self._settings, self.progress
        steps = () if self.stopped_early else read_steps(tables, settings.micro_batch_windows, self._group)
        for step in steps:
            self._learn(step)
            is_due = settings.validation and progress.step % settings.validation.every_steps == 0
            is_best = is_due and self._validate()
            if is_best or progress.step % settings.checkpoints.every_steps == 0:
                self._save()
            if self.stopped_early:
                break
        if settings.validation and progress.validated_step < progress.step:
            self._validate()
        if self._saved_step < progress.step:
            self._save()
        if 0 < progress.best.step < progress.step:
            self._load(self._store.open(progress.best.step))
        self._bits_per_byte = dict(progress.validations).get(progress.best.step) or self._measure()
        self._representations = self._compared()

    def _load(self, checkpoint: Checkpoint) -> None:
        tensors = ((name, torch.from_numpy(array)) for name, array in checkpoint.tensors())
        num_skipped = checkpoint.manifest.state["progress"]["num_skipped"]
        write_state(self._engine, tensors, checkpoint.step - num_skipped)

    @property
    def stopped_early(self) -> bool:
        """Whether validations have not become better for long enough."""
        validation = self._settings.validation
        return validation is not None and self.progress.best.should_stop(validation.patience)

    def close(self) -> None:
        """Brings what was logged to the trackers."""
        self._trackers.close()

    def report(self) -> None:
        """Tells the driver what the training came to."""
        if self._is_first:
            progress = self.progress
            self._task.telemetry.count(progress.won)
            outcome = {**progress.summary(), "stopped_early": self.stopped_early}
            measured = {"bits_per_byte": self._bits_per_byte, "representations": self._representations}
            self._task.telemetry.finish({**outcome, **measured})

    def _learn(self, step: Step) -> None:
        """One optimizer step, taken by all workers together."""
        progress, settings = self.progress, self._settings
        progress.step += 1
        progress.share += step.share
        self._seed()
        rate = learning_rate(progress.share, settings.learning_rate, settings.warmup)
        for group in self._engine.optimizer.param_groups:
            group["lr"] = rate
        clm_weight = settings.clm_weight.at(progress.share)
        with self._task.telemetry.timed("train") as work:
            work.done(step.num_positions // dist.get_world_size(), rows=sum(p.num_rows for p in step.passes))
            begin = time.perf_counter()
            sums_3, set_aside = self._make_passes(step, clm_weight)
            seconds = time.perf_counter() - begin
        if step.rows is not None:
            progress.learn(step.rows, set_aside)
        self._check(set_aside)
        clm, fused, num_padding = sums_3.tolist()
        progress.num_padding += int(num_padding)
        progress.num_positions += step.num_positions
        clm, fused = clm / max(step.num_positions, 1), fused / max(step.num_positions, 1)
        loss = clm_weight * clm + (1 - clm_weight) * fused
        progress.losses.append((progress.step, loss))
        progress.learning_rates.append((progress.step, rate))
        scalars = {"loss": loss, "clm": clm, "fused": fused, "learning_rate": rate, "clm_weight": clm_weight}
        speed = {"tokens_per_second": step.num_positions / seconds, "padding_share": progress.padding_share}
        self._report({**scalars, **speed, "workers": dist.get_world_size()})

    def _seed(self) -> None:
        """Random numbers are a function of the step, so that a run that goes on draws the same."""
        seed = np.random.SeedSequence([self._task.job.data.seed, self.progress.step, dist.get_rank()])
        torch.manual_seed(int(seed.generate_state(1)[0]))

    def _make_passes(self, step: Step, clm_weight: float) -> tuple[torch.Tensor, list[str]]:
        """Forward, backward and the update.

        Returns, of all workers: the sums of CLM, of fused loss and of padding over positions; and the windows that were
        set aside.
        """
        num_passes = self._engine.gradient_accumulation_steps()
        # DeepSpeed averages over workers and passes: the scale makes the sums a mean over the step's positions.
        scale = dist.get_world_size() * num_passes / max(step.num_positions, 1)
        sums_3, set_aside = torch.zeros(3, dtype=torch.float64), list(step.set_aside)
        for number in range(num_passes):
            rows = step.passes[number] if number < len(step.passes) else None
            total, losses_3, bad = self._forward(rows, clm_weight)
            self._engine.backward(total * scale)
            self._engine.step()
            sums_3 += losses_3
            set_aside += bad
        dist.all_reduce(sums_3, group=self._group)
        return sums_3, set_aside

    def _forward(self, rows: pa.Table | None, clm_weight: float) -> tuple[torch.Tensor, torch.Tensor, list[str]]:
        """One forward pass, made again without the windows whose loss is not finite, if any worker has such.

        Returns: the objective; this worker's sums as of `_make_passes`; and the windows set aside, of all workers.
        """
        names: list[str] = rows.column("window_id").to_pylist() if rows else []
        batch = self._batch(rows) if rows else self._nothing()
        set_aside: list[str] = []
        while True:
            ids_BL, targets = batch.ids_BL.to(self._engine.device), batch.targets
            tensors = (tensor.to(self._engine.device) for tensor in targets)
            total, clm_N, fused_N = self._engine(ids_BL, clm_weight, *tensors)
            is_bad_B = ~batch.by_window(clm_N + fused_N).cpu().isfinite()
            bad = [i for i in range(len(names)) if is_bad_B[i]]
            found = self._gathered([names[i] for i in bad])
            if not found:
                break
            set_aside += found
            batch = batch.without(bad) if len(bad) < len(names) else self._nothing()
            names = [name for i, name in enumerate(names) if i not in bad]
        sums = [float(clm_N.double().sum()), float(fused_N.double().sum()), float(batch.num_padded)]
        return total, torch.tensor(sums if names else [0.0] * 3, dtype=torch.float64), set_aside

    def _batch(self, rows: pa.Table) -> Batch:
        """Windows as they are learned at this point of the run."""
        temperature = self._settings.source_temperature.at(self.progress.share)
        return collate([flatten(row, temperature) for row in read_fused(struct_column(rows, "fused"))])

    def _nothing(self) -> Batch:
        return empty_batch(self._task.job.alignment.targets == "intervals")

    def _clm(self, ids_BL: torch.Tensor, weight_N: torch.Tensor) -> torch.Tensor:
        """Cross-entropy of the actual tokens by position, in nats, for validation."""
        none = self._nothing().targets
        blank = (tensor.to(weight_N.device).expand(len(weight_N), *tensor.shape[1:]) for tensor in none)
        targets = type(none)(*blank)._replace(weight_N=weight_N)
        clm_N: torch.Tensor = self._engine.module(ids_BL, 1.0, *targets)[1]
        return clm_N

    def _gathered(self, names: list[str]) -> list[str]:
        """What any worker names, on all of them; costs little when nobody names anything."""
        flag = torch.tensor(float(bool(names)))
        dist.all_reduce(flag, group=self._group)
        if not flag:
            return []
        gathered: list[list[str]] = [[]] * dist.get_world_size()
        dist.all_gather_object(gathered, names, group=self._group)
        return [name for part in gathered for name in part]

    def _check(self, set_aside: list[str]) -> None:
        """Enters windows that were set aside and updates that were left out, and ends the run if they are too many.

        Raises:
            StreamError: on all workers.
        """
        progress, most = self.progress, self._settings.max_bad_windows
        progress.set_aside += set_aside
        progress.num_skipped += not self._engine.was_step_applied()
        if len(progress.set_aside) > most:
            problem = f"{len(progress.set_aside)} windows had targets or losses that are not finite"
            problem += f", more than max_bad_windows ({most}); the first: {', '.join(progress.set_aside[:3])}"
        elif progress.num_skipped > most:
            problem = (
                f"{progress.num_skipped} steps had a gradient that is not finite, more than max_bad_windows ({most})"
            )
        else:
            return
        raise StreamError(f"step {progress.step}: {problem}")

    def _measure(self) -> dict[str, float]:
        """Bits per byte on the held-out text, by domain."""
        settings, engine = self._settings, self._engine
        return validate(engine.module, self._clm, self._held_out_text(), settings.micro_batch_windows, engine.device)

    def _held_out_text(self) -> HeldOut:
        task = self._task
        if self._held_out is None:
            rank, num_workers = dist.get_rank(), dist.get_world_size()
            tokens = task.job.data.window_tokens
            self._held_out = read_held_out(task.held_out, task.tokenizer, tokens, rank, num_workers)
        return self._held_out

    def _hidden_states(self, sample: Sample) -> torch.Tensor:
        return hidden_states(self._engine.module, self._clm, sample, self._engine.device)

    def _compared(self) -> dict[str, Any] | None:
        """How training has changed the representations of tokens, if anyone has looked at the start."""
        if self._before is None:
            return None
        sample, before_NH = self._before
        after_NH = self._hidden_states(sample)
        table = self._task.tokenizer.table
        tokens = [table.token(int(token)).decode("utf-8", "backslashreplace") for token in sample.next_ids_G]
        return compare(before_NH, after_NH, sample, tokens) if self._is_first else None

    def _validate(self) -> bool:
        """Measures bits per byte; returns whether they are the best so far."""
        progress, found = self.progress, self._measure()
        mean = sum(found.values()) / len(found) if found else math.nan
        progress.validations.append((progress.step, found))
        scalars = {f"bits_per_byte/{domain}": value for domain, value in found.items()}
        self._trackers.log(progress.step, {**scalars, "bits_per_byte/mean": mean})
        return progress.best.update(progress.step, mean)

    def _save(self) -> None:
        """Writes a checkpoint; every worker its share of the tensors.

        Raises:
            StreamError: on all workers, when one of them cannot write.
        """
        progress, store = self.progress, self._store
        files: list[dict[str, int] | StreamError] = [{}] * dist.get_world_size()
        dist.all_gather_object(files, self._written(), group=self._group)
        self._raise_first(files)
        committed: list[StreamError | None] = [None]
        if self._is_first:
            try:
                sizes = {name: size for part in files if isinstance(part, dict) for name, size in part.items()}
                store.commit(progress.step, self._manifest(), progress.ledger, sizes)
                self._prune()
            except StreamError as error:
                committed = [error]
        dist.broadcast_object_list(committed, src=0, group=self._group)
        self._raise_first(committed)
        self._saved_step = progress.step

    def _prune(self) -> None:
        self._store.prune(self._settings.checkpoints.keep_last, {self.progress.best.step})

    def _written(self) -> dict[str, int] | StreamError:
        """This worker's files and their sizes, or why there are none."""
        tensors = ((name, tensor.numpy()) for name, tensor in read_state(self._engine))
        try:
            return self._store.write_tensors(self.progress.step, dist.get_rank(), tensors)
        except StreamError as error:
            for _ in tensors:  # gathering is collective: the other workers are at it
                pass
            return error

    @staticmethod
    def _raise_first(results: Sequence[object]) -> None:
        for result in results:
            if isinstance(result, StreamError):
                raise result

    def _manifest(self) -> Manifest:
        progress, task = self.progress, self._task
        known = task.telemetry.snapshot()
        return Manifest(
            step=progress.step,
            progress=progress.share,
            num_workers=dist.get_world_size(),
            job=task.job,
            packages=versions(),
            target=task.made_from["target"],
            text=task.made_from["text"],
            state={"progress": progress.to_json(), "counts": dict(known.counts), "set_aside": known.set_aside},
            num_windows=progress.ledger.num_windows,
        )

    def _report(self, scalars: dict[str, float]) -> None:
        """To the display, and to the trackers."""
        if self._is_first:
            shown = {"step": self.progress.step, "progress": self.progress.share, **scalars}
            self._task.telemetry.step(shown)
        self._trackers.log(self.progress.step, scalars)
