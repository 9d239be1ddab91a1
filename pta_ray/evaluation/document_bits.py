"""The bits of every window under several models, and their sums over each document.

Shapes: M models, D documents of one domain.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pta_ray.attempts import attempt
from pta_ray.columns import scores_of, sound, windows_of
from pta_ray.distributions import Scores
from pta_ray.evaluation.bits_per_byte import bits_and_bytes
from pta_ray.telemetry import Telemetry, Work
from pta_ray.tokenizers.byte_tokenizer import ByteTokenizer

WINDOW_BITS_SCHEMA = pa.schema(
    [
        ("task", pa.int32()),  # with `row` the window, as in `WINDOW_SCHEMA`
        ("row", pa.int32()),
        ("domain", pa.string()),
        ("document", pa.string()),
        ("model", pa.int16()),
        ("bits", pa.float64()),
        ("bytes", pa.int64()),
    ]
)
_ROW_BITS = 32
_TIMEOUT_SECONDS = 600.0  # for one block, which takes far less than a second


@dataclass(frozen=True)
class DocumentBits:
    """What the documents of one domain cost under each model; the same bytes for all of them."""

    bits_MD: npt.NDArray[np.float64]
    bytes_D: npt.NDArray[np.int64]
    num_windows: int


class BitsOfWindows:
    """Callable of the last stage of an evaluation: scored windows in, `WINDOW_BITS_SCHEMA` out."""

    def __init__(self, models: Mapping[int, tuple[str, ByteTokenizer]], telemetry: Telemetry) -> None:
        """`models` are the names and tokenizers of those that have scored, by their number."""
        self._models = models
        self._telemetry = telemetry

    def __call__(self, block: pa.Table) -> pa.Table:
        """A row for each window and model. A window that one of the models could not read is set aside for all."""
        windows = sound(windows_of(block))
        scores = {model: scores_of(block, model) for model in self._models}
        texts = windows.column("text").to_pylist()

        def count(numbers: Sequence[int], work: Work) -> list[list[float]]:
            bits = [[self._bits(model, scores[model][n], texts[n]) for model in self._models] for n in numbers]
            work.done(sum(len(scores[model][n].ids_L) for model in self._models for n in numbers))
            return bits

        found = attempt(self._telemetry, "count bits", _TIMEOUT_SECONDS, windows, count)
        return self._rows(windows, found)

    def _bits(self, model: int, scores: Scores, text: bytes) -> float:
        name, tokenizer = self._models[model]
        bits, num_bytes = bits_and_bytes(scores, tokenizer, text)
        if num_bytes != len(text):
            raise ValueError(f"{name} has no room for more than {num_bytes} of its {len(text)} bytes")
        if not np.isfinite(bits):
            raise ValueError(f"its cross-entropy under {name} is not finite")
        return bits

    def _rows(self, windows: pa.Table, found: Sequence[Sequence[float] | None]) -> pa.Table:
        counted = windows.filter(pa.array([bits is not None for bits in found], pa.bool_()))
        document = [window_id.rpartition(":")[0] for window_id in counted.column("window_id").to_pylist()]
        of_windows = [counted.column("task"), counted.column("row"), counted.column("domain"), pa.array(document)]
        num_bytes = pc.binary_length(counted.column("text")).cast(pa.int64())
        bits = zip(*(bits for bits in found if bits is not None), strict=True)
        tables = [
            pa.table(
                [*of_windows, np.full(len(counted), model, np.int16), np.array(of_model), num_bytes],
                schema=WINDOW_BITS_SCHEMA,
            )
            for model, of_model in zip(self._models, bits, strict=False)  # no bits at all if there is no window
        ]
        return pa.concat_tables([WINDOW_BITS_SCHEMA.empty_table(), *tables])


def by_document(rows: pa.Table, num_models: int) -> dict[str, DocumentBits]:
    """Adds up the bits of the windows of each document, by domain.

    Args:
        rows: of `WINDOW_BITS_SCHEMA`, in any order. Windows that not every model has read are left out.
    """
    keys_N = rows.column("task").to_numpy().astype(np.int64) << _ROW_BITS | rows.column("row").to_numpy()
    _, window_N, num_read = np.unique(keys_N, return_inverse=True, return_counts=True)
    rows = rows.filter(pa.array(num_read[window_N] == num_models))
    domains = sorted(rows.column("domain").unique().to_pylist())
    return {domain: _of_domain(rows.filter(pc.equal(rows.column("domain"), domain)), num_models) for domain in domains}


def _of_domain(rows: pa.Table, num_models: int) -> DocumentBits:
    documents = rows.column("document").combine_chunks().dictionary_encode()
    document_N, model_N = documents.indices.to_numpy(), rows.column("model").to_numpy()
    bits_MD = np.zeros((num_models, len(documents.dictionary)))
    np.add.at(bits_MD, (model_N, document_N), rows.column("bits").to_numpy())
    bytes_D = np.zeros(len(documents.dictionary), np.int64)
    is_first_N = model_N == 0
    np.add.at(bytes_D, document_N[is_first_N], rows.column("bytes").to_numpy()[is_first_N])
    return DocumentBits(bits_MD, bytes_D, int(is_first_N.sum()))
