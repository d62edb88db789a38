"""Windows of latents: another each time, of the picture and its mask alike, and what SDXL is told of them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from rein.errors import InputError
from rein.training.crops import window_side, windows
from tests.pipeline.small import SPECS
from tests.training.lessons import latents, loop, objective


def test_a_window_is_a_part_of_its_picture_and_of_its_mask() -> None:
    whole = torch.arange(2 * 1 * 6 * 8).reshape(2, 1, 6, 8).float()
    generator = torch.Generator().manual_seed(0)
    corners = set()
    for _ in range(40):
        cut, mask, place = windows(whole, whole + 0.5, 4, 8, generator)
        assert cut.shape == (2, 1, 4, 4) and mask is not None and torch.equal(mask, cut + 0.5)
        for number in range(2):
            assert place[number, :2].tolist() == [48, 64]
            top, left = (place[number, 2:] // 8).tolist()
            assert torch.equal(cut[number], whole[number, :, top : top + 4, left : left + 4])
            corners.add((top, left))
    assert corners == {(top, left) for top in range(3) for left in range(5)}


def test_smaller_pictures_are_shown_whole() -> None:
    whole = torch.randn(1, 4, 6, 8)
    cut, mask, place = windows(whole, None, 7, 8, torch.Generator().manual_seed(0))
    assert cut.shape == (1, 4, 6, 7) and mask is None and place[0, 2] == 0


def test_a_window_that_cannot_be_halved_is_refused() -> None:
    spec = SPECS["sd1"]
    assert window_side(64, spec) == 64 // spec.autoencoder.downscale
    with pytest.raises(InputError, match="must be a multiple of 64"):
        window_side(72, spec)


def test_windows_are_taught_and_told_of(tmp_path: Path) -> None:
    made = objective("lora", "sdxl", crop_size=32, steps=3)
    made.lessons = type(made.lessons)(latents(4, "an apple", sizes=((8, 8), (8, 12))))
    seen: list[list[float]] = []
    own = made.pupil._sizes

    def watched(x: torch.Tensor, place: torch.Tensor | None) -> torch.Tensor:
        sizes = own(x, place)
        seen.extend(sizes.tolist())
        return sizes

    made.pupil._sizes = watched  # type: ignore[method-assign]
    list(loop(tmp_path, made).run())
    wholes, corners, shown = ({tuple(row[part]) for row in seen} for part in (slice(2), slice(2, 4), slice(4, 6)))
    assert wholes == {(64, 64), (64, 96)} and shown == {(32, 32)} and len(corners) > 3
