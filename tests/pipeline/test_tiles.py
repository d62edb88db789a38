"""Tiles: they cover all, they overlap as asked, and joined again they leave no seam."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from rein.pipeline.tiles import Mosaic, blend, feathers, spans, tiles

SIZE = 150, 91
LANCZOS = Image.Resampling.LANCZOS


def noise(width: int, height: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(3).integers(0, 256, (height, width, 3), dtype=np.uint8))


@given(st.integers(1, 500), st.integers(8, 120), st.integers(0, 60), st.sampled_from([1, 2, 4]))
def test_parts_cover_all_and_share_what_was_asked_for(length: int, side: int, overlap: int, unit: int) -> None:
    overlap = min(overlap, side - unit)
    found = spans(length, side, overlap, unit)
    assert found[0][0] == 0 and found[-1][1] == length
    assert all(start % unit == 0 for start, _ in found)
    assert all(before[1] - after[0] >= overlap and after[0] > before[0] for before, after in pairwise(found))
    assert len(found) > 1 or length < side + unit
    if len(found) > 1:
        assert {stop - start for start, stop in found[:-1]} == {side}
        assert side <= found[-1][1] - found[-1][0] < side + unit


def test_parts_are_as_few_as_can_be() -> None:
    assert spans(100, 40, 10) == [(0, 40), (30, 70), (60, 100)]
    assert spans(101, 40, 10) == [(0, 40), (20, 60), (40, 80), (61, 101)]
    assert spans(40, 40, 39) == [(0, 40)]


@pytest.mark.parametrize(("side", "overlap", "unit"), [(8, 8, 1), (8, -1, 1), (8, 6, 4)])
def test_parts_that_would_not_advance_are_refused(side: int, overlap: int, unit: int) -> None:
    with pytest.raises(ValueError, match="do not cover"):
        spans(100, side, overlap, unit)


@given(st.integers(1, 300), st.integers(8, 60), st.integers(0, 59), st.integers(0, 20))
def test_weights_add_up_to_one_everywhere(length: int, side: int, overlap: int, trim: int) -> None:
    places = spans(length, side, min(overlap, side - 1))
    total = np.zeros(length)
    for (start, stop), weights in zip(places, feathers(places, length, trim), strict=True):
        assert weights.min() >= 0
        total[start:stop] += weights
    assert np.abs(total - 1).max() < 1e-6


def test_what_is_trimmed_counts_for_nothing_and_outer_edges_are_kept() -> None:
    first, second = feathers([(0, 20), (10, 30)], 30, 3)
    assert first[:13].tolist() == [1] * 13 and first[17:].tolist() == [0] * 3
    assert second[:3].tolist() == [0] * 3 and second[7:].tolist() == [1] * 13
    assert 0 < first[13] < 1


def test_boxes_are_rows_of_tiles_within_the_picture() -> None:
    found = tiles(*SIZE, 64, 16)
    assert found[0] == (0, 0, 64, 64) and found[-1] == (150 - 64, 91 - 64, 150, 91)
    assert len(found) == 3 * 2
    assert tiles(20, 10, 64, 16) == [(0, 0, 20, 10)]


@pytest.mark.parametrize(("side", "overlap", "trim"), [(64, 0, 0), (64, 16, 0), (64, 16, 4), (40, 30, 3), (33, 11, 5)])
def test_a_picture_cut_and_joined_is_itself(side: int, overlap: int, trim: int) -> None:
    picture = noise(*SIZE)
    boxes = tiles(*SIZE, side, overlap)
    assert len(boxes) > 1
    joined = blend([picture.crop(box) for box in boxes], boxes, picture.size, trim)
    assert joined.tobytes() == picture.tobytes()


@pytest.mark.parametrize("side", [48, 64, 97])
def test_enlarging_with_lanczos_does_not_depend_on_the_tiles(side: int) -> None:
    picture = noise(*SIZE)
    whole = picture.resize((300, 182), LANCZOS)
    boxes = tiles(*SIZE, side, 16)
    large = [(2 * left, 2 * top, 2 * right, 2 * bottom) for left, top, right, bottom in boxes]
    parts = [picture.crop(box).resize((2 * (box[2] - box[0]), 2 * (box[3] - box[1])), LANCZOS) for box in boxes]
    joined = blend(parts, large, (300, 182), trim=8)
    assert np.abs(np.asarray(joined, dtype=int) - np.asarray(whole, dtype=int)).max() <= 1


def test_tiles_of_different_brightness_leave_no_step() -> None:
    boxes = tiles(200, 60, 80, 20)
    grey = [Image.new("RGB", (80, 60), (100 + 40 * (index % 2),) * 3) for index in range(len(boxes))]
    joined = np.asarray(blend(grey, boxes, (200, 60)), dtype=int)[:, :, 0]
    assert joined.min() == 100 and joined.max() == 140
    # The steepest of the fade: 1.5 times its mean slope over the 20 pixels, and rounding.
    assert np.abs(np.diff(joined, axis=1)).max() <= 40 * 1.5 / 20 + 1
    hard = np.asarray(blend(grey, boxes, (200, 60), trim=10), dtype=int)
    assert np.abs(np.diff(hard[:, :, 0], axis=1)).max() == 40


def test_boxes_of_no_grid_are_refused() -> None:
    with pytest.raises(ValueError, match="not rows and columns"):
        Mosaic([(0, 0, 8, 8), (0, 0, 8, 8)], (8, 8))
    with pytest.raises(ValueError, match="not rows and columns"):
        Mosaic([(0, 0, 8, 8), (4, 4, 12, 12)], (12, 12))
    with pytest.raises(ValueError, match="leave a gap"):
        Mosaic([(0, 0, 8, 8), (9, 0, 12, 8)], (12, 8))
    with pytest.raises(ValueError, match="values of shape"):
        Mosaic([(0, 0, 8, 8)], (8, 8)).add((0, 0, 8, 8), np.zeros((3, 8, 7), np.float32))
