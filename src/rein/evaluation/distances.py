"""How far two sets of pictures lie apart, by the features of a network: Fréchet distance, kernel distance; and the
Inception score of one set.

Every function takes vectors (N, D) and gives an `Estimate`. How wide its interval is says how much of a figure is the
luck of these pictures: sets of the same size are drawn again from those at hand (Efron 1979). What more pictures would
change in the mean, as with the Fréchet distance, an interval does not show.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rein.errors import InputError
from rein.evaluation.intervals import CONFIDENCE, NORMAL_QUANTILE

Vectors = NDArray[np.floating]
Array = NDArray[np.float64]

RESAMPLES = 500
FRECHET_RESAMPLES = 200
FEWEST_FRECHET_RESAMPLES = 20
_FRECHET_WORK = 6e9
"""Multiplications that the resamples of a Fréchet distance may cost, about, before there are fewer of them."""

_ROWS = 1_024


@dataclass(frozen=True)
class Estimate:
    """A figure with its 95% interval."""

    value: float
    low: float
    high: float


def frechet_distance(first: Vectors, second: Vectors) -> float:
    """The Fréchet distance of the normal distributions with the sets' means and covariances (Heusel et al. 2017).

    |m1 - m2|^2 + tr(S1) + tr(S2) - 2 tr((S1 S2)^(1/2)), with covariances of N - 1, as in the authors' code. With any L
    such that S1 = L L^T, the product S1 S2 has the eigenvalues of L^T S2 L, which is symmetric. With fewer pictures
    than features S1 = A^T A and S2 = B^T B for the centred pictures A and B, and those of A B^T B A^T are the same.

    Raises:
        InputError: a set of fewer than two.
    """
    one, other = _centred(first), _centred(second)
    apart = first.mean(axis=0, dtype=np.float64) - second.mean(axis=0, dtype=np.float64)
    spread = float(np.square(one).sum() + np.square(other).sum())
    if max(len(one), len(other)) <= one.shape[1]:
        product = one @ other.T
        common = _root_sum(product @ product.T if len(one) <= len(other) else product.T @ product)
    else:
        half = _half(one.T @ one)
        common = _root_sum(half.T @ (other.T @ other) @ half)
    return max(0.0, float(apart @ apart) + spread - 2 * common)


def _centred(vectors: Vectors) -> Array:
    """A with A^T A the covariance."""
    if len(vectors) < 2:
        raise InputError(f"a set has {len(vectors)} pictures: a distance between sets needs 2 at least in each")
    numbers = np.asarray(vectors, dtype=np.float64)
    centred: Array = (numbers - numbers.mean(axis=0)) / np.sqrt(len(numbers) - 1)
    return centred


def _half(covariance: Array) -> Array:
    """L with L L^T the covariance: Cholesky's, or the symmetric root where features depend on each other."""
    try:
        found = np.asarray(np.linalg.cholesky(covariance), dtype=np.float64)
    except np.linalg.LinAlgError:
        values, directions = np.linalg.eigh(covariance)
        found = directions * np.sqrt(values.clip(min=0))
    return found


def _root_sum(symmetric: Array) -> float:
    """The sum of the roots of the eigenvalues; those that are 0 but for rounding are 0."""
    values = np.linalg.eigvalsh(symmetric)
    least = max(float(values[-1]), 0.0) * len(values) * float(np.finfo(np.float64).eps)
    return float(np.sqrt(values[values > least]).sum())


def frechet_estimate(first: Vectors, second: Vectors, seed: int = 0) -> Generator[int, None, Estimate]:
    """The Fréchet distance and an interval of as many deviations as a normal figure has, round the value itself.

    Of wide features it takes minutes: yields how many of `frechet_count` resamples are done, returns the estimate.

    Sets that are drawn again hold pictures twice, which moves their distance up; so it is their spread that counts
    here, not their place. For wide features `FEWEST_FRECHET_RESAMPLES` are drawn, which leaves the interval's width
    uncertain by a sixth.
    """
    value = frechet_distance(first, second)
    found = []
    for one, other in frechet_resamples(first, second, seed):
        found.append(frechet_distance(first[one], second[other]))
        yield len(found)
    return _round_value(value, found, 0.0)


def _round_value(value: float, resampled: Array | Sequence[float], least: float) -> Estimate:
    """A value and an interval as wide as that of a normal figure with the resampled ones' spread, not below `least`."""
    half = NORMAL_QUANTILE * float(np.std(resampled, ddof=1))
    return Estimate(value, max(least, value - half), value + half)


def frechet_count(first: Vectors, second: Vectors) -> int:
    """How often sets of such sizes are drawn again."""
    size = min(max(len(first), len(second)), first.shape[1])
    return int(min(max(_FRECHET_WORK / max(size, 1) ** 3, FEWEST_FRECHET_RESAMPLES), FRECHET_RESAMPLES))


