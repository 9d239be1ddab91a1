"""Hard assignment and top-k against plain numpy."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pta_ray.alignment.projection import hard_masses, keep_top
from tests.unit.alignment import toy

few_masses = st.sampled_from([0.0, 0.0, 0.125, 0.25, 0.5])  # ties, and nothing


@given(toy.seeds, st.integers(0, 4), st.integers(1, 6), st.integers(1, 5))
def test_each_row_goes_whole_to_its_column(seed: int, num_M: int, num_C: int, num_Y: int) -> None:
    random = np.random.default_rng(seed)
    largest_MC = random.integers(-1, num_Y, (num_M, num_C)).astype(np.int32)
    p_MC = random.random((num_M, num_C)).astype(np.float32)
    expected = np.zeros((num_M, num_Y))
    for y in range(num_Y):
        expected[:, y] = (p_MC * (largest_MC == y)).sum(1)
    np.testing.assert_allclose(hard_masses(largest_MC, p_MC, num_Y), expected, rtol=1e-5)


@given(st.lists(few_masses, min_size=1, max_size=12), st.integers(1, 14), toy.seeds)
def test_the_actual_token_and_the_most_probable_others_are_kept(masses: list[float], top_k: int, seed: int) -> None:
    masses_MY = np.array([masses], np.float32)
    ids_MY = np.random.default_rng(seed).permutation(100)[None, : len(masses)].astype(np.int32)
    ids_MK, probs_MK = keep_top(ids_MY, masses_MY, top_k)
    # Stable: of equal masses the earlier candidate is kept, and comes first.
    order = 1 + np.argsort(-masses_MY[0, 1:], kind="stable")[:top_k]
    order = order[masses_MY[0, order] > 0]
    kept = np.concatenate([[0], order])
    assert ids_MK.shape == probs_MK.shape == (1, 1 + top_k)
    np.testing.assert_array_equal(ids_MK[0, : len(kept)], ids_MY[0, kept])
    np.testing.assert_array_equal(probs_MK[0, : len(kept)], masses_MY[0, kept])
    assert np.all(ids_MK[0, len(kept) :] == -1) and np.all(probs_MK[0, len(kept) :] == 0)
