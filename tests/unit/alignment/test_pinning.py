"""The actual token's share and what is left to the others, against enumeration over toy vocabularies."""

import numpy as np
import pytest
from hypothesis import given

from tests.oracles.prefixes import prefix_probability, rest
from tests.unit.alignment import toy
from tests.unit.alignment.test_conditioning import rows
from tests.unit.alignment.toy import World


@given(toy.worlds())
def test_the_actual_token_gets_what_the_source_says_of_its_bytes(world: World) -> None:
    source = world.source
    up_to = [prefix_probability(world.text, source.tokens, rows(source), int(offset)) for offset in world.target.ends]
    pinned = world.pinned(world.spoken())
    assert pinned.spoken_M.all()
    np.testing.assert_allclose(pinned.actual_M, np.array(up_to[1:]) / up_to[:-1], rtol=1e-4)


@given(toy.worlds())
def test_the_others_keep_what_they_have_for_other_texts(world: World) -> None:
    source, spoken = world.source, world.spoken()
    pinned = world.pinned(spoken)
    own_end = world.last_T.max()
    for m, (begin, end) in enumerate(zip(world.target.ends[:-1], world.target.ends[1:], strict=True)):
        assert world.last_T[m] < own_end
        expected = rest(world.text, source.tokens, rows(source), int(begin), int(end))
        found = toy.candidates(source.table, spoken, m, pinned.rest_MC[m])
        assert found == pytest.approx(expected, rel=1e-4, abs=1e-6)


@given(toy.worlds(), toy.seeds)
def test_both_together_are_the_sources_mass(world: World, seed: int) -> None:
    spoken = world.spoken(1 + seed % world.source.table.size)
    pinned = world.pinned(spoken)
    np.testing.assert_allclose(pinned.actual_M + pinned.rest_MC.sum(1), spoken.probs_TC[:-1].sum(1), atol=1e-5)
    assert np.all(pinned.rest_MC >= 0)


def test_a_token_that_the_source_does_not_know_of_silences_it() -> None:
    """Its log-probability is minus infinity: nothing behind it can be followed either."""
    world = toy.World(b"abab", toy.reader(b"abab", [], 0), toy.reader(b"abab", [], 1))
    world.source.probs_MV[2, world.source.ids_M[2]] = 0
    pinned = world.pinned(world.spoken())
    assert pinned.spoken_M.tolist() == [True, True, False, False, False]
    assert pinned.actual_M[2:].tolist() == [0, 0, 0]
