"""Where checkpoints lie that a run goes on from: a directory, or any URI that pyarrow writes to.

<directory>/step-00000120/
    tensors-<rank>-<part>.safetensors    float32 tensors by name: the weights and the optimizer's state
    ledger.parquet                       the windows that were learned from
    checkpoint.json                      the manifest; written last, so a checkpoint without it is not complete

Workers share the tensors out among them; any number of them can read them again. Nothing is ever renamed, which object
stores could not do.
"""

import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import NoReturn

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load, save

from pta_ray.errors import JobError, StreamError, first_line
from pta_ray.ledger import Ledger
from pta_ray.text.documents import file_system
from pta_ray.training.manifest import START_OVER, Manifest

Tensor = npt.NDArray[np.float32]

_MANIFEST = "checkpoint.json"
_LEDGER = "ledger.parquet"
_NAME = re.compile(r"step-(\d+)")
_PART_BYTES = 512 << 20  # of a file of tensors; as much again is held while it is written or read


@dataclass(frozen=True)
class Checkpoint:
    """A complete checkpoint."""

    step: int
    manifest: Manifest
    location: str
    """Its directory or URI."""
    _system: fs.FileSystem
    _path: str

    def ledger(self) -> Ledger:
        """The windows that were learned from.

        Raises:
            JobError: the file cannot be read.
        """
        with self._reading(_LEDGER):
            return Ledger.from_table(pq.read_table(f"{self._path}/{_LEDGER}", filesystem=self._system))

    def tensors(self) -> Iterator[tuple[str, Tensor]]:
        """All tensors by name, whichever worker wrote them, in the same order for everyone who reads them; those of one
        file are in memory at a time.

        Raises:
            JobError: a file cannot be read.
        """
        for name in sorted(self.manifest.files.keys() - {_LEDGER}):
            yield from sorted(self._load(name).items())  # safetensors has them in no order

    def _load(self, name: str) -> dict[str, Tensor]:
        with self._reading(name), self._system.open_input_stream(f"{self._path}/{name}") as file:
            tensors: dict[str, Tensor] = load(file.read())
        return tensors

    @contextmanager
    def _reading(self, name: str) -> Iterator[None]:
        try:
            yield
        except (OSError, pa.ArrowException, SafetensorError) as error:
            _refuse(self.location, f"{name} cannot be read ({first_line(error)})")


