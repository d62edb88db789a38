"""Distances of sets: equal to SciPy and to torchmetrics on the same features; intervals mean what they say."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import scipy.linalg
import torch
from numpy.typing import NDArray

from rein.errors import InputError
from rein.evaluation.distances import (
    FEWEST_FRECHET_RESAMPLES,
    FRECHET_RESAMPLES,
    Estimate,
    frechet_count,
    frechet_distance,
    frechet_estimate,
    frechet_resamples,
    inception_score,
    kernel_distance,
    kernel_distances,
    kernel_estimate,
)

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from torchmetrics.image.fid import FrechetInceptionDistance
    from torchmetrics.image.inception import InceptionScore
    from torchmetrics.image.kid import KernelInceptionDistance

Vectors = NDArray[np.float32]


class Features(torch.nn.Module):
    """A feature network for the peers: pictures whose pixels are the features."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.num_features = width

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        return pictures.flatten(1)


def two_sets(width: int, first: int, second: int, seed: int = 0) -> tuple[Vectors, Vectors]:
    """Correlated features of two populations that differ in mean and spread."""
    random = np.random.default_rng(seed)
    mixing = random.normal(size=(width, width)) / width**0.5
    one = random.normal(size=(first, width)) @ mixing
    other = (1.3 * random.normal(size=(second, width)) + 0.4) @ mixing
    return one.astype(np.float32), other.astype(np.float32)


@pytest.mark.parametrize(("width", "first", "second"), [(32, 300, 200), (64, 65, 400), (128, 90, 60), (48, 48, 20)])
def test_the_frechet_distance_equals_scipys(width: int, first: int, second: int) -> None:
    one, other = two_sets(width, first, second)
    covariances = [np.cov(vectors.astype(np.float64), rowvar=False) for vectors in (one, other)]
    root = scipy.linalg.sqrtm(covariances[0] @ covariances[1]).real
    gap = one.astype(np.float64).mean(0) - other.astype(np.float64).mean(0)
    wanted = gap @ gap + np.trace(covariances[0]) + np.trace(covariances[1]) - 2 * np.trace(root)
    assert frechet_distance(one, other) == pytest.approx(wanted, rel=1e-3)


def test_features_that_depend_on_each_other_or_are_never_seen_do_no_harm() -> None:
    one, other = two_sets(20, 100, 80)
    twice = [np.concatenate([vectors, vectors, np.zeros_like(vectors)], axis=1) for vectors in (one, other)]
    assert frechet_distance(*twice) == pytest.approx(2 * frechet_distance(one, other), rel=1e-6)
    assert frechet_distance(twice[0], twice[0]) == pytest.approx(0, abs=1e-5)


def test_the_frechet_distance_equals_torchmetrics() -> None:
    one, other = two_sets(48, 400, 300)
    metric = FrechetInceptionDistance(feature=Features(48), normalize=True, input_img_size=(3, 4, 4))
    for vectors, real in ((one, False), (other, True)):
        metric.update(torch.from_numpy(vectors).reshape(-1, 3, 4, 4), real=real)
    assert frechet_distance(one, other) == pytest.approx(float(metric.compute()), rel=1e-3)


def test_a_set_has_no_distance_from_itself_and_an_order_does_not_matter() -> None:
    one, other = two_sets(40, 200, 30)
    assert frechet_distance(one, one) == pytest.approx(0, abs=1e-6)
    assert frechet_distance(other, other[::-1]) == pytest.approx(0, abs=1e-6)
    assert frechet_distance(one, other) == pytest.approx(frechet_distance(other, one), rel=1e-7)
    assert frechet_distance(one, one + 2) == pytest.approx(160, rel=1e-5)


def test_the_kernel_distance_equals_torchmetrics_and_the_formula() -> None:
    one, other = two_sets(48, 150, 150)
    with warnings.catch_warnings():  # that it keeps all features in memory
        warnings.simplefilter("ignore")
        metric = KernelInceptionDistance(feature=Features(48), subsets=1, subset_size=150, normalize=True)
    for vectors, real in ((one, False), (other, True)):
        metric.update(torch.from_numpy(vectors).reshape(-1, 3, 4, 4), real=real)
    mean, _ = metric.compute()
    assert kernel_distance(one, other) == pytest.approx(float(mean), rel=1e-3)
    x, y = one[:20].astype(np.float64), other[:30].astype(np.float64)
    within = [
        sum((v[i] @ v[j] / 48 + 1) ** 3 for i in range(len(v)) for j in range(len(v)) if i != j)
        / (len(v) * (len(v) - 1))
        for v in (x, y)
    ]
    between = np.mean([(a @ b / 48 + 1) ** 3 for a in x for b in y])
    assert kernel_distance(x, y) == pytest.approx(sum(within) - 2 * between, rel=1e-9)


