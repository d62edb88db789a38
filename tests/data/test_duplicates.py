"""Near-duplicates: the hash against ImageHash, and what counts as the same."""

from __future__ import annotations

import io

import imagehash
import numpy as np
import pytest
from PIL import Image

from rein.data.duplicates import Look, distance, find_duplicates, look_of, perceptual_hash
from tests.data.gathered import painted


@pytest.mark.parametrize("seed", range(8))
def test_the_hash_is_that_of_imagehash(seed: int) -> None:
    image = painted(90 + 13 * seed, 70, seed)
    assert f"{perceptual_hash(image):016x}" == str(imagehash.phash(image))


def test_scaling_and_compression_are_found_and_other_pictures_are_not() -> None:
    image = painted(200, 150, seed=1)
    buffer = io.BytesIO()
    image.resize((120, 90)).save(buffer, "JPEG", quality=50)
    again = Image.open(buffer)
    looks = [look_of(image), look_of(again), look_of(painted(200, 150, seed=2))]
    assert distance(looks[0].hash, looks[1].hash) <= 4 < distance(looks[0].hash, looks[2].hash)
    assert find_duplicates(looks, [0, 1, 2], 4) == {1: 0}
    assert find_duplicates(looks, [1, 0, 2], 4) == {0: 1}


def test_another_colour_is_another_picture() -> None:
    """A red and a blue thing of one drawing have one hash."""
    drawing = np.full((64, 64, 3), 255, np.uint8)
    red, blue = drawing.copy(), drawing.copy()
    red[16:48, 10:40] = (200, 40, 40)
    blue[16:48, 10:40] = (80, 66, 220)  # as bright
    looks = [look_of(Image.fromarray(pixels)) for pixels in (red, blue)]
    assert distance(looks[0].hash, looks[1].hash) <= 4
    assert find_duplicates(looks, [0, 1], 4) == {}


def test_the_search_finds_all_that_pairs_show() -> None:
    random = np.random.default_rng(0)
    hashes = [int(value) for value in random.integers(0, 2**63, 40)]
    hashes += [value ^ (1 << int(random.integers(64))) for value in hashes[:20]] + hashes[:5]
    grey = np.zeros(192, np.uint8)
    found = find_duplicates([Look(value, grey) for value in hashes], range(len(hashes)), 1)
    assert found == {40 + n: n for n in range(20)} | {60 + n: n for n in range(5)}
