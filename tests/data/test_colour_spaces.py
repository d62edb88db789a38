"""Colour spaces: there and back, against published colours, and against kornia."""

from __future__ import annotations

import kornia.color
import numpy as np
import pytest
import torch

from rein.data.colour_spaces import COLOUR_SPACES, ColourSpace, from_space, to_space
from tests.data.gathered import painted

ALL_LEVELS = np.arange(256, dtype=np.uint8)[:, None].repeat(3, axis=1)


@pytest.mark.parametrize("space", COLOUR_SPACES)
def test_every_colour_survives_the_way_there_and_back(space: ColourSpace) -> None:
    random = np.random.default_rng(0).integers(0, 256, (2000, 3), dtype=np.uint8)
    for pixels in (ALL_LEVELS, random):
        assert (from_space(to_space(pixels, space), space) == pixels).all()


def test_published_colours() -> None:
    """Red, green and blue of sRGB in L*a*b* (D65), as colour tables have them."""
    pure = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255], [0, 0, 0]], dtype=np.uint8)
    expected = [(53.24, 80.09, 67.20), (87.74, -86.18, 83.18), (32.30, 79.19, -107.86), (100, 0, 0), (0, 0, 0)]
    assert np.abs(to_space(pure, "lab") - np.array(expected)).max() < 0.02
    assert to_space(np.array([[188, 188, 188]], dtype=np.uint8), "linear")[0, 0] == pytest.approx(0.5029, abs=1e-4)


def test_equal_to_kornia() -> None:
    pixels = np.asarray(painted(32, 32, 1))
    tensor = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float() / 255
    for space, theirs in (("linear", kornia.color.rgb_to_linear_rgb(tensor)), ("lab", kornia.color.rgb_to_lab(tensor))):
        ours = to_space(pixels, space)  # type: ignore[arg-type]
        largest = np.abs(ours - theirs[0].permute(1, 2, 0).numpy()).max()
        assert largest < (1e-6 if space == "linear" else 0.05)  # kornia's L*a*b* has a rounder white


def test_what_srgb_cannot_show_is_clipped() -> None:
    assert from_space(np.array([[90.0, -120.0, 120.0]], dtype=np.float32), "lab").min() == 0
    assert (from_space(np.array([[2.0, -1.0, 0.5]], dtype=np.float32), "linear")[0] == (255, 0, 188)).all()
