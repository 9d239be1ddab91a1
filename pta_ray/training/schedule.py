"""The learning rate as a function of how far along the run is.

A stream has no known number of steps, but its text has a known size: progress is the share of it that was learned from.
"""

import math

FINAL_SHARE = 0.1


def learning_rate(progress: float, peak: float, warmup: float) -> float:
    """Linear from 0 to `peak` over the first `warmup` of the run, then a cosine down to a tenth of it."""
    if progress < warmup:
        return peak * progress / warmup
    along = min((progress - warmup) / (1 - warmup), 1.0)
    return peak * (FINAL_SHARE + (1 - FINAL_SHARE) * (1 + math.cos(math.pi * along)) / 2)
