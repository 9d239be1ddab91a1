"""How well a colour can be told from another one."""

import numpy as np


def contrast(first: str, second: str) -> float:
    """The contrast ratio of two colours, `rgb(...)`, as WCAG 2 defines it."""
    luminances = []
    for colour in (first, second):
        numbers = [int(n) / 255 for n in colour[colour.index("(") + 1 : colour.index(")")].split(",")[:3]]
        linear = [n / 12.92 if n <= 0.04045 else ((n + 0.055) / 1.055) ** 2.4 for n in numbers]
        luminances.append(float(np.dot(linear, [0.2126, 0.7152, 0.0722])))
    low, high = sorted(luminances)
    return (high + 0.05) / (low + 0.05)
