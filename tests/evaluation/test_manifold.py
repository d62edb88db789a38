"""Precision, recall, density, coverage: equal to what all distances say, and right where the answer is known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from rein.errors import InputError
from rein.evaluation.manifold import manifold


def test_they_equal_a_count_over_all_distances() -> None:
    random = np.random.default_rng(0)
    drawn, real = random.normal(size=(70, 6)) * 1.2 + 0.8, random.normal(size=(90, 6)) * 1.5
    found = manifold(drawn, real, 5)
    between = cdist(drawn, real)
    real_radii = np.sort(cdist(real, real), axis=1)[:, 5]
    drawn_radii = np.sort(cdist(drawn, drawn), axis=1)[:, 5]
    inside = between < real_radii
    np.testing.assert_array_equal(found.precision, inside.any(axis=1))
    np.testing.assert_allclose(found.density, inside.sum(axis=1) / 5)
    np.testing.assert_array_equal(found.recall, (between < drawn_radii[:, None]).any(axis=0))
    np.testing.assert_array_equal(found.coverage, between.min(axis=0) < real_radii)
    assert 0 < found.precision.mean() < 1 and 0 < found.recall.mean() < 1 and 0 < found.coverage.mean() < 1


def test_copies_are_precise_and_a_far_set_is_nothing() -> None:
    real = np.random.default_rng(1).normal(size=(40, 4))
    same = manifold(real, real, 3)
    assert same.precision.mean() == same.recall.mean() == same.coverage.mean() == 1
    far = manifold(real + 100, real, 3)
    assert far.precision.sum() == far.recall.sum() == far.density.sum() == far.coverage.sum() == 0


def test_a_set_of_one_kind_is_precise_and_covers_little() -> None:
    random = np.random.default_rng(2)
    real = np.concatenate([random.normal(size=(50, 4)), random.normal(size=(50, 4)) + 50])
    found = manifold(random.normal(size=(100, 4)), real, 5)
    assert found.precision.mean() > 0.9
    assert found.coverage.mean() < 0.6 and found.coverage[50:].sum() == 0


def test_sets_longer_than_a_block_are_joined_rightly() -> None:
    random = np.random.default_rng(3)
    drawn, real = random.normal(size=(1100, 3)), random.normal(size=(1030, 3))
    found = manifold(drawn, real, 2)
    radii = np.sort(cdist(real, real), axis=1)[:, 2]
    np.testing.assert_array_equal(found.precision, (cdist(drawn, real) < radii).any(axis=1))


@pytest.mark.parametrize(("neighbours", "count"), [(5, 5), (0, 9)])
def test_too_many_neighbours_are_refused(neighbours: int, count: int) -> None:
    vectors = np.zeros((count, 2))
    with pytest.raises(InputError, match=f"neighbours is {neighbours}: it must be from 1 to {count - 1}"):
        manifold(vectors, vectors, neighbours)
