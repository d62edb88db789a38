"""RRDBNet and the compact network beside plain ones that are written from the papers, and their published sizes."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from rein.errors import InputError
from rein.nn.upscaler import RRDBConfig, RRDBNet, SRVGGConfig, SRVGGNet, folded, folding

LIMIT = 1e-5

DENSE = {
    "x4": RRDBConfig(width=12, growth=5, blocks=2),
    "x2": RRDBConfig(width=12, growth=5, blocks=1, unshuffle=2),
    "x1": RRDBConfig(width=8, growth=4, blocks=1, unshuffle=4),
    "x2 of one doubling": RRDBConfig(width=8, growth=4, blocks=1, doublings=1),
    "x8": RRDBConfig(width=8, growth=4, blocks=1, doublings=3),
    "x1 without any": RRDBConfig(width=8, growth=4, blocks=1, doublings=0),
}


def lively(network: nn.Module) -> nn.Module:
    """Weights large enough for each to matter."""
    generator = torch.Generator().manual_seed(7)
    for parameter in network.parameters():
        scale = 1.4 * parameter[0].numel() ** -0.5 if parameter.ndim > 1 else 0.3
        parameter.data = torch.randn(parameter.shape, generator=generator) * scale
    return network.eval().requires_grad_(False)


def picture(height: int, width: int) -> Tensor:
    return torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(1))


def convolved(state: Mapping[str, Tensor], name: str, x: Tensor) -> Tensor:
    return functional.conv2d(functional.pad(x, (1, 1, 1, 1)), state[f"{name}.weight"], state[f"{name}.bias"])


def bent(x: Tensor, slope: float = 0.2) -> Tensor:
    return torch.where(x < 0, slope * x, x)


def plain_dense(config: RRDBConfig, state: Mapping[str, Tensor], pixels: Tensor) -> Tensor:
    batch, channels, height, width = pixels.shape
    side = config.unshuffle
    x = pixels.reshape(batch, channels, height // side, side, width // side, side).permute(0, 1, 3, 5, 2, 4)
    first = trunk = convolved(state, "conv_first", x.reshape(batch, -1, height // side, width // side))
    for block in range(config.blocks):
        inside = trunk
        for dense in (1, 2, 3):
            seen = [inside]
            for number in (1, 2, 3, 4):
                seen.append(bent(convolved(state, f"body.{block}.rdb{dense}.conv{number}", torch.cat(seen, 1))))
            inside = inside + 0.2 * convolved(state, f"body.{block}.rdb{dense}.conv5", torch.cat(seen, 1))
        trunk = trunk + 0.2 * inside
    x = first + convolved(state, "conv_body", trunk)
    for number in range(config.doublings):
        x = x.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
        x = bent(convolved(state, f"conv_up{number + 1}", x))
    return convolved(state, "conv_last", bent(convolved(state, "conv_hr", x)))


def error(ours: Tensor, theirs: Tensor) -> float:
    assert ours.shape == theirs.shape
    return float((ours - theirs).abs().max() / theirs.abs().max())


@pytest.mark.parametrize("name", DENSE)
def test_the_dense_network_equals_a_plain_one(name: str) -> None:
    config = DENSE[name]
    network = lively(RRDBNet(config))
    pixels = picture(12, 8)
    made = network(pixels)
    assert made.shape == (2, 3, 12 * config.scale, 8 * config.scale)
    assert config.scale == int(name[1])
    assert error(made, plain_dense(config, network.state_dict(), pixels)) <= LIMIT


def test_the_compact_network_equals_a_plain_one() -> None:
    config = SRVGGConfig(width=10, layers=3, scale=3)
    network = lively(SRVGGNet(config))
    state, x = network.state_dict(), picture(7, 9)
    base = x.repeat_interleave(3, dim=2).repeat_interleave(3, dim=3)
    for layer in range(4):
        x = convolved(state, f"body.{2 * layer}", x)
        x = torch.where(x < 0, state[f"body.{2 * layer + 1}.weight"][:, None, None] * x, x)
    x = convolved(state, "body.8", x).reshape(2, 3, 3, 3, 7, 9).permute(0, 1, 4, 2, 5, 3).reshape(2, 3, 21, 27)
    assert error(network(picture(7, 9)), base + x) <= LIMIT


@pytest.mark.parametrize(("height", "width"), [(13, 8), (5, 6), (3, 1), (1, 1)])
def test_sides_that_do_not_fold_evenly_are_lengthened_and_cut(height: int, width: int) -> None:
    network = lively(RRDBNet(DENSE["x1"]))
    made = network(picture(height, width))
    assert made.shape == (2, 3, height, width)
    mode = "reflect" if height > 3 and width > 3 else "replicate"
    longer = functional.pad(picture(height, width), (0, -width % 4, 0, -height % 4), mode=mode)
    assert torch.equal(made, network(longer)[..., :height, :width])
    assert folded(longer, 4).shape == (2, 48, -(-height // 4), -(-width // 4))


def test_published_sizes() -> None:
    with torch.device("meta"):
        counts = {
            "RealESRGAN_x4plus": (RRDBNet(RRDBConfig()), 16_697_987),
            "RealESRGAN_x2plus": (RRDBNet(RRDBConfig(unshuffle=2)), 16_703_171),
            "RealESRGAN_x4plus_anime_6B": (RRDBNet(RRDBConfig(blocks=6)), 4_467_779),
            "realesr-animevideov3": (SRVGGNet(SRVGGConfig()), 621_424),
            "realesr-general-x4v3": (SRVGGNet(SRVGGConfig(layers=32)), 1_213_296),
        }
    for name, (network, count) in counts.items():
        assert sum(parameter.numel() for parameter in network.parameters()) == count, name


@pytest.mark.parametrize(
    "change", [{"unshuffle": 8}, {"unshuffle": 3}, {"doublings": -1}, {"width": 0}, {"blocks": 0}, {"unshuffle": 0}]
)
def test_shapes_that_cannot_be_are_refused(change: dict[str, int]) -> None:
    with pytest.raises(InputError, match=next(iter(change)) if change != {"doublings": -1} else "unshuffle"):
        RRDBConfig(**change)
    with pytest.raises(InputError, match="scale is 0"):
        SRVGGConfig(scale=0)


def test_folding_is_found_from_channels() -> None:
    assert [folding(*channels) for channels in ((3, 3), (12, 3), (48, 3), (4, 1), (3, 0), (5, 3), (6, 3))] == [
        1, 2, 4, 2, 0, 0, 0,
    ]  # fmt: skip
