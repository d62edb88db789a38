"""Copies are found and told from pictures that are merely of the same kind."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from rein.errors import InputError
from rein.evaluation.copies import find_alike, find_copies, small_square
from rein.evaluation.features import finished
from rein.evaluation.nearest import CHUNK


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


def test_copies_are_found_by_the_direction_of_features() -> None:
    random = np.random.default_rng(0)
    training = random.normal(size=(60, 16)) + 1
    drawn = np.concatenate([random.normal(size=(20, 16)) + 1, 3 * training[7:8], np.zeros((1, 16))])
    report, neighbours = find_alike(drawn, training, "a network (1234)")
    assert (neighbours[0].place, neighbours[0].nearest) == (20, 7), "length does not count, only direction"
    assert neighbours[0].distance == pytest.approx(0, abs=1e-6)
    assert neighbours[-1].place == 21 and neighbours[-1].distance == 1, "a vector of zeros is like nothing"
    cosines = (drawn[:21] @ training.T) / np.outer(*(np.linalg.norm(part, axis=1) for part in (drawn[:21], training)))
    wanted = {place: (int(row.argmax()), 1 - row.max()) for place, row in enumerate(cosines)}
    found = {row.place: (row.nearest, row.distance) for row in neighbours if row.place < 21}
    assert {place: row[0] for place, row in found.items()} == {place: row[0] for place, row in wanted.items()}
    assert [found[place][1] for place in range(21)] == pytest.approx(
        [wanted[place][1] for place in range(21)], abs=1e-6
    )
    assert report.by == "a network (1234)" and report.compared == 60
    assert report.kinds[1].near_copies.total == 12 and report.kinds[1].near_copies.right == 6
    with pytest.raises(InputError, match="there are 9 training pictures: 10 at least"):
        find_alike(drawn, training[:9], "a network")


def test_many_training_pictures_are_searched_part_by_part() -> None:
    training = np.random.default_rng(1).normal(size=(CHUNK + 40, 3))
    _, neighbours = find_alike(training[[5, CHUNK + 20]], training, "a network")
    assert {row.place: row.nearest for row in neighbours} == {0: 5, 1: CHUNK + 20}


def test_few_training_pictures_tell_nothing() -> None:
    with pytest.raises(InputError, match="there are 9 training pictures: 10 at least"):
        finished(find_copies(blotches(2, 0), blotches(9, 1)))


def test_the_middle_square_is_what_is_compared() -> None:
    levels = np.zeros((20, 60, 3), dtype=np.uint8)
    levels[:, 20:40] = 200
    assert (small_square(Image.fromarray(levels), 5) == 200).all()