def frechet_resamples(first: Vectors, second: Vectors, seed: int) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Places of both sets drawn again, as often as the work allows; the same for the same sizes and seed."""
    random = np.random.default_rng(seed)
    return [
        (random.integers(0, len(first), len(first)), random.integers(0, len(second), len(second)))
        for _ in range(frechet_count(first, second))
    ]


def kernel_distance(first: Vectors, second: Vectors) -> float:
    """The kernel inception distance (Bińkowski et al. 2018): the unbiased squared maximum mean discrepancy with the
    kernel (x . y / D + 1)^3, over all pairs. It can be below 0, where sets are no further apart than chance has it.
    """
    return float(kernel_distances((first, second), (np.ones((1, len(first))), np.ones((1, len(second)))))[0])


def kernel_estimate(first: Vectors, second: Vectors, seed: int = 0) -> Estimate:
    """The kernel distance and its percentile interval."""
    random = np.random.default_rng(seed)
    counts = different_counts(len(first), random), different_counts(len(second), random)
    low, high = interval_of(kernel_distances((first, second), counts))
    return Estimate(kernel_distance(first, second), low, high)


def different_counts(size: int, random: np.random.Generator) -> Array:
    """Sets drawn again; of very small ones those are left out, if there are others, that are one picture many times."""
    counts = resampled_counts(size, RESAMPLES, random)
    while size > 1 and (alone := counts.max(axis=1) == size).any():
        counts[alone] = resampled_counts(size, int(alone.sum()), random)
    return counts


def kernel_distances(sets: tuple[Vectors, Vectors], counts: tuple[Array, Array]) -> Array:
    """The kernel distance for each row of `counts`, which say how often a picture is in the set: (R, N) and (R, M).

    A picture that was drawn twice is not paired with its own copy: that would count as likeness within the set.
    """
    one, other = (np.asarray(vectors, dtype=np.float64) for vectors in sets)
    own = [_mean_within(vectors, times) for vectors, times in ((one, counts[0]), (other, counts[1]))]
    between = _summed(one, other, *counts) / (counts[0].sum(axis=1) * counts[1].sum(axis=1))
    found: Array = own[0] + own[1] - 2 * between
    return found


def _kernel(one: Array, other: Array) -> Array:
    found: Array = (one @ other.T / one.shape[1] + 1) ** 3
    return found


def _summed(one: Array, other: Array, first: Array, second: Array) -> Array:
    """The kernel of all pairs, each times the counts of both, summed, for each row of counts."""
    total = np.zeros(len(first))
    for start in range(0, len(one), _ROWS):
        rows = slice(start, start + _ROWS)
        total += ((first[:, rows] @ _kernel(one[rows], other)) * second).sum(axis=1)
    return total


def _mean_within(vectors: Array, counts: Array) -> Array:
    """The mean of the kernel over pairs of two different pictures of a set."""
    if len(vectors) < 2:
        raise InputError(f"a set has {len(vectors)} pictures: a distance between sets needs 2 at least in each")
    same = (np.square(vectors).sum(axis=1) / vectors.shape[1] + 1) ** 3
    pairs = counts.sum(axis=1) ** 2 - np.square(counts).sum(axis=1)
    found: Array = (_summed(vectors, vectors, counts, counts) - np.square(counts) @ same) / np.maximum(pairs, 1)
    return found


def inception_score(chances: Vectors, seed: int = 0) -> Estimate:
    """The Inception score (Salimans et al. 2016): exp of the mean divergence of a picture's chances of classes, (N, C),
    from those of all pictures. It is 1 at least and C at most, and grows with N; here of the whole set at once.

    Sets that are drawn again hold fewer different pictures and have lower scores; as with the Fréchet distance their
    spread counts, not their place.
    """
    if len(chances) < 1:
        raise InputError("the Inception score needs a picture")
    numbers = np.asarray(chances, dtype=np.float64)
    gains = _plogp(numbers).sum(axis=1)
    counts = np.ones((1, len(numbers)))
    drawn = resampled_counts(len(numbers), RESAMPLES, np.random.default_rng(seed))
    return _round_value(float(_scores(numbers, gains, counts)[0]), _scores(numbers, gains, drawn), 1.0)


def _scores(chances: Array, gains: Array, counts: Array) -> Array:
    shares = counts / counts.sum(axis=1, keepdims=True)
    found: Array = np.exp(shares @ gains - _plogp(shares @ chances).sum(axis=1))
    return found


def _plogp(chances: Array) -> Array:
    """p log p, 0 at 0."""
    found: Array = chances * np.log(np.where(chances > 0, chances, 1.0))
    return found


def resampled_counts(size: int, resamples: int, random: np.random.Generator) -> Array:
    """How often each of `size` pictures is drawn when as many are drawn with putting back: (resamples, size)."""
    return random.multinomial(size, np.full(size, 1 / size), resamples).astype(np.float64)


def interval_of(values: Array | Sequence[float]) -> tuple[float, float]:
    """The ends between which `CONFIDENCE` of the resampled values lie."""
    edge = 50 * (1 - CONFIDENCE)
    return float(np.percentile(values, edge)), float(np.percentile(values, 100 - edge))
