"""Copies are found and told from pictures that are merely of the same kind."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from rein.errors import InputError
from rein.evaluation.copies import find_copies, small_square
from rein.evaluation.features import finished


def blotches(count: int, seed: int) -> list[Image.Image]:
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 256, (count, 5, 5, 3), dtype=np.uint8)
    return [Image.fromarray(picture).resize((96, 64), Image.Resampling.BILINEAR) for picture in coarse]


def test_a_copy_is_nearest_to_its_original() -> None:
    training, fresh = blotches(60, 0), blotches(20, 1)
    brighter = training[7].point(lambda level: min(255, level + 8))
    report, neighbours = finished(find_copies([*fresh, brighter, training[3]], training))
    assert [(row.place, row.nearest) for row in neighbours[:2]] == [(21, 3), (20, 7)]
    assert neighbours[0].distance == pytest.approx(0, abs=1e-3)
    assert neighbours[1].distance == pytest.approx(8 / 255, abs=0.01)
    assert report.compared == 60
    drawn, held_back = report.kinds
    assert drawn.near_copies.total == 22 and held_back.near_copies.total == 12
    assert held_back.near_copies.right == 6, "half of them, by the threshold's meaning"
    copies = sum(row.distance < report.threshold for row in neighbours)
    assert copies == drawn.near_copies.right and report.threshold > neighbours[1].distance
    assert neighbours == sorted(neighbours, key=lambda row: row.distance)


def test_few_training_pictures_tell_nothing() -> None:
    with pytest.raises(InputError, match="there are 9 training pictures: 10 at least"):
        finished(find_copies(blotches(2, 0), blotches(9, 1)))


def test_the_middle_square_is_what_is_compared() -> None:
    levels = np.zeros((20, 60, 3), dtype=np.uint8)
    levels[:, 20:40] = 200
    assert (small_square(Image.fromarray(levels), 5) == 200).all()
