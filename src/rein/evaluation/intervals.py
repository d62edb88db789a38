"""How sure a measured figure is: intervals for shares and for means."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

CONFIDENCE = 0.95
NORMAL_QUANTILE = NormalDist().inv_cdf(0.5 + CONFIDENCE / 2)
"""Deviations to either side of the mean of a normal figure within which `CONFIDENCE` of it lies."""

_AT_ONCE = 2**24
"""Numbers that a bootstrap has in memory at a time, about."""


@dataclass(frozen=True)
class Share:
    """`right` of `total`, with the ends of its 95% interval; of nothing the rate is 0 and the interval everything."""

    right: int
    total: int
    rate: float
    low: float
    high: float


def share(right: int, total: int) -> Share:
    """The share with its Wilson interval."""
    low, high = wilson(right, total)
    return Share(right, total, right / total if total else 0.0, low, high)


def wilson(right: int, total: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """The score interval of a share (Wilson 1927): it holds near 0 and 1, where the usual one is too short."""
    if not 0 <= right <= total:
        raise ValueError(f"{right} of {total} is no share")
    if total == 0:
        return 0.0, 1.0
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    rate, scale = right / total, 1.0 + z * z / total
    centre = (rate + z * z / (2 * total)) / scale
    half = z / scale * sqrt(rate * (1.0 - rate) / total + z * z / (4.0 * total * total))
    # At the ends the formula gives 0 and 1 but for rounding.
    return 0.0 if right == 0 else centre - half, 1.0 if right == total else centre + half


@dataclass(frozen=True)
class Spread:
    """The mean of `count` values with its 95% interval, and quantiles of the values by their percent."""

    count: int
    mean: float
    low: float
    high: float
    quantiles: dict[int, float]


def spread(values: Sequence[float] | NDArray[np.float32], percents: Sequence[int] = (5, 25, 50, 75, 95)) -> Spread:
    """Mean, its bootstrap interval, and quantiles. There must be a value."""
    numbers = np.asarray(values, dtype=np.float64)
    if numbers.ndim != 1 or len(numbers) == 0:
        raise ValueError("a spread needs a list of one value at least")
    low, high = bootstrap(numbers, np.mean)
    quantiles = {percent: float(np.percentile(numbers, percent)) for percent in percents}
    return Spread(len(numbers), float(numbers.mean()), low, high, quantiles)


def bootstrap(
    values: NDArray[np.float64], statistic: Callable[..., NDArray[np.float64]], resamples: int = 2_000, seed: int = 0
) -> tuple[float, float]:
    """The percentile interval (Efron 1979) of a statistic that takes `axis`, such as `numpy.mean`."""
    random = np.random.default_rng(seed)
    rows = min(resamples, max(1, _AT_ONCE // max(len(values), 1)))
    found = np.concatenate(
        [
            statistic(values[random.integers(0, len(values), (min(rows, resamples - start), len(values)))], axis=1)
            for start in range(0, resamples, rows)
        ]
    )
    edge = 50 * (1 - CONFIDENCE)
    return float(np.percentile(found, edge)), float(np.percentile(found, 100 - edge))