class CheckpointStore:
    """The checkpoints of one run. All workers write their shares, and the first one then commits them."""

    def __init__(self, directory: str) -> None:
        """
        Args:
            directory: a path or URI that all workers reach; it need not be there yet.

        Raises:
            JobError: pyarrow knows no such file system.
        """
        self._directory = directory
        self._begun: int | None = None
        with self._reaching():
            self._system, self._root = file_system(directory)

    def write_tensors(
        self, step: int, rank: int, tensors: Mapping[str, Tensor] | Iterable[tuple[str, Tensor]]
    ) -> dict[str, int]:
        """Writes one worker's share of the tensors. From here on until `commit` the checkpoint is not complete.

        Returns: the files written and their sizes in bytes.

        Raises:
            StreamError: they cannot be written.
        """
        self._begun = step
        sizes: dict[str, int] = {}
        with self._changing(f"write {self._location(step)}", step):
            self._system.create_dir(self._path(step))
            self._withdraw(step)
            for part in _parts(tensors.items() if isinstance(tensors, Mapping) else tensors):
                name = f"tensors-{rank}-{len(sizes)}.safetensors"
                sizes[name] = self._write(step, name, save(part))
        return sizes

    def commit(self, step: int, manifest: Manifest, ledger: Ledger, files: Mapping[str, int]) -> None:
        """Completes a checkpoint; the first worker calls it when all have written their tensors.

        Args:
            manifest: without files.
            files: what `write_tensors` returned to all the workers.

        Raises:
            StreamError: it cannot be written, or not everything that was written is to be seen from here.
        """
        with self._changing(f"write {self._location(step)}", step):
            table = pa.BufferOutputStream()
            pq.write_table(ledger.to_table(), table, compression="zstd")
            sizes = {**files, _LEDGER: self._write(step, _LEDGER, table.getvalue())}
            if lacking := self._lacking(step, sizes):
                raise OSError(f"{lacking}; is it a directory that all workers share?")
            # pydantic's own JSON turns infinities into null.
            content = json.dumps(manifest.model_copy(update={"files": sizes}).model_dump(), indent=2)
            try:
                self._write(step, _MANIFEST, content.encode())
            except OSError:
                self._withdraw(step)
                raise
        self._begun = None

    def steps(self) -> list[int]:
        """The complete checkpoints, oldest first.

        Raises:
            JobError: the directory cannot be read.
        """
        with self._reaching():
            return self._complete(self._all())

    def newest(self) -> Checkpoint | None:
        """What to go on from, if there is any; a damaged one is refused as `open` does, and not passed over."""
        steps = self.steps()
        return self.open(steps[-1]) if steps else None

    def open(self, step: int) -> Checkpoint:
        """Reads what a checkpoint says of itself, and looks whether all of it is there.

        Raises:
            JobError: it is not complete, not one of ours, or files are missing or cut short.
        """
        location = self._location(step)
        try:
            with self._system.open_input_stream(f"{self._path(step)}/{_MANIFEST}") as file:
                manifest = Manifest.model_validate_json(file.read())
            lacking = self._lacking(step, manifest.files)
        except OSError as error:
            _refuse(location, f"{_MANIFEST} cannot be read ({first_line(error)})")
        except ValidationError:
            _refuse(location, f"{_MANIFEST} is not one that this version of pta-ray writes")
        if lacking:
            _refuse(location, lacking)
        return Checkpoint(step, manifest, location, self._system, self._path(step))

    def prune(self, keep_last: int, keep: Collection[int]) -> None:
        """Removes older checkpoints, and what a writer left that died; not the one that this worker is writing.

        Args:
            keep_last: how many complete ones stay.
            keep: steps that stay besides if they are complete.

        Raises:
            StreamError: one cannot be removed.
        """
        with self._changing(f"list {self._directory}", None):
            steps = self._all()
            complete = self._complete(steps)
        for step in set(steps) - {*complete[-keep_last:], *(set(keep) & set(complete)), self._begun}:
            with self._changing(f"remove {self._location(step)}", step):
                # The manifest first: what is left if this is interrupted is then incomplete, and not damaged.
                self._withdraw(step)
                self._system.delete_dir(self._path(step))

    def _path(self, step: int) -> str:
        return f"{self._root}/{_name(step)}"

    def _location(self, step: int) -> str:
        return f"{self._directory}/{_name(step)}"

    def _all(self) -> list[int]:
        """The steps of all checkpoints, complete or not, in order."""
        found = self._system.get_file_info(fs.FileSelector(self._root, allow_not_found=True))
        return sorted(int(match[1]) for info in found if (match := _NAME.fullmatch(info.base_name)))

    def _complete(self, steps: list[int]) -> list[int]:
        found = self._system.get_file_info([f"{self._path(step)}/{_MANIFEST}" for step in steps])
        # A writer that is killed between opening a file and writing to it leaves an empty one.
        return [step for step, info in zip(steps, found, strict=True) if info.is_file and info.size]

    def _lacking(self, step: int, sizes: Mapping[str, int]) -> str:
        """The first file, if any, that is not there in full."""
        # By name: a shared file system's listing may be older than the files.
        found = self._system.get_file_info([f"{self._path(step)}/{name}" for name in sizes])
        for (name, size), info in zip(sizes.items(), found, strict=True):
            if not info.is_file:
                return f"{name} is missing"
            if info.size != size:
                return f"{name} holds {info.size} of its {size} bytes"
        return ""

    def _write(self, step: int, name: str, content: bytes | pa.Buffer) -> int:
        with self._system.open_output_stream(f"{self._path(step)}/{name}") as file:
            file.write(content)
        return len(content)

    def _withdraw(self, step: int) -> None:
        """Makes a checkpoint incomplete."""
        with suppress(FileNotFoundError):
            self._system.delete_file(f"{self._path(step)}/{_MANIFEST}")

    @contextmanager
    def _reaching(self) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError) as error:
            problem = f"cannot reach {self._directory} ({first_line(error)})"
            raise JobError("training.checkpoints.directory", problem) from None

    @contextmanager
    def _changing(self, action: str, step: int | None) -> Iterator[None]:
        """Says, when something cannot be done, what is left to go on from besides the checkpoint it is done to."""
        try:
            yield
        except (OSError, pa.ArrowException) as error:
            raise StreamError(f"cannot {action} ({first_line(error)}); {self._left(step)}") from error

    def _left(self, step: int | None) -> str:
        try:
            complete = [other for other in self._complete(self._all()) if other != step]
        except (OSError, pa.ArrowException):
            return "mend that and go on with --resume from the newest checkpoint that is complete"
        if not complete:
            return "no other checkpoint is complete: mend that and start over"
        return f"the checkpoint of step {complete[-1]} is complete: mend that and go on from it with --resume"


def _parts(tensors: Iterable[tuple[str, Tensor]]) -> Iterator[dict[str, Tensor]]:
    """Fills up one file after the other; a tensor that is larger than a file has one of its own."""
    part: dict[str, Tensor] = {}
    num_bytes = 0
    for name, tensor in tensors:
        if part and num_bytes + tensor.nbytes > _PART_BYTES:
            yield part
            part, num_bytes = {}, 0
        part[name] = np.asarray(tensor, order="C")  # safetensors would write whatever lies at its address
        num_bytes += tensor.nbytes
    if part:
        yield part


def _name(step: int) -> str:
    return f"step-{step:08}"


def _refuse(location: str, problem: str) -> NoReturn:
    mend = "remove that directory to go on from the checkpoint before it"
    raise JobError("--resume", f"{location}: {problem}; {mend}, or {START_OVER}") from None
