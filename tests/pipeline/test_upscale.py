"""Larger pictures: whatever the tiles, the same picture; repeated passes; tiles drawn again by a model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from rein.errors import InputError, NonFiniteError
from rein.formats.upscalers import Upscaler
from rein.nn.upscaler import RRDBConfig, RRDBNet, SRVGGConfig, SRVGGNet
from rein.pipeline.model import Model
from rein.pipeline.redraw import drawer, redraw
from rein.pipeline.request import Request
from rein.pipeline.upscale import MAX_FACTOR, enlarged_size, redraw_steps, upscale, upscale_steps

SIZE = 70, 45


def noise(width: int = SIZE[0], height: int = SIZE[1]) -> Image.Image:
    return Image.fromarray(np.random.default_rng(3).integers(0, 256, (height, width, 3), dtype=np.uint8))


def levels(image: Image.Image) -> NDArray[np.int64]:
    return np.asarray(image, dtype=np.int64)


def repeating(scale: int) -> Upscaler:
    """A network whose convolutions are zero: it repeats pixels."""
    network = SRVGGNet(SRVGGConfig(width=4, layers=1, scale=scale)).requires_grad_(False)
    for parameter in network.parameters():
        parameter.zero_()
    return Upscaler(network, Path(f"repeat-x{scale}.pth"), "")


def random(config: RRDBConfig | SRVGGConfig) -> Upscaler:
    """A network whose weights all matter."""
    network: RRDBNet | SRVGGNet
    network = RRDBNet(config) if isinstance(config, RRDBConfig) else SRVGGNet(config)
    generator = torch.Generator().manual_seed(5)
    for parameter in network.parameters():
        scale = parameter[0].numel() ** -0.5 if parameter.ndim > 1 else 0.1
        parameter.data = torch.randn(parameter.shape, generator=generator) * scale
    return Upscaler(network.eval().requires_grad_(False), Path("random.pth"), "")


def test_interpolations_are_pillows() -> None:
    picture = noise()
    assert upscale(picture, 1.5).tobytes() == picture.resize((105, 68), Image.Resampling.LANCZOS).tobytes()
    nearest = upscale(picture, 2, "nearest")
    assert nearest.tobytes() == picture.resize((140, 90), Image.Resampling.NEAREST).tobytes()
    assert upscale(picture.convert("RGBA"), 1).tobytes() == picture.tobytes()


@pytest.mark.parametrize(("tile", "overlap"), [(16, 0), (16, 8), (33, 5), (64, 16), (400, 0)])
@pytest.mark.parametrize("scale", [1, 2, 4])
def test_tiles_lie_where_they_belong(scale: int, tile: int, overlap: int) -> None:
    picture = noise()
    expected = picture.resize((SIZE[0] * scale, SIZE[1] * scale), Image.Resampling.NEAREST)
    assert upscale(picture, scale, repeating(scale), tile, overlap).tobytes() == expected.tobytes()


@pytest.mark.parametrize(
    "config",
    [SRVGGConfig(width=8, layers=1, scale=2), RRDBConfig(width=6, growth=3, blocks=1, doublings=1)],
    ids=["compact", "dense"],
)
def test_within_the_reach_of_a_network_tiles_change_nothing(config: SRVGGConfig | RRDBConfig) -> None:
    """The compact one reaches 3 pixels, the dense one 20, and a quarter of the overlap is not used."""
    upscaler, picture = random(config), noise(200, 30)
    whole = levels(upscale(picture, 2, upscaler, 400, 0))
    tiled = levels(upscale(picture, 2, upscaler, 160, 80))
    assert whole.std() > 5
    assert np.abs(tiled - whole).max() <= 1
    without = levels(upscale(picture, 2, upscaler, 32, 0))
    assert np.abs(without - whole).max() > 3


def test_folding_networks_get_tiles_that_begin_at_whole_folds() -> None:
    """Without its blocks it reaches 4 folds, 16 pixels; a quarter of the overlap is not used. Tiles that began within
    a fold would see other folds."""
    upscaler, picture = random(RRDBConfig(width=6, growth=3, blocks=1, unshuffle=4)), noise(302, 21)
    for name, parameter in upscaler.network.named_parameters():
        if "conv5" in name:
            parameter.zero_()
    whole = levels(upscale(picture, 1, upscaler, 400, 0))
    tiled = levels(upscale(picture, 1, upscaler, 150, 71))
    assert whole.std() > 5
    assert np.abs(tiled - whole).max() <= 1


def test_a_network_is_used_again_until_the_picture_is_large_enough() -> None:
    picture = noise(20, 16)

    def size_and_tiles(factor: float, scale: int) -> tuple[tuple[int, int], int]:
        parts = list(upscale_steps(picture, factor, repeating(scale), 64, 0))
        assert [part.index for part in parts] == list(range(parts[0].parts))
        assert all(part.image is None for part in parts[:-1])
        last = parts[-1].image
        assert last is not None
        return last.size, len(parts)

    assert size_and_tiles(2, 2) == ((40, 32), 1)
    assert size_and_tiles(4, 2) == ((80, 64), 2)
    assert size_and_tiles(3, 2) == ((60, 48), 2)
    assert size_and_tiles(2, 4) == ((40, 32), 1)
    assert size_and_tiles(1.5, 1) == ((30, 24), 1)
    assert size_and_tiles(8, 2) == ((160, 128), 1 + 1 + 2)
    larger = upscale(picture, 3, repeating(2), 64, 0)
    twice = picture.resize((80, 64), Image.Resampling.NEAREST)
    assert larger.tobytes() == twice.resize((60, 48), Image.Resampling.LANCZOS).tobytes()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0.5,), "factor is 0.5: it must be a number from 1 to 16"),
        ((17,), "factor is 17"),
        ((float("nan"),), "factor is nan"),
        ((2, "lanczoss"), "unknown upscaler 'lanczoss': did you mean 'lanczos'"),
        ((2, "lanczos", 8), "tile is 8: it must be at least 16 pixels"),
        ((2, "lanczos", 64, 33), "overlap is 33: it must be from 0 to 32"),
        ((2, "lanczos", 64, -1), "overlap is -1"),
    ],
)
def test_wrong_numbers_are_refused_at_once(arguments: tuple[float, ...], message: str) -> None:
    with pytest.raises(InputError, match=message):
        upscale_steps(noise(), *arguments)  # type: ignore[arg-type]


def test_too_many_pixels_are_refused_before_the_work() -> None:
    assert enlarged_size((5000, 1), MAX_FACTOR) == (80_000, 16)
    with pytest.raises(InputError, match="would become 9000 x 9000; up to 67,108,864 pixels"):
        enlarged_size((3000, 3000), 3)
    with pytest.raises(InputError, match="choose a smaller factor, or an upscaler of a smaller scale"):
        upscale_steps(Image.new("RGB", (3000, 3000)), 2, repeating(4))


def test_a_network_that_gives_nan_is_named() -> None:
    upscaler = repeating(2)
    next(upscaler.network.parameters()).fill_(float("nan"))
    with pytest.raises(NonFiniteError, match="upscaler 'repeat-x2' gave NaN"):
        upscale(noise(), 2, upscaler)


def test_tiles_are_drawn_again_and_joined() -> None:
    picture, seen = noise(100, 60), []

    def same(tile: Image.Image, index: int) -> Image.Image:
        seen.append((index, tile.size))
        return tile

    *_, last = redraw_steps(picture, same, 48, 16)
    assert last.image is not None and last.image.tobytes() == picture.tobytes()
    assert seen == [(index, (48, 48)) for index in range(6)] and last.parts == 6
    with pytest.raises(ValueError, match="was drawn as"):
        list(redraw_steps(picture, lambda tile, index: tile.resize((9, 9)), 48, 16))
    with pytest.raises(InputError, match="overlap is 40"):
        redraw_steps(picture, same, 48, 40)


Redrawn = Callable[..., Image.Image]


@pytest.fixture
def redrawn(pocket: Model) -> Redrawn:
    def made(strength: float = 0.5, seed: int = 5, size: tuple[int, int] = (50, 37)) -> Image.Image:
        request = Request(prompt="a red apple", steps=4, seed=seed)
        *_, last = redraw(pocket, request, noise(*size), strength)
        assert last.image is not None
        return last.image

    return made


def test_a_model_draws_the_tiles_again(redrawn: Redrawn, pocket: Model) -> None:
    first = redrawn()
    assert first.size == (50, 37)
    assert redrawn().tobytes() == first.tobytes()
    assert redrawn(seed=6).tobytes() != first.tobytes() != redrawn(strength=0.9).tobytes()


def test_every_tile_has_a_seed_of_its_own_and_its_own_size(pocket: Model) -> None:
    draw = drawer(pocket, Request(prompt="a red apple", steps=4, seed=2**63 - 1), 0.5)
    tile = noise(21, 35)
    zero, one = draw(tile, 0), draw(tile, 1)
    assert zero.size == one.size == (21, 35)
    assert zero.tobytes() != one.tobytes()
    assert one.tobytes() == drawer(pocket, Request(prompt="a red apple", steps=4, seed=0), 0.5)(tile, 0).tobytes()
