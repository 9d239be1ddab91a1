"""What each method does with a source's candidates, on toy models, and on real ones against POT."""

import numpy as np
import ot
import pytest
from hypothesis import given
from rapidfuzz.distance import Levenshtein

from pta_ray.alignment.align import align, method_of
from pta_ray.config import Alignment
from tests.fixtures.load import load_fixture
from tests.unit.alignment import toy
from tests.unit.alignment.toy import World

TOP_K = 4


def aligned(world: World, job: Alignment, m: int) -> dict[bytes, float]:
    """An aligned distribution by the bytes of its tokens."""
    scores = world.source.scores(TOP_K), world.target.scores(TOP_K)
    found = align(
        job, world.vocabularies, world.text, scores[0], world.source.ends, scores[1], world.target.ends
    ).distribution  # fmt: skip
    pairs = zip(found.ids_MK[m].tolist(), found.probs_MK[m].tolist(), strict=True)
    return {world.target.table.token(i): prob for i, prob in pairs if i >= 0 and prob > 0}


def said(world: World, m: int) -> dict[bytes, float]:
    spoken = world.spoken(TOP_K)
    return toy.candidates(world.source.table, spoken, m, spoken.probs_TC[m])


@given(toy.worlds())
def test_exact_names_equal_strings_and_nothing_else(world: World) -> None:
    for m in range(len(world.target.ids_M)):
        both = {x: prob for x, prob in said(world, m).items() if x in world.target.vocabulary}
        assert aligned(world, Alignment(method="exact", top_k=128), m) == pytest.approx(both, rel=1e-5)


@given(toy.worlds())
def test_mined_sends_each_candidate_whole_to_a_nearest_token(world: World) -> None:
    """At a shared boundary no token of the whole vocabulary is nearer than the one that got it."""
    for m in range(len(world.target.ids_M)):
        if world.spoken(TOP_K).retained_T[m] < 1:
            continue
        left = aligned(world, Alignment(method="mined", top_k=128), m)
        source = said(world, m)
        assert sum(left.values()) == pytest.approx(sum(source.values()), rel=1e-4)
        nearest = {x: _nearest(x, world.target.vocabulary) for x in source}
        assert set(left) <= {y for ys in nearest.values() for y in ys}
        for x, ys in nearest.items():
            assert sum(left.get(y, 0.0) for y in ys) >= source[x] * (1 - 1e-4)


def _nearest(x: bytes, vocabulary: list[bytes]) -> set[bytes]:
    if not x:
        return {b""}
    distances = {y: Levenshtein.normalized_distance(x, y) for y in vocabulary if y}
    return {y for y, distance in distances.items() if distance < min(distances.values()) + 1e-9}


def test_pta_paper_is_balanced_transport_and_then_each_row_to_its_largest_entry() -> None:
    """On real distributions, wherever POT's plan leaves no doubt about the largest entry of a row."""
    fixture = load_fixture()
    source, target = fixture.models["smollm2"], fixture.models["target"]
    job = Alignment(method="pta-paper", epsilon=0.1, top_k=128)
    i = next(i for i, window in enumerate(fixture.windows) if window.language == "english")
    found = align(
        job, toy.vocabularies(source.table, target.table), fixture.windows[i].text,
        source.scores[i], source.ends[i], target.scores[i], target.ends[i],
    )  # fmt: skip
    num_compared = 0
    for m in range(0, len(found.distribution.ids_MK), 5):
        said_ = toy.candidates(source.table, found.source, m, found.source.probs_TC[m])
        ours = target.scores[i]
        believed = dict(zip(ours.top_ids_MK[m].tolist(), np.exp(ours.top_log_probs_MK[m]).tolist(), strict=True))
        believed[int(ours.next_ids_M[m])] = float(np.exp(ours.next_log_probs_M[m]))
        ys = [target.table.token(y) for y in believed]
        if not said_ or b"" in said_ or b"" in ys:
            continue
        cost = np.array([[Levenshtein.normalized_distance(x, y) for y in ys] for x in said_])
        p, q = np.array(list(said_.values())), np.array(list(believed.values()))
        plan = ot.sinkhorn(p / p.sum(), q / q.sum(), cost, job.epsilon, stopThr=1e-10, numItermax=20_000)
        plan = np.sort(plan, 1), plan.argmax(1)
        if len(ys) > 1 and np.any(plan[0][:, -1] < 1.05 * plan[0][:, -2]):
            continue
        expected = np.zeros(len(ys))
        np.add.at(expected, plan[1], p)
        pairs = zip(found.distribution.ids_MK[m].tolist(), found.distribution.probs_MK[m].tolist(), strict=True)
        named = {y: prob for y, prob in pairs if prob > 0}
        received = {y: mass for y, mass in zip(believed, expected.tolist(), strict=True) if mass > 0}
        assert named == pytest.approx(received, rel=1e-4)
        num_compared += 1
    assert num_compared >= 10


def test_pta_takes_the_settings_and_pins_the_actual_token() -> None:
    assert method_of(Alignment(rho=0.7, cost="prefix")) == ("prefix", "piece", 0.7, False, True)
    assert method_of(Alignment(rho=0.7, cost="edit")) == ("edit", "nearest", 0.7, False, True)
