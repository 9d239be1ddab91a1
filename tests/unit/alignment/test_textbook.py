"""The textbook oracle itself, on examples small enough for pencil and paper, and on real scores."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rapidfuzz.distance import Levenshtein

from tests.fixtures.load import Fixture, load_fixture
from tests.oracles.textbook import cumulative_cost, pair_tokens, textbook_align, top_k, transport_top_k
from tests.unit.alignment.toy import table

TEXTS = st.lists(st.binary(max_size=4), min_size=1, max_size=5)


@pytest.fixture(scope="module")
def fixture() -> Fixture:
    return load_fixture()


def test_the_pairing_of_a_hand_example() -> None:
    source, target = [b"", b"foo", b"bar"], [b"", b"foo", b"ba", b"r"]
    assert cumulative_cost(source, target) == [[0, 3, 5, 6], [3, 0, 3, 6], [6, 3, 1, 3]]
    assert pair_tokens(source, target) == [([0], [0]), ([1], [1]), ([2], [2, 3])]


def test_equal_sequences_pair_one_to_one_even_where_tokens_repeat() -> None:
    texts = [b"", b"na", b"na", b"na", b" ", b"na"]
    assert pair_tokens(texts, texts) == [([i], [i]) for i in range(len(texts))]


@given(source=TEXTS, target=TEXTS)
def test_no_monotone_path_is_cheaper(source: list[bytes], target: list[bytes]) -> None:
    def cheapest(k: int, j: int) -> int:
        """Over all paths from here to the end, one after the other."""
        cost = Levenshtein.distance(source[k], target[j])
        ways = [(k + 1, j), (k, j + 1), (k + 1, j + 1)]
        return cost + min((cheapest(*way) for way in ways if way[0] < len(source) and way[1] < len(target)), default=0)

    assert cumulative_cost(source, target)[-1][-1] == cheapest(0, 0)


@given(source=TEXTS, target=TEXTS)
def test_groups_hold_every_token_once_and_in_order(source: list[bytes], target: list[bytes]) -> None:
    groups = pair_tokens(source, target)
    assert list(itertools.chain(*(sources for sources, _ in groups))) == list(range(len(source)))
    assert list(itertools.chain(*(targets for _, targets in groups))) == list(range(len(target)))


def test_mass_goes_to_the_nearest_text() -> None:
    source, target = table([b"car", b"dog"]), table([b"cat", b"dig"])
    aligned = transport_top_k(source, {0: 0.7, 1: 0.3}, target, {0: 0.7, 1: 0.3}, epsilon=0.05)
    assert aligned == {0: 0.7, 1: 0.3}


def test_both_marginals_bind_and_a_row_goes_whole_to_its_largest_entry() -> None:
    """'cat' may take 0.1, so 'car' must send most of its 0.6 to 'dot'; then all of it goes there."""
    source, target = table([b"car", b"dog"]), table([b"cat", b"dot"])
    aligned = transport_top_k(source, {0: 0.6, 1: 0.4}, target, {0: 0.1, 1: 0.9}, epsilon=0.05)
    assert aligned == {1: pytest.approx(1.0)}


def test_where_tokens_do_not_pair_one_to_one_the_next_token_gets_everything() -> None:
    source = table([b"<", b"foo", b"bar", b"box"])
    target = table([b"<", b"foo", b"ba", b"r", b"bo"])
    log_probs = np.log(np.array([[0.6, 0.2]] * 3, np.float32))
    aligned, groups = textbook_align(
        source, np.array([0, 1, 2], np.int32), np.array([[1, 3], [2, 3]], np.int32), log_probs[:2],
        target, np.array([0, 1, 2, 3], np.int32), np.array([[1, 4], [2, 4], [3, 1]], np.int32), log_probs,
        epsilon=0.01,
    )  # fmt: skip
    assert groups[-1] == ([2], [2, 3])
    assert aligned == [
        {1: pytest.approx(0.75), 4: pytest.approx(0.25)},
        {2: pytest.approx(0.75), 4: pytest.approx(0.25)},
        {3: 1.0},
    ]


@pytest.mark.parametrize("language", ["python", "japanese", "odd"])
def test_a_model_aligned_with_itself_keeps_its_own_top_k(fixture: Fixture, language: str) -> None:
    [window, *_] = [i for i, w in enumerate(fixture.windows) if w.language == language]
    model = fixture.models["translations"]
    scores = model.scores[window]
    own = (model.table, scores.ids_L[:121], scores.top_ids_MK[:120], scores.top_log_probs_MK[:120])
    aligned, groups = textbook_align(*own, *own, epsilon=0.005)
    assert groups == [([i], [i]) for i in range(121)]
    for found, ids_K, log_probs_K in zip(aligned, *own[2:], strict=True):
        assert found == pytest.approx(top_k(model.table, ids_K, log_probs_K), abs=1e-9)


def test_real_scores_align_to_distributions(fixture: Fixture) -> None:
    source, target = fixture.models["smollm2"], fixture.models["target"]
    [window, *_] = [i for i, w in enumerate(fixture.windows) if w.language == "english"]
    theirs, ours = source.scores[window], target.scores[window]
    aligned, groups = textbook_align(
        source.table, theirs.ids_L, theirs.top_ids_MK, theirs.top_log_probs_MK,
        target.table, ours.ids_L, ours.top_ids_MK, ours.top_log_probs_MK, epsilon=0.05,
    )  # fmt: skip
    assert [sum(found.values()) for found in aligned] == pytest.approx([1.0] * len(ours.next_ids_M))
    paired = {targets[0] for sources, targets in groups if len(sources) == len(targets) == 1}
    assert 0.3 < len(paired) / len(aligned) < 0.9
    for t, (found, next_id) in enumerate(zip(aligned, ours.next_ids_M, strict=True)):
        assert found == {next_id: 1.0} if t not in paired else set(found) <= set(ours.top_ids_MK[t].tolist())
