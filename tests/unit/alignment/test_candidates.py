"""The target's candidates against their definition, on toy vocabularies."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pta_ray.alignment.candidates import Joined, target_candidates
from pta_ray.distributions import Scores
from tests.unit.alignment import toy
from tests.unit.alignment.toy import World

TOP_K = 3


def stand_ins(world: World, joined: Joined, m: int) -> dict[bytes, int]:
    """The target token, -1 if there is none, that is joined for each of the source's candidates, by remaining bytes."""
    spoken, table = world.spoken(), world.target.table
    found = {}
    for x in toy.candidates(world.source.table, spoken, m, spoken.probs_TC[m]):
        whole = x if spoken.retained_T[m] == 1 else None
        if joined == "nearest" and whole is not None:
            found[x] = int(world.vocabularies.nearest_V[world.source.vocabulary.index(x)])
        elif x:
            fitting = [i for i in range(table.size) if table.token(i) and x.startswith(table.token(i))]
            found[x] = max(fitting, key=lambda i: len(table.token(i)))
        else:
            found[x] = table.eos_id
    return found


@given(toy.worlds(), st.sampled_from(["none", "piece", "nearest"]))
def test_candidates_are_the_actual_token_the_top_k_and_the_stand_ins(world: World, joined: Joined) -> None:
    spoken, scores = world.spoken(), world.target.scores(TOP_K)
    found = target_candidates(world.vocabularies, spoken, spoken.probs_TC[:-1], scores, joined)
    for m, (ids_Y, probs_Y) in enumerate(zip(found.ids_MY, found.probs_MY, strict=True)):
        num_named = int((ids_Y >= 0).sum())
        assert np.all(ids_Y[num_named:] == -1) and np.all(probs_Y[num_named:] == 0)
        named = dict(zip(ids_Y[:num_named].tolist(), probs_Y[:num_named].tolist(), strict=True))
        assert len(named) == num_named
        assert ids_Y[0] == world.target.ids_M[m]
        own = {int(ids_Y[0]), *scores.top_ids_MK[m].tolist()}
        others = set() if joined == "none" else {i for i in stand_ins(world, joined, m).values() if i >= 0} - own
        assert set(named) == own | others
        believed = world.target.probs_MV[m]
        tail = max(1 - sum(believed[i] for i in own), 1e-6) / world.target.table.size
        assert named == pytest.approx({i: believed[i] if i in own else tail for i in named}, rel=1e-3, abs=1e-7)


@given(toy.worlds())
def test_candidates_without_mass_bring_nothing(world: World) -> None:
    spoken, scores = world.spoken(), world.target.scores(TOP_K)
    nothing = np.zeros_like(spoken.probs_TC[:-1])
    found, own = (
        target_candidates(world.vocabularies, spoken, nothing, scores, joined) for joined in ("piece", "none")
    )
    np.testing.assert_array_equal(found.ids_MY[:, : own.ids_MY.shape[1]], own.ids_MY)
    assert np.all(found.ids_MY[:, own.ids_MY.shape[1] :] == -1)


def test_tokens_that_are_none_are_left_out() -> None:
    """Padding, entries beyond the vocabulary, special tokens and the actual one's second mention; EOS is a token."""
    target = toy.with_special(toy.table([b"", b"a", b"b"]))
    world = World(b"", toy.reader(b"", [], 0), toy.reader(b"", [], 0))
    spoken = world.spoken()
    vocabularies = toy.vocabularies(world.source.table, target)
    scores = Scores(
        np.array([0, 1], np.int32), np.log(np.array([0.5], np.float32)), np.array([[-1, 7, 3, 1, 0, 2]], np.int32),
        np.log(np.array([[0.1, 0.1, 0.1, 0.5, 0.125, 0.0625]], np.float32)),
    )  # fmt: skip
    found = target_candidates(vocabularies, spoken, spoken.probs_TC[:-1], scores, "none")
    assert found.ids_MY.tolist() == [[1, 0, 2, -1, -1, -1, -1]]
    assert found.probs_MY[0].tolist() == pytest.approx([0.5, 0.125, 0.0625, 0, 0, 0, 0])
