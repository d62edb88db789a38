"""Buckets, and which part of a picture is kept."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageOps

from rein.data.fitting import bucket_sizes, fitted, fitted_mask, kept_box, nearest_bucket, usual_step
from rein.errors import InputError
from tests.data.gathered import painted


def test_buckets_are_those_that_trainers_know() -> None:
    assert bucket_sizes(512, 64) == ((384, 640), (448, 576), (512, 512), (576, 448), (640, 384))
    of_sdxl = {(1024, 1024), (1152, 896), (1216, 832), (1344, 768), (896, 1152), (832, 1216), (768, 1344)}
    assert of_sdxl <= set(bucket_sizes(1024, 64))
    assert bucket_sizes(512, 64, longest=1.0) == ((512, 512),)


@pytest.mark.parametrize("size", [16, 96, 128, 512, 768])
def test_buckets_have_about_the_same_area(size: int) -> None:
    step = usual_step(size)
    sizes = bucket_sizes(size, step, 2.0)
    assert (size, size) in sizes
    assert {(height, width) for width, height in sizes} == set(sizes)
    for width, height in sizes:
        assert width * height <= size * size
        assert max(width, height) <= 2 * min(width, height)
        assert (width % step, height % step) == (0, 0) or width == height


@pytest.mark.parametrize(("size", "step", "longest"), [(0, 8, 2), (60, 8, 2), (64, 12, 2), (64, 8, 0.5), (64, 8, 9)])
def test_impossible_buckets_are_refused(size: int, step: int, longest: float) -> None:
    with pytest.raises(InputError, match="must be"):
        bucket_sizes(size, step, longest)


def test_a_picture_goes_to_the_nearest_shape() -> None:
    sizes = bucket_sizes(512, 64)
    assert nearest_bucket((3000, 3000), sizes) == (512, 512)
    assert nearest_bucket((4000, 3000), sizes) == (576, 448)
    assert nearest_bucket((300, 4000), sizes) == (384, 640)


@pytest.mark.parametrize("shape", [(100, 60), (60, 100), (64, 64), (301, 200)])
def test_the_centre_is_what_pillow_keeps(shape: tuple[int, int]) -> None:
    image = painted(*shape, seed=3)
    ours = fitted(image, (48, 48), kept_box(image, (48, 48), "centre"))
    theirs = ImageOps.fit(image, (48, 48), Image.Resampling.LANCZOS)
    assert np.abs(np.asarray(ours, int) - np.asarray(theirs, int)).max() <= 1


def test_a_picture_of_the_right_size_is_left_to_the_bit() -> None:
    image = painted(48, 80, seed=1)
    for crop in ("centre", "smart"):
        assert fitted(image, (48, 80), kept_box(image, (48, 80), crop)) is image


@pytest.mark.parametrize("left", [0, 130, 200])
def test_the_smart_crop_finds_what_stands_out(left: int) -> None:
    for turned in (False, True):
        pixels = np.full((100, 300, 3), 200, np.uint8)
        pixels[20:80, left : left + 90] = np.asarray(painted(9, 6, seed=5).resize((90, 60), Image.Resampling.NEAREST))
        image = Image.fromarray(pixels.swapaxes(0, 1).copy() if turned else pixels)
        box = kept_box(image, (64, 64), "smart")
        low, high = (box[1], box[3]) if turned else (box[0], box[2])
        assert low <= left + 3 and high >= left + 87
        assert high - low == pytest.approx(100)
    assert kept_box(Image.new("RGB", (300, 100)), (64, 64), "smart") == (100, 0, 200, 100)


def test_a_box_by_hand_is_cut_to_shape_round_its_middle() -> None:
    image = painted(300, 200, seed=2)
    assert kept_box(image, (64, 64), (100, 50, 200, 100)) == (125, 50, 175, 100)
    assert kept_box(image, (64, 32), (100, 50, 200, 100)) == (100, 50, 200, 100)


def test_light_is_averaged_as_light() -> None:
    """Black and white lines from afar give half the light, which is level 188; in sRGB they give level 128."""
    lines = np.zeros((64, 64, 3), np.uint8)
    lines[::2] = 255
    image, box = Image.fromarray(lines), (0.0, 0.0, 64.0, 64.0)
    found = {space: np.asarray(fitted(image, (8, 8), box, space)).mean() for space in ("srgb", "linear", "lab")}
    assert found["srgb"] == pytest.approx(128, abs=2)
    assert found["linear"] == pytest.approx(188, abs=2)
    assert found["lab"] == pytest.approx(119, abs=2)  # L* 50


def test_a_mask_stays_on_its_picture() -> None:
    picture = np.zeros((60, 100, 3), np.uint8)
    picture[10:40, 55:80] = 255
    box = kept_box(Image.fromarray(picture), (32, 32), "smart")
    seen = np.asarray(fitted(Image.fromarray(picture), (32, 32), box))[..., 0] > 127
    mask = fitted_mask(picture[..., 0], (32, 32), box) > 127
    assert (seen != mask).mean() < 0.03
    assert mask.any()
