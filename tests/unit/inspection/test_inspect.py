"""An inspection against a case worked out by hand, and against the equations on toy and real models."""

import math
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pta_ray.alignment.align import align
from pta_ray.config import Alignment
from pta_ray.inspection.inspect import Reading, inspect
from pta_ray.inspection.model import Boundary, Inspection, Masses
from pta_ray.pages.labels import plain
from pta_ray.sources.simulated_engine import made_up
from pta_ray.text.windows import Window
from pta_ray.tokenizers.byte_tokenizer import ByteTokenizer
from tests.fixtures.load import Fixture, load_fixture
from tests.unit.alignment import toy
from tests.unit.alignment.toy import World
from tests.unit.inspection.cases import by_hand, inspect_fixture, inspect_world

METHODS = ("pta", "pta-paper", "mined", "exact")


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Maps of toy vocabularies do not belong in the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def fixture() -> Fixture:
    return load_fixture()


def named(found: Inspection, masses: Masses) -> dict[str, float]:
    """Probabilities by label."""
    return {plain(found.labels[i]): prob for i, prob in zip(masses.labels, masses.probs, strict=True)}


def words(found: Inspection, labels: list[int]) -> list[str]:
    return [plain(found.labels[i]) for i in labels]


def test_tokens_and_their_pairing() -> None:
    found = inspect_world(by_hand(), Alignment())
    (view,) = found.windows
    (source,) = view.sources
    assert words(found, view.tokens) == ["⟨start⟩", "a", "b", "⟨end⟩"] and view.ends == [0, 1, 2, 3]
    assert words(found, source.tokens) == ["⟨start⟩", "ab", "⟨end⟩"] and source.by_bytes
    (line,) = source.lines
    assert [(group.source, group.target) for group in line.groups] == [((1, 2), (1, 3)), ((2, 3), (3, 4))]
    assert words(found, [group.text for group in line.groups if group.text is not None]) == ["ab", ""]


def test_the_first_boundary_which_both_share() -> None:
    """The source gives "a" 0.9, as itself and as the beginning of "ab"; its "b" is left to be moved."""
    found = inspect_world(by_hand(), Alignment())
    first = found.windows[0].sources[0].boundaries[0]
    assert (first.where, first.confidence, first.source_token) == ("shared", 1, 1)
    assert named(found, first.source) == pytest.approx({"ab": 0.6, "a": 0.3, "b": 0.1, "⟨end⟩": 0})
    assert named(found, first.target)["a"] == 0.5 and named(found, first.target)["b"] == 0.5
    assert first.pinned == pytest.approx(0.9) and first.to_move == pytest.approx([0, 0, 0.1, 0], abs=1e-6)
    assert words(found, [first.source.labels[c] for c in first.senders]) == ["b"]
    b = words(found, first.target.labels).index("b")
    assert first.cost == [{b: 0}] and first.plan == [{b: pytest.approx(0.1)}]
    assert named(found, first.aligned["pta"]) == pytest.approx({"a": 0.9, "b": 0.1})
    # "ab" is as near to "a" as to "b", and begins with "a"; and no token of the target equals it.
    assert named(found, first.aligned["mined"]) == pytest.approx({"a": 0.9, "b": 0.1})
    assert named(found, first.aligned["exact"]) == pytest.approx({"a": 0.3, "b": 0.1})
    assert first.aligned["exact"].tail == pytest.approx(0.6)
    assert first.source_bits == pytest.approx(-math.log2(0.9), abs=1e-3) == first.bits["pta"]
    assert first.bits["exact"] == pytest.approx(-math.log2(0.3), abs=1e-3)


