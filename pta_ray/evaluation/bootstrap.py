"""Confidence intervals of bits per byte, and of differences between models on the same text.

Bits per byte of a domain are a ratio estimator, sum over documents of bits / sum of bytes. Windows of one document
depend on each other, documents do not: so documents are drawn, with replacement, and the interval is between
percentiles of the ratios of these samples (Efron & Tibshirani, An Introduction to the Bootstrap, 1993, section 13.3).
Every sample is the same for all models, which makes differences paired.

Shapes: X domains, M models, D documents of a domain, R bootstrap samples.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import bootstrap

from pta_ray.evaluation.document_bits import DocumentBits

CONFIDENCE = 0.95
NUM_SAMPLES = 9999
_SEED = 0
_MOST_NUMBERS = 1 << 24  # of the samples that are in memory at the same time


@dataclass(frozen=True)
class Interval:
    """An estimate with the ends of its confidence interval."""

    estimate: float
    low: float | None
    """None where there is no telling: from one document."""
    high: float | None


@dataclass(frozen=True)
class Estimates:
    """Of one model, in bits per byte."""

    domains: dict[str, Interval]
    mean: Interval
    """Over the domains, each of the same weight."""


@dataclass(frozen=True)
class Comparison:
    """Several models on the same text."""

    models: list[Estimates]
    differences: list[Estimates]
    """Of the second model and those after it: its bits per byte less those of the first model."""


def compare(domains: Mapping[str, DocumentBits], num_samples: int = NUM_SAMPLES) -> Comparison:
    """Bits per byte of each model in each domain, at least one, with intervals. The same for the same documents."""
    rng = np.random.default_rng(_SEED)
    found_XM = np.stack([_ratio(found.bits_MD, found.bytes_D) for found in domains.values()])
    sampled_XMR = np.stack([_sampled_ratios(found, num_samples, rng) for found in domains.values()])
    names, num_models = list(domains), found_XM.shape[1]
    return Comparison(
        [_estimates(names, found_XM[:, m], sampled_XMR[:, m]) for m in range(num_models)],
        [
            _estimates(names, found_XM[:, m] - found_XM[:, 0], sampled_XMR[:, m] - sampled_XMR[:, 0])
            for m in range(1, num_models)
        ],
    )


def _ratio(bits: npt.NDArray[np.float64], num_bytes: npt.NDArray[np.int64], axis: int = -1) -> npt.NDArray[np.float64]:
    ratio: npt.NDArray[np.float64] = bits.sum(axis=axis) / num_bytes.sum(axis=axis)
    return ratio


def _sampled_ratios(found: DocumentBits, num_samples: int, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """Bits per byte [M, R] of samples of the documents; not a number where there is only one document."""
    if found.bits_MD.shape[1] == 1:
        return np.full((len(found.bits_MD), num_samples), np.nan)
    batch = max(_MOST_NUMBERS // found.bits_MD.size, 1)
    result = bootstrap(
        (found.bits_MD, found.bytes_D[None]),
        _ratio,
        paired=True,
        axis=-1,
        n_resamples=num_samples,
        batch=batch,
        method="percentile",
        rng=rng,
    )
    sampled_MR: npt.NDArray[np.float64] = result.bootstrap_distribution
    return sampled_MR


def _estimates(
    names: Sequence[str], found_X: npt.NDArray[np.float64], sampled_XR: npt.NDArray[np.float64]
) -> Estimates:
    intervals = [_interval(found, sampled_R) for found, sampled_R in zip(found_X, sampled_XR, strict=True)]
    mean = _interval(found_X.mean(), sampled_XR.mean(axis=0))
    return Estimates(dict(zip(names, intervals, strict=True)), mean)


def _interval(found: np.float64, sampled_R: npt.NDArray[np.float64]) -> Interval:
    if np.isnan(sampled_R).any():
        return Interval(float(found), None, None)
    low, high = np.quantile(sampled_R, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Interval(float(found), float(low), float(high))
