"""Masks: blur, bounds, filling round them, laying over."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scipy.ndimage import correlate1d

from rein import masks
from rein.masks import Overlay


def square(size: int = 40, low: int = 14, high: int = 26) -> masks.Array:
    mask = np.zeros((size, size), dtype=np.float32)
    mask[low:high, low:high] = 1
    return mask


@pytest.mark.parametrize("sigma", [0.4, 1.0, 4.0])
def test_the_blur_is_a_cut_off_gaussian(sigma: float) -> None:
    reach = int(2.5 * sigma + 0.5)
    kernel = np.exp(-(np.arange(-reach, reach + 1) ** 2) / (2 * sigma**2))
    expected = square().astype(np.float64)
    for axis in (0, 1):
        expected = correlate1d(expected, kernel / kernel.sum(), axis, mode="mirror")
    result = masks.blurred(square(), sigma)
    assert np.abs(result - expected).max() < 1e-6
    assert result[0, 0] == 0 and (sigma > 2 or result[20, 20] == 1)


def test_no_blur_changes_nothing_and_a_wide_one_fits_a_small_mask() -> None:
    assert masks.blurred(square(), 0) is not None and np.array_equal(masks.blurred(square(), 0), square())
    assert masks.blurred(np.ones((3, 5), dtype=np.float32), 40.0).tolist() == np.ones((3, 5)).tolist()


def test_bounds() -> None:
    assert masks.bounds(square()) == (14, 14, 26, 26)
    assert masks.bounds(np.zeros((4, 4), dtype=np.float32)) is None


@given(
    st.tuples(st.integers(0, 80), st.integers(0, 50), st.integers(1, 20), st.integers(1, 10)),
    st.integers(0, 30),
    st.tuples(st.integers(8, 64), st.integers(8, 64)),
)
def test_a_window_holds_its_box_within_the_picture(
    box: tuple[int, int, int, int], padding: int, shape: tuple[int, int]
) -> None:
    size = 100, 60
    left, top, right, bottom = box[0], box[1], box[0] + box[2], box[1] + box[3]
    found = masks.window((left, top, right, bottom), padding, shape, size)
    assert 0 <= found[0] <= left and right <= found[2] <= size[0]
    assert 0 <= found[1] <= top and bottom <= found[3] <= size[1]
    width, height = found[2] - found[0], found[3] - found[1]
    if width < size[0] and height < size[1]:
        assert abs(width - height * shape[0] / shape[1]) <= max(1.0, shape[0] / shape[1])


def test_what_is_kept_is_not_smeared_and_the_rest_takes_its_colours() -> None:
    pixels = np.full((40, 40, 3), (200, 30, 10), dtype=np.uint8)
    pixels[14:26, 14:26] = (0, 0, 255)
    result = np.asarray(masks.smeared(Image.fromarray(pixels), square()))
    assert np.array_equal(result[square() == 0], pixels[square() == 0])
    assert np.abs(result[square() == 1].astype(int) - (200, 30, 10)).max() <= 1
    all_painted = Image.fromarray(pixels)
    assert masks.smeared(all_painted, np.ones((40, 40), dtype=np.float32)) is all_painted


def test_a_smear_goes_from_one_colour_to_the_other() -> None:
    pixels = np.zeros((32, 96, 3), dtype=np.uint8)
    pixels[:, 64:] = 255
    mask = np.zeros((32, 96), dtype=np.float32)
    mask[:, 32:64] = 1
    row = np.asarray(masks.smeared(Image.fromarray(pixels), mask))[16, 32:64, 0].astype(int)
    assert row[0] < 60 and row[-1] > 195 and np.all(np.diff(row) >= -1)


def test_laying_over_keeps_the_source_where_nothing_shows() -> None:
    generator = np.random.default_rng(1)
    source, drawn = (Image.fromarray(generator.integers(0, 256, (40, 40, 3), dtype=np.uint8)) for _ in range(2))
    share = masks.blurred(square(), 2.0)
    result = np.asarray(Overlay(source, share).laid(drawn))
    assert np.array_equal(result[share == 0], np.asarray(source)[share == 0])
    assert np.array_equal(result[share == 1], np.asarray(drawn)[share == 1])
    expected = np.asarray(source) * (1.0 - share[..., None]) + np.asarray(drawn) * share[..., None]
    assert np.abs(result - expected).max() <= 0.51
    box = Overlay(source, share, (10, 10, 30, 30)).laid(drawn)
    outside = np.ones((40, 40), dtype=bool)
    outside[10:30, 10:30] = False
    assert np.array_equal(np.asarray(box)[outside], np.asarray(source)[outside])