def test_the_second_boundary_inside_a_token_of_the_source() -> None:
    """ "a" has been read, which the source gave 0.9; of that 0.6 go on with "b", and 0.3 may with anything."""
    found = inspect_world(by_hand(), Alignment())
    second = found.windows[0].sources[0].boundaries[1]
    assert (second.where, second.confidence, second.source_token) == ("inside", pytest.approx(0.9), 1)
    assert words(found, [second.residue]) == ["a"]
    assert named(found, second.source) == pytest.approx({"b": 2 / 3}, abs=1e-4)
    assert second.source.tail == pytest.approx(1 / 3, abs=1e-4)
    assert second.senders == [] and second.plan == []
    for method in ("pta", "mined", "exact"):
        assert named(found, second.aligned[method]) == pytest.approx({"b": 2 / 3}, abs=1e-4)


def test_who_wins_and_why() -> None:
    found = inspect_world(by_hand(), Alignment())
    view = found.windows[0]
    target, source = view.claims
    assert view.winner == "source" and source.contest is not None and source.contest.wins
    assert source.contest.bits == pytest.approx(-math.log2(0.6), rel=1e-5)
    assert source.contest.holder_bits == pytest.approx(-math.log2(0.5 * 0.8), rel=1e-5)
    assert (source.contest.num_boundaries, source.contest.num_bytes, source.num_spoken) == (3, 2, 3)
    assert target.bits_per_byte == pytest.approx(-math.log2(0.4) / 2) and target.contest is None
    assert source.reason == (
        "takes the window from target: 0.368 bits per byte against 0.661, over the 3 boundaries (2 bytes) where both "
        "speak"
    )


jobs = st.builds(
    Alignment,
    top_k=st.integers(1, 6),
    method=st.sampled_from(METHODS),
    cost=st.sampled_from(["canonical", "prefix", "edit"]),
)


@settings(max_examples=60)
@given(toy.worlds(), jobs)
def test_plans_send_p_and_aligned_distributions_are_what_arrives(world: World, job: Alignment) -> None:
    found = inspect_world(world, job)
    for boundary in found.windows[0].sources[0].boundaries:
        assert len(boundary.to_move) == len(boundary.source.labels) and len(boundary.bits) == len(boundary.aligned)
        receivers = boundary.target.probs[1:] if boundary.pinned is not None else boundary.target.probs
        # With the actual token pinned and no other candidate of the target's, all that is left becomes tail.
        sent = [boundary.to_move[c] if any(receivers) else 0.0 for c in boundary.senders]
        assert [sum(row.values()) for row in boundary.plan] == pytest.approx(sent, rel=1e-2, abs=3e-4)
        if job.method == "pta" and boundary.where != "silent":
            _check_what_arrives(found, boundary)


def _check_what_arrives(found: Inspection, boundary: Boundary) -> None:
    """G^T 1 beside the pinned token, but for what is cut off beyond the top-k."""
    arrived: dict[int, float] = {boundary.target.labels[0]: boundary.pinned or 0.0}
    for row in boundary.plan:
        for y, mass in row.items():
            i = boundary.target.labels[y]
            arrived[i] = arrived.get(i, 0.0) + mass
    aligned = boundary.aligned["pta"]
    for i, prob in zip(aligned.labels, aligned.probs, strict=True):
        assert prob == pytest.approx(arrived.get(i, 0.0), rel=1e-3, abs=3e-4)


@settings(max_examples=40)
@given(toy.worlds(), jobs)
def test_groups_hold_every_token_once_and_spell_the_text(world: World, job: Alignment) -> None:
    found = inspect_world(world, job)
    view = found.windows[0]
    groups = [group for line in view.sources[0].lines for group in line.groups]
    assert [t for group in groups for t in range(*group.target)] == list(range(1, len(view.tokens)))
    assert [s for group in groups for s in range(*group.source)] == list(range(1, len(view.sources[0].tokens)))
    source, target = (reader.table.joined for reader in (world.source, world.target))
    at = 0
    for group in groups:
        piece = target(world.target.ids_M[group.target[0] - 1 : group.target[1] - 1])
        assert piece == source(world.source.ids_M[group.source[0] - 1 : group.source[1] - 1])
        assert world.text.startswith(piece, at)
        at += len(piece)
    assert at == len(world.text)


