"""What training does to the representations of tokens: last hidden states on held-out text, before and after.

PTA-LLM (arXiv 2509.17276) draws token representations in the plane and asks how compact their groups are. Here a
position of the text belongs to the group of the token that follows it, which its last hidden state has to predict:
with h_i the hidden states of the sampled positions, mu their mean and mu_g that of a group g,

    compactness = mean_i |h_i - mu_g(i)|  /  mean_i |h_i - mu|

so that 0 means that every group is one point and 1 that groups are no closer together than all positions are.

Shapes: W sampled windows, L tokens of one, M = L - 1 positions that predict a token, N sampled positions, H hidden
size, G groups, V vocabulary.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from pta_ray.training.validation import Forward

Tensor = torch.Tensor
Ints = npt.NDArray[np.int64]

_MOST_TOKENS = 2048  # are read, so that a large model spends seconds on it
_MOST_GROUPS = 8  # as many as a person tells apart
_FEWEST_OF_GROUP, _MOST_OF_GROUP = 4, 32


@dataclass(frozen=True)
class Sample:
    """Positions of some held-out text, a few of each of the most frequent next tokens."""

    windows: list[npt.NDArray[np.int32]]
    """Token ids [L] of each."""
    places_N: Ints
    """Numbers of the sampled positions among those of all windows, one window after the other."""
    groups_N: Ints
    """Places in `next_ids_G`."""
    next_ids_G: Ints
    """The most frequent first."""


def draw_sample(windows: Sequence[npt.NDArray[np.int32]], eos_id: int, seed: int) -> Sample | None:
    """Draws a sample that depends on nothing but the arguments; None where too few tokens come again.

    Args:
        windows: token ids [L] of each.
        eos_id: stands for no text, so it makes no group; -1 if there is none.
    """
    generator = np.random.default_rng(seed)
    chosen: list[npt.NDArray[np.int32]] = []
    left = _MOST_TOKENS
    for i in generator.permutation(len(windows)):
        if left < 2:
            break
        chosen.append(windows[i][:left])
        left -= len(chosen[-1])
    next_ids_M = np.concatenate([ids_L[1:] for ids_L in chosen] or [np.empty(0, np.int32)])
    ids, counts = np.unique(next_ids_M[next_ids_M != eos_id], return_counts=True)
    by_frequency = np.argsort(-counts, kind="stable")[:_MOST_GROUPS]
    next_ids_G = ids[by_frequency][counts[by_frequency] >= _FEWEST_OF_GROUP].astype(np.int64)
    if len(next_ids_G) < 2:
        return None
    of_groups = [np.flatnonzero(next_ids_M == token) for token in next_ids_G]
    drawn = [np.sort(generator.permutation(places)[:_MOST_OF_GROUP]) for places in of_groups]
    groups_N = np.repeat(np.arange(len(drawn)), [len(places) for places in drawn])
    return Sample(chosen, np.concatenate(drawn), groups_N, next_ids_G)


@torch.no_grad()  # not inference mode, for ZeRO-3 (see `validate`)
def hidden_states(student: Any, forward: Forward, sample: Sample, device: torch.device) -> Tensor:
    """The last hidden states [N, H] of the sampled positions, float32 on the CPU. All workers call it together.

    Args:
        student: the `Student`; it is in evaluation mode meanwhile, and in training mode afterwards.
        forward: runs the student, as validation does.
    """
    kept: list[Tensor] = []
    handle = student.loss.register_forward_pre_hook(lambda _, inputs: kept.append(inputs[0].float().cpu()))
    student.eval()
    try:
        for ids_L in sample.windows:
            ids_1L = torch.from_numpy(ids_L).long()[None].to(device)
            forward(ids_1L, torch.ones(len(ids_L) - 1, device=device))
    finally:
        handle.remove()
        student.train()
    return torch.cat(kept)[torch.from_numpy(sample.places_N)]


def compare(before_NH: Tensor, after_NH: Tensor, sample: Sample, tokens: Sequence[str]) -> dict[str, Any] | None:
    """The representations before and after, for metrics.json; None if a state is not finite.

    Args:
        tokens: the groups' names, in the order of `sample.next_ids_G`.
    """
    states = {"before": before_NH, "after": after_NH}
    if not all(bool(states_NH.isfinite().all()) for states_NH in states.values()):
        return None
    groups_N = torch.from_numpy(sample.groups_N)
    figures = {when: _figures(states_NH, groups_N) for when, states_NH in states.items()}
    return {"tokens": list(tokens), "groups": sample.groups_N.tolist(), **figures}


def _figures(states_NH: Tensor, groups_N: Tensor) -> dict[str, Any]:
    """Compactness; the points in the plane of the states' own principal components, in units of `_spread`; and the
    share of the variance that the plane holds. In common axes the states that vary elsewhere would look compact."""
    scaled_NH = (states_NH - states_NH.mean(0)) / _spread(states_NH)
    _, lengths, axes_RH = torch.linalg.svd(scaled_NH, full_matrices=False)
    variances = lengths**2
    points_N2 = scaled_NH @ axes_RH[:2].T
    return {
        "compactness": compactness(states_NH, groups_N),
        "points": [[round(x, 4) for x in point] for point in points_N2.tolist()],
        "variance_share": float(variances[:2].sum() / variances.sum().clamp(min=1e-30)),
    }


def compactness(states_NH: Tensor, groups_N: Tensor) -> float:
    """See above; neither moving, turning nor scaling all states changes it.

    Args:
        groups_N: 0 to G - 1, none of them empty.
    """
    sums_GH = torch.zeros(int(groups_N.max()) + 1, states_NH.shape[1]).index_add_(0, groups_N, states_NH)
    means_GH = sums_GH / groups_N.bincount()[:, None]
    within = (states_NH - means_GH[groups_N]).norm(dim=1).mean()
    return float(within / _spread(states_NH))


def _spread(states_NH: Tensor) -> Tensor:
    spread: Tensor = (states_NH - states_NH.mean(0)).norm(dim=1).mean().clamp(min=1e-30)
    return spread