def test_a_resampled_kernel_distance_does_not_pair_a_picture_with_its_copy() -> None:
    one, other = two_sets(16, 40, 40)
    counts = np.array([[2.0] * 20 + [0.0] * 20])
    found = kernel_distances((one, other), (counts, np.ones((1, 40))))[0]
    # Every picture twice, its copies apart: the same as every picture once.
    assert found == pytest.approx(kernel_distance(one[:20], other), rel=1e-9)


def test_the_kernel_distance_of_one_population_is_about_nothing() -> None:
    values = []
    for seed in range(20):
        one, _ = two_sets(16, 200, 2, seed)
        values.append(kernel_distance(one[:100], one[100:]))
    assert abs(np.mean(values)) < 2 * np.std(values) / 20**0.5 + 1e-3
    assert min(values) < 0 < max(values)


def test_the_inception_score_equals_torchmetrics() -> None:
    logits = torch.randn(200, 10, generator=torch.Generator().manual_seed(0)) * 3
    with warnings.catch_warnings():  # that it keeps all features in memory, and the spread over a single split
        warnings.simplefilter("ignore")
        metric = InceptionScore(feature=torch.nn.Flatten(), splits=1)
        metric.features.append(logits)
        mean, _ = metric.compute()
    found = inception_score(logits.softmax(dim=1).numpy())
    assert found.value == pytest.approx(float(mean), rel=1e-3)
    assert found.low < found.value < found.high


def test_the_inception_score_of_sure_and_even_answers_is_their_number() -> None:
    assert inception_score(np.eye(8, dtype=np.float32)).value == pytest.approx(8)
    assert inception_score(np.full((30, 8), 0.125, dtype=np.float32)).value == pytest.approx(1)


def test_the_interval_of_an_inception_score_lies_round_it() -> None:
    random = np.random.default_rng(0)
    chances = random.dirichlet(np.full(30, 0.05), 40)
    found = inception_score(chances)
    assert 1 <= found.low < found.value < found.high
    assert found.value - found.low == pytest.approx(found.high - found.value)


def estimated_frechet(first: Vectors, second: Vectors) -> Estimate:
    """The estimate, with a check that its progress is told."""
    done, work = [], frechet_estimate(first, second)
    while True:
        try:
            done.append(next(work))
        except StopIteration as end:
            assert done == list(range(1, frechet_count(first, second) + 1))
            found: Estimate = end.value
            return found


@pytest.mark.parametrize("estimate", [estimated_frechet, kernel_estimate])
def test_an_interval_is_about_as_wide_as_the_figure_varies(estimate: object) -> None:
    """New sets of the same two populations give figures whose spread the interval of one of them tells."""
    assert callable(estimate)
    figures, halves = [], []
    for seed in range(40):
        random = np.random.default_rng(seed)
        one, other = random.normal(size=(150, 8)), 1.3 * random.normal(size=(150, 8)) + 0.4
        found = estimate(one, other)
        figures.append(found.value)
        halves.append((found.high - found.low) / 2)
        assert found.low <= found.value <= found.high
    assert np.mean(halves) / (1.96 * np.std(figures, ddof=1)) == pytest.approx(1, abs=0.35)


@pytest.mark.parametrize("count", [2, 3, 5])
def test_the_interval_of_a_few_pictures_holds_no_set_of_one_picture(count: int) -> None:
    """Drawn again, so few are often all the same one, which is at no distance within its set."""
    random = np.random.default_rng(count)
    vectors = 1 + 0.01 * random.normal(size=(2, count, 8))
    found = kernel_estimate(vectors[0], vectors[1])
    assert -0.1 < found.low <= found.high < 0.1


def test_wide_features_are_resampled_less_often() -> None:
    narrow, wide = np.zeros((300, 8)), np.zeros((3000, 2048))
    assert len(frechet_resamples(narrow, narrow, 0)) == FRECHET_RESAMPLES
    assert len(frechet_resamples(wide, wide, 0)) == FEWEST_FRECHET_RESAMPLES


@pytest.mark.parametrize("distance", [frechet_distance, kernel_distance])
def test_one_picture_is_no_set(distance: object) -> None:
    assert callable(distance)
    with pytest.raises(InputError, match="a set has 1 pictures"):
        distance(np.zeros((1, 4)), np.zeros((5, 4)))
