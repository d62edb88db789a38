"""Wilson intervals against published figures and against the equation that defines them."""

from math import sqrt
from statistics import NormalDist

import numpy as np
import pytest

from rein.evaluation.intervals import bootstrap, share, spread, wilson


@pytest.mark.parametrize(
    ("right", "total", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_published_intervals(right: int, total: int, low: float, high: float) -> None:
    """Newcombe 1998, Statistics in Medicine 17, table I, method 3 (score, without continuity correction)."""
    assert wilson(right, total) == pytest.approx((low, high), abs=5e-5)


def bound(right: int, total: int, sign: int) -> float:
    """The true rate whose own normal interval just reaches the observed rate, found by halving."""
    z, observed = NormalDist().inv_cdf(0.975), right / total
    inside, outside = observed, 1.0 if sign > 0 else 0.0
    for _ in range(200):
        rate = (inside + outside) / 2
        if abs(rate - observed) <= z * sqrt(rate * (1 - rate) / total):
            inside = rate
        else:
            outside = rate
    return inside


@pytest.mark.parametrize("total", [1, 7, 60, 400])
def test_an_end_is_the_rate_that_just_explains_what_was_seen(total: int) -> None:
    for right in {0, 1, total // 3, total - 1, total}:
        low, high = wilson(right, total)
        assert low == pytest.approx(bound(right, total, -1), abs=1e-9)
        assert high == pytest.approx(bound(right, total, 1), abs=1e-9)


def test_other_confidence_and_the_empty_share() -> None:
    narrow, wide = wilson(30, 50, 0.5), wilson(30, 50, 0.99)
    assert wide[0] < narrow[0] < 0.6 < narrow[1] < wide[1]
    assert (share(0, 0).rate, share(0, 0).low, share(0, 0).high) == (0.0, 0.0, 1.0)
    assert share(3, 4).rate == 0.75
    with pytest.raises(ValueError, match="5 of 4"):
        wilson(5, 4)


def test_bootstrap_agrees_with_the_normal_interval() -> None:
    values = np.random.default_rng(3).normal(30.0, 2.0, 800)
    low, high = bootstrap(values, np.mean)
    half = 1.96 * values.std() / sqrt(len(values))
    assert low == pytest.approx(values.mean() - half, abs=0.02)
    assert high == pytest.approx(values.mean() + half, abs=0.02)


def test_spread() -> None:
    found = spread([float(value) for value in range(101)])
    assert found.count == 101 and found.mean == 50.0
    assert found.quantiles == {5: 5.0, 25: 25.0, 50: 50.0, 75: 75.0, 95: 95.0}
    assert found.low < 50.0 < found.high
    with pytest.raises(ValueError, match="one value"):
        spread([])
