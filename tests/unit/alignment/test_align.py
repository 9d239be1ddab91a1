"""The whole alignment: on toy models that may say anything, and on real distributions along real texts."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pta_ray.alignment.align import Aligned, align
from pta_ray.alignment.conditioning import condition
from pta_ray.alignment.pairing import pair_boundaries
from pta_ray.alignment.pinning import pin
from pta_ray.alignment.vocabularies import prepare_vocabularies
from pta_ray.config import Alignment
from pta_ray.distributions import Scores
from pta_ray.evaluation.fidelity import Fidelity, measure_fidelity
from pta_ray.tokenizers.byte_table import ByteTable
from tests.fixtures.load import Fixture, load_fixture
from tests.real_vocabularies import sentencepiece_table
from tests.unit.alignment import toy
from tests.unit.alignment.toy import World

METHODS = ("pta", "pta-paper", "mined", "exact")
jobs = st.builds(
    Alignment,
    top_k=st.integers(1, 6),
    method=st.sampled_from(METHODS),
    cost=st.sampled_from(["canonical", "prefix", "edit"]),
    epsilon=st.sampled_from([1e-3, 0.05, 10.0]),
    rho=st.sampled_from([1e-3, 0.2, 100.0]),
)


@pytest.fixture(scope="module")
def fixture() -> Fixture:
    return load_fixture()


def run(job: Alignment, world: World, source: Scores, target: Scores) -> Aligned:
    return align(job, world.vocabularies, world.text, source, world.source.ends, target, world.target.ends)


def damaged(scores: Scores, seed: int) -> Scores:
    """Padded ids, log-probabilities of minus infinity, equal ones, all mass in the tail, an overconfident model."""
    random = np.random.default_rng(seed)
    next_M, top_ids_MK, top_MK = (
        a.copy() for a in (scores.next_log_probs_M, scores.top_ids_MK, scores.top_log_probs_MK)
    )
    top_ids_MK[random.random(top_ids_MK.shape) < 0.2] = -1
    top_MK[random.random(top_MK.shape) < 0.2] = -np.inf
    next_M[random.random(next_M.shape) < 0.1] = -np.inf
    top_MK[random.random(len(top_MK)) < 0.2] = np.log(1 / top_MK.shape[1])
    top_MK[random.random(len(top_MK)) < 0.2] = -np.inf
    top_ids_MK[random.random(len(top_MK)) < 0.1] = -1
    next_M[random.random(next_M.shape) < 0.1] = 0
    return replace(scores, next_log_probs_M=next_M, top_ids_MK=top_ids_MK, top_log_probs_MK=top_MK)


@settings(max_examples=150)
@given(toy.worlds(), jobs, toy.seeds, st.booleans())
def test_distributions_are_distributions_whatever_the_models_say(
    world: World, job: Alignment, seed: int, is_damaged: bool
) -> None:
    source, target = (reader.scores(job.top_k) for reader in (world.source, world.target))
    if is_damaged:
        source, target = damaged(source, seed), damaged(target, seed + 1)
    found = run(job, world, source, target).distribution
    assert np.all(np.isfinite(found.probs_MK)) and np.all(found.probs_MK >= 0)
    assert np.all((found.confidence_M >= 0) & (found.confidence_M <= 1 + 1e-5))
    assert found.ids_MK.shape == found.probs_MK.shape == (len(world.target.ids_M), 1 + job.top_k)
    np.testing.assert_array_equal(found.ids_MK[:, 0], world.target.ids_M)
    assert np.all(found.probs_MK[found.ids_MK < 0] == 0)
    for ids_K in found.ids_MK:
        named = ids_K[ids_K >= 0]
        assert len(set(named.tolist())) == len(named)
    if not is_damaged:
        assert np.all(found.probs_MK.sum(1) <= 1 + 1e-5)


@given(toy.worlds(), st.sampled_from(["canonical", "prefix", "edit"]), toy.seeds)
def test_no_mass_is_lost_between_the_source_and_its_aligned_version(world: World, cost: str, seed: int) -> None:
    """With room for all candidates: what the source names is named, what is in its tail is in the tail."""
    random = np.random.default_rng(seed)
    source_k, target_k = (int(random.integers(1, reader.table.size + 1)) for reader in (world.source, world.target))
    source, target = world.source.scores(source_k), world.target.scores(target_k)
    found = run(Alignment(top_k=128, cost=cost), world, source, target)
    named_M = found.distribution.probs_MK.sum(1)
    said_M = found.source.probs_TC[:-1].sum(1)
    # Where the target has no candidate but the actual token, what the source has for others has nowhere to go.
    some_M = (found.distribution.ids_MK[:, 1:] >= 0).any(1)
    np.testing.assert_allclose(named_M[some_M], said_M[some_M], atol=1e-5)
    assert np.all(named_M <= said_M + 1e-5)


@given(toy.worlds(), jobs, toy.seeds, toy.seeds)
def test_renumbering_either_vocabulary_changes_nothing(world: World, job: Alignment, seed: int, other: int) -> None:
    def renumbered(reader: toy.Reader, seed: int) -> tuple[toy.Reader, np.ndarray]:
        old_of_new = np.random.default_rng(seed).permutation(reader.table.size)
        new_of_old = np.argsort(old_of_new).astype(np.int32)
        table = toy.table([reader.table.token(i) for i in old_of_new])
        return toy.Reader(table, new_of_old[reader.ids_M], reader.probs_MV[:, old_of_new]), new_of_old

    def translated(scores: Scores, new_of_old: np.ndarray) -> Scores:
        return replace(scores, ids_L=new_of_old[scores.ids_L], top_ids_MK=new_of_old[scores.top_ids_MK])

    source, target = (reader.scores(job.top_k) for reader in (world.source, world.target))
    before = run(job, world, source, target).distribution
    new_source, source_map = renumbered(world.source, seed)
    new_target, target_map = renumbered(world.target, other)
    after = run(
        job, World(world.text, new_source, new_target), translated(source, source_map), translated(target, target_map)
    ).distribution
    expected_ids_MK = np.where(before.ids_MK >= 0, target_map[before.ids_MK], -1)
    np.testing.assert_array_equal(after.ids_MK, expected_ids_MK)
    np.testing.assert_allclose(after.probs_MK, before.probs_MK, atol=1e-6)


def by_token(ids_K: np.ndarray, probs_K: np.ndarray, table: ByteTable) -> dict[int, float]:
    """A row by token, what has no mass or is no token left out."""
    pairs = zip(ids_K.tolist(), probs_K.tolist(), strict=True)
    return {i: prob for i, prob in pairs if prob > 0 and (table.roles_V[i] == 1 or table.lengths_V[i] > 0)}


@pytest.mark.parametrize("shift", [0, 1])
def test_a_tokenizer_aligned_with_itself_is_the_identity(fixture: Fixture, shift: int) -> None:
    """With the same model on both sides, and with another, whose beliefs are those of neighbouring positions. At edit
    cost: prefix cost shares a token out among those that begin with it."""
    model = fixture.models["translations"]
    vocabularies = toy.vocabularies(model.table, model.table)
    job = Alignment(cost="edit", rho=1e-9, epsilon=1e-3, top_k=128)
    for i in range(0, len(fixture.windows), 5):
        scores, ends = model.scores[i], model.ends[i]
        other = Scores(
            scores.ids_L, *(np.roll(a, shift, 0) for a in
            (scores.next_log_probs_M, scores.top_ids_MK, scores.top_log_probs_MK)),
        )  # fmt: skip
        found = align(job, vocabularies, fixture.windows[i].text, scores, ends, other, ends).distribution
        assert np.all(found.confidence_M == 1)
        for m, next_id in enumerate(scores.next_ids_M.tolist()):
            expected = by_token(scores.top_ids_MK[m], np.exp(scores.top_log_probs_MK[m]), model.table)
            expected[next_id] = float(np.exp(scores.next_log_probs_M[m]))
            aligned = by_token(found.ids_MK[m], found.probs_MK[m], model.table)
            assert {i: aligned.get(i, 0.0) for i in expected} == pytest.approx(expected, abs=1e-6)
            assert sum(prob for i, prob in aligned.items() if i not in expected) < 1e-6


def test_a_plan_that_does_not_converge_is_reported(fixture: Fixture) -> None:
    source, target = fixture.models["smollm2"], fixture.models["target"]
    vocabularies = toy.vocabularies(source.table, target.table)
    arguments = (fixture.windows[0].text, source.scores[0], source.ends[0], target.scores[0], target.ends[0])
    easy = align(Alignment(epsilon=1.0, rho=0.2), vocabularies, *arguments)
    hard = align(Alignment(epsilon=1e-3, rho=100.0), vocabularies, *arguments)
    assert easy.num_unconverged == 0
    assert hard.num_unconverged > 0
    np.testing.assert_allclose(hard.distribution.probs_MK[:, 0], easy.distribution.probs_MK[:, 0])


def fidelities(fixture: Fixture, method: str) -> dict[str, Fidelity]:
    """Per language, SmolLM2's 49,152 tokens aligned to the demo's 4,096."""
    source, target = fixture.models["smollm2"], fixture.models["target"]
    vocabularies = toy.vocabularies(source.table, target.table)
    found: dict[str, Fidelity] = {}
    for i, window in enumerate(fixture.windows):
        aligned = align(
            Alignment(method=method), vocabularies, window.text,  # type: ignore[arg-type]
            source.scores[i], source.ends[i], target.scores[i], target.ends[i],
        )  # fmt: skip
        one = measure_fidelity(source.table, aligned.source, target.table, aligned.distribution)
        found[window.language] = found.get(window.language, Fidelity()) + one
    return found


def test_fidelity_on_real_distributions(fixture: Fixture) -> None:
    by_language = {method: fidelities(fixture, method) for method in ("pta", "mined", "pta-paper")}
    pta, mined, paper = (sum(found.values(), Fidelity()) for found in by_language.values())
    assert pta.information_kept >= 0.97
    assert pta.next_byte_divergence_bits <= mined.next_byte_divergence_bits / 3
    assert pta.next_byte_divergence_bits <= paper.next_byte_divergence_bits / 10
    assert {language: f.coverage for language, f in by_language["pta"].items() if f.coverage < 0.98} == {}


def greedy(table: ByteTable, text: bytes) -> list[int]:
    """A tokenization of a text by the longest token, EOS at its end."""
    ids_of = {table.token(i): int(i) for i in table.sorted_ids_O}
    ids, at = [], 0
    while at < len(text):
        width = next(n for n in range(min(len(text) - at, 32), 0, -1) if text[at : at + n] in ids_of)
        ids.append(ids_of[text[at : at + width]])
        at += width
    return [*ids, table.eos_id]


def test_a_sentencepiece_target_is_covered_too(fixture: Fixture) -> None:
    """At each of its boundaries, also between the bytes of a character, the source speaks."""
    source, table = fixture.models["smollm2"], sentencepiece_table()
    for i, window in enumerate(fixture.windows):
        if window.language not in ("python", "english", "german", "japanese"):
            continue
        ends_T = toy.ends([table.token(t) for t in greedy(table, window.text)])
        if source.ends[i][-1] == len(window.text):
            ends_T = ends_T[:-1]  # a window that does not end its document
        last_T, scores = pair_boundaries(source.ends[i], ends_T), source.scores[i]
        spoken = condition(
            source.table, window.text, source.ends[i], ends_T, last_T,
            scores.next_ids_M, scores.next_log_probs_M, scores.top_ids_MK, scores.top_log_probs_MK,
        )  # fmt: skip
        pinned = pin(source.table, spoken, window.text, ends_T, last_T)
        assert pinned.spoken_M.mean() >= 0.98


def test_blocks_of_boundaries_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    fixture = load_fixture()
    window, source, target = fixture.windows[0], fixture.models["smollm2"], fixture.models["target"]
    vocabularies = prepare_vocabularies(source.table, target.table)
    arguments = window.text, source.scores[0], source.ends[0], target.scores[0], target.ends[0]
    whole = align(Alignment(), vocabularies, *arguments).distribution
    monkeypatch.setattr("pta_ray.alignment.align._BLOCK", 64)
    parts = align(Alignment(), vocabularies, *arguments).distribution
    np.testing.assert_array_equal(parts.ids_MK[:, 0], whole.ids_MK[:, 0])
    np.testing.assert_allclose(parts.probs_MK, whole.probs_MK, atol=1e-4)
    np.testing.assert_array_equal(parts.confidence_M, whole.confidence_M)
