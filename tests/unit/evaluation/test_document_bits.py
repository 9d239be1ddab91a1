import math

import numpy as np
import pyarrow as pa
import pytest

from pta_ray.columns import WINDOW_SCHEMA, with_scores
from pta_ray.distributions import Scores
from pta_ray.evaluation.document_bits import WINDOW_BITS_SCHEMA, BitsOfWindows, by_document
from pta_ray.tokenizers.byte_tokenizer import ByteTokenizer
from tests.unit.in_process import in_process

TEXTS = {"a/x:0": "some words", "a/x:10": " and more", "a/y:0": "text", "b/x:0": "Größe: 12"}


def make_windows() -> pa.Table:
    num = len(TEXTS)
    rows_N = np.arange(num, dtype=np.int32)
    texts = [text.encode() for text in TEXTS.values()]
    domains, no = [window_id[0] for window_id in TEXTS], np.zeros(num, np.bool_)
    columns = [list(TEXTS), domains, texts, no, np.full(num, 0.1), no, np.zeros(num, np.int32), rows_N, no]
    return pa.table(columns, schema=WINDOW_SCHEMA)


def scores(tokenizer: ByteTokenizer, probability: float, max_tokens: int = 999) -> list[Scores | None]:
    """Of a model that gives every token the same probability."""
    found: list[Scores | None] = []
    for ids in tokenizer.encode(list(TEXTS.values())):
        sequence = tokenizer.sequence(ids, True, max_tokens)
        none = np.empty((len(sequence) - 1, 0), np.int32)
        log_probs = np.full(len(sequence) - 1, math.log(probability), np.float32)
        found.append(Scores(sequence, log_probs, none, none.astype(np.float32)))
    return found


def test_bits_of_windows_add_up_to_documents(byte_level: ByteTokenizer, sentencepiece: ByteTokenizer) -> None:
    block = with_scores(with_scores(make_windows(), 0, scores(byte_level, 1 / 4)), 1, scores(sentencepiece, 1 / 8))
    with in_process() as (telemetry, _):
        rows = BitsOfWindows({0: ("first", byte_level), 1: ("second", sentencepiece)}, telemetry)(block)
    assert rows.schema == WINDOW_BITS_SCHEMA
    found = by_document(rows.take(pa.array(np.random.default_rng(0).permutation(len(rows)))), 2)
    assert list(found) == ["a", "b"] and [found[d].num_windows for d in found] == [3, 1]
    order = np.argsort(-found["a"].bytes_D)  # documents come as they are found
    assert found["a"].bytes_D[order].tolist() == [19, 4]
    for m, (tokenizer, bits) in enumerate([(byte_level, 2), (sentencepiece, 3)]):
        first, more, text, size = (bits * len(ids) for ids in tokenizer.encode(list(TEXTS.values())))
        assert found["a"].bits_MD[m, order] == pytest.approx([first + more, text])
        assert found["b"].bits_MD[m] == pytest.approx([size]) and found["b"].bytes_D.tolist() == [11]


def test_what_one_model_cannot_read_counts_for_none(byte_level: ByteTokenizer, sentencepiece: ByteTokenizer) -> None:
    """Neither a window that does not fit into a model, nor one of which a model makes no number."""
    num_tokens = [len(ids) for ids in byte_level.encode(list(TEXTS.values()))]
    longest = num_tokens.index(max(num_tokens))
    assert longest != 2 and num_tokens.count(max(num_tokens)) == 1
    block = with_scores(make_windows(), 0, scores(byte_level, 1 / 4, max_tokens=max(num_tokens)))
    other = scores(sentencepiece, 1 / 8)
    other[2].next_log_probs_M[0] = np.nan  # type: ignore[union-attr]
    block = with_scores(block, 1, other)
    with in_process() as (telemetry, board):
        rows = BitsOfWindows({0: ("first", byte_level), 1: ("second", sentencepiece)}, telemetry)(block)
    reasons = {found.what: found.reason for found in board.snapshot().set_aside}
    assert reasons.pop("a/y:0") == "ValueError: its cross-entropy under second is not finite"
    [(what, reason)] = reasons.items()
    assert what == list(TEXTS)[longest] and reason.startswith("ValueError: first has no room for more than ")
    assert set(rows.column("row").to_pylist()) == {0, 1, 2, 3} - {2, longest}


def test_windows_that_were_read_by_some_models_only_are_left_out() -> None:
    columns = [[0, 0, 0], [0, 1, 0], ["a"] * 3, ["a/x", "a/y", "a/x"], [0, 0, 1], [1.0, 5.0, 2.0], [1, 1, 1]]
    found = by_document(pa.table(columns, schema=WINDOW_BITS_SCHEMA), 2)["a"]
    assert found.bits_MD.tolist() == [[1.0], [2.0]] and found.bytes_D.tolist() == [1] and found.num_windows == 1


def test_no_window_is_no_domain(byte_level: ByteTokenizer) -> None:
    block = with_scores(make_windows(), 0, [None] * len(TEXTS))
    with in_process() as (telemetry, _):
        rows = BitsOfWindows({0: ("first", byte_level)}, telemetry)(block)
    assert rows.schema == WINDOW_BITS_SCHEMA and by_document(rows, 1) == {}