@settings(max_examples=20)
@given(toy.worlds(), jobs)
def test_json_and_back(world: World, job: Alignment) -> None:
    found = inspect_world(world, job)
    assert Inspection.model_validate_json(found.model_dump_json()) == found


@pytest.mark.parametrize("method", METHODS)
def test_real_windows_show_what_alignment_makes_of_them(fixture: Fixture, method: str) -> None:
    job = Alignment.model_validate({"method": method})
    found = inspect_fixture(fixture, job, ["python"], ["japanese"])
    target = fixture.models["target"]
    chosen = [i for i, window in enumerate(fixture.windows) if window.language == "japanese"]
    for i, view in zip(chosen, found.windows, strict=True):
        for name, shown in zip(found.sources, view.sources, strict=True):
            model = fixture.models[name]
            aligned = align(
                job, toy.vocabularies(model.table, target.table), fixture.windows[i].text, model.scores[i],
                model.ends[i], target.scores[i], target.ends[i],
            ).distribution  # fmt: skip
            spoken_M = [boundary.where != "silent" for boundary in shown.boundaries]
            np.testing.assert_array_equal(spoken_M, aligned.confidence_M > 0)
            for m in np.flatnonzero(spoken_M):
                probs = aligned.probs_MK[m, aligned.ids_MK[m] >= 0]
                np.testing.assert_allclose(shown.boundaries[m].aligned[method].probs, probs, rtol=1e-3)


def test_lines_end_at_line_ends_and_have_their_own_direction(fixture: Fixture) -> None:
    found = inspect_fixture(fixture, Alignment(), ["python"], ["arabic", "english"])
    by_direction = {line.right_to_left for view in found.windows for line in view.sources[0].lines}
    assert by_direction == {True, False}


def test_a_character_that_groups_share_is_shown_once(small_byte_level: ByteTokenizer) -> None:
    """Both read 語, which is three bytes, byte by byte."""
    text = "a語\n"
    ids_L = small_byte_level.sequence(small_byte_level.encode([text])[0], True, 1000)
    scores = made_up(ids_L, 5, small_byte_level.table.size, np.random.default_rng(0))
    reading = Reading("model", small_byte_level, [scores])
    found = inspect(Alignment(), reading, [reading], [Window(0, text.encode(), True)], [], [])
    first, last = found.windows[0].sources[0].lines
    assert words(found, [group.text or 0 for group in first.groups]) == ["a", "語", "⋯", "⋯", "␊"]
    assert words(found, found.windows[0].tokens)[2:5] == ["⟨E8⟩", "⟨AA⟩", "⟨9E⟩"]
    assert words(found, [group.text or 0 for group in last.groups]) == [""]


def test_tokens_that_spell_other_bytes_are_grouped_by_edit_distance(
    byte_level: ByteTokenizer, lowercase: ByteTokenizer
) -> None:
    """A lowercasing source: groups hold the text as the target reads it."""
    text = "The Tokenization OF a text\nDECIDES"
    readings = []
    for name, tokenizer in (("target", byte_level), ("source", lowercase)):
        ids_L = tokenizer.sequence(tokenizer.encode([text])[0], True, 1000)
        readings.append(Reading(name, tokenizer, [made_up(ids_L, 5, tokenizer.table.size, np.random.default_rng(0))]))
    found = inspect(Alignment(), readings[0], readings[1:], [Window(0, text.encode(), True)], [], ["source"])
    view = found.windows[0]
    (source,) = view.sources
    assert not source.by_bytes and len(source.lines) == 2 and found.simulated == ["source"]
    pieces = words(found, [group.text or 0 for line in source.lines for group in line.groups])
    assert "".join(pieces).replace("·", " ").replace("␊", "\n").startswith("The Tokenization OF a text\nDECIDES")
    assert {boundary.where for boundary in source.boundaries} <= {"shared", "silent"}
