"""What holds of the scores of any engine."""

import numpy as np

from pta_ray.distributions import Scores


def check_consistent(score: Scores) -> None:
    """Candidates are sorted, with probabilities that sum to 1 at most; the actual token agrees with them."""
    assert np.all(np.diff(score.top_log_probs_MK, axis=1) <= 0)
    assert np.all(np.exp(score.top_log_probs_MK).sum(1) <= 1 + 1e-5)
    listed_MK = score.top_ids_MK == score.next_ids_M[:, None]
    np.testing.assert_allclose(
        score.top_log_probs_MK[listed_MK], score.next_log_probs_M[listed_MK.any(1)], atol=1e-5
    )  # fmt: skip
    assert np.all(score.next_log_probs_M[~listed_MK.any(1)] <= score.top_log_probs_MK[~listed_MK.any(1), -1] + 1e-5)
