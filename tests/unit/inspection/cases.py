"""Inspections to look at: one worked out by hand, and real models along real texts."""

from collections.abc import Sequence

import numpy as np
from tokenizers import Tokenizer, models

from pta_ray.config import Alignment
from pta_ray.inspection.inspect import Reading, inspect
from pta_ray.inspection.model import Inspection
from pta_ray.text.windows import Window
from pta_ray.tokenizers.byte_table import ByteTable
from pta_ray.tokenizers.byte_tokenizer import ByteTokenizer
from tests.fixtures.load import Fixture
from tests.unit.alignment import toy
from tests.unit.alignment.toy import Reader, World


def tokenizer(table: ByteTable) -> ByteTokenizer:
    """For texts that have been tokenized."""
    return ByteTokenizer(Tokenizer(models.BPE()), table, start_id=0, exact=True, adds_space=True)


def by_hand() -> World:
    """A source that reads "ab" as one token, and a target that reads it as two. Both know the end of the document."""
    source = Reader(
        toy.table([b"", b"a", b"b", b"ab"]),
        np.array([3, 0], np.int32),
        np.array([[0.0, 0.3, 0.1, 0.6], [1.0, 0.0, 0.0, 0.0]]),
    )
    target = Reader(
        toy.table([b"", b"a", b"b"]),
        np.array([1, 2, 0], np.int32),
        np.array([[0.0, 0.5, 0.5], [0.2, 0.0, 0.8], [1.0, 0.0, 0.0]]),
    )
    return World(b"ab", source, target)


def inspect_world(world: World, settings: Alignment) -> Inspection:
    """A toy world's text as one window."""
    target, source = (
        Reading(name, tokenizer(reader.table), [reader.scores(settings.top_k)])
        for name, reader in (("target", world.target), ("source", world.source))
    )
    return inspect(settings, target, [source], [Window(0, world.text, True)], [], [])


def inspect_fixture(
    fixture: Fixture, settings: Alignment, sources: Sequence[str], languages: Sequence[str]
) -> Inspection:
    """The windows of some languages, as the demo's models and SmolLM2 have read them."""
    chosen = [i for i, window in enumerate(fixture.windows) if window.language in languages]
    target, *others = (
        Reading(name, tokenizer(fixture.models[name].table), [fixture.models[name].scores[i] for i in chosen])
        for name in ("target", *sources)
    )
    windows = [Window(0, fixture.windows[i].text, True) for i in chosen]
    return inspect(settings, target, others, windows, [], [])
