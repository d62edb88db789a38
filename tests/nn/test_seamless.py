"""Circular convolutions: a shifted input gives the shifted output, and afterwards all is as it was."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from rein.nn.autoencoder import Autoencoder
from rein.nn.layers import Downsample
from rein.nn.seamless import Axes, seamless, wrapped
from rein.nn.specs import TAESD
from rein.nn.unet import UNet
from tests.pipeline.small import SPECS, networks

LIMIT = 1e-4
"""Of the largest value: rounding, which a shift orders otherwise."""

SHIFTS: dict[Axes, tuple[int, int]] = {"x": (0, 1), "y": (1, 0), "both": (1, 1)}
"""Rows and columns to shift by, in units of the coarsest pixel."""

Network = Callable[[Tensor], Tensor]


def normal(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(2))


def unet(family: str) -> tuple[UNet, Network]:
    network = networks(SPECS[family])[0].eval().requires_grad_(False)
    config = network.config
    pooled = normal(1, config.pooled_width) if config.pooled_width else None
    sizes = torch.full((1, config.size_ids), 32.0) if config.size_ids else None
    words, time = normal(1, 5, config.context_width), torch.tensor([400.0])
    return network, lambda x: network(x, time, words, pooled, sizes)


def autoencoder(name: str) -> Autoencoder:
    if name == "tiny":
        torch.manual_seed(0)
        return Autoencoder(TAESD).eval().requires_grad_(False)
    return networks(SPECS[name])[1].eval().requires_grad_(False)


def unlike(network: Network, x: Tensor, shift: tuple[int, int]) -> float:
    """How far the output of the shifted input is from the shifted output, beside the largest value."""
    plain = network(x)
    factor = plain.shape[-1] / x.shape[-1]
    expected = plain.roll((int(shift[0] * factor), int(shift[1] * factor)), (-2, -1))
    return float((network(x.roll(shift, (-2, -1))) - expected).abs().max() / plain.abs().max())


@pytest.mark.parametrize("axes", SHIFTS)
@pytest.mark.parametrize("family", SPECS)
def test_a_unet_commutes_with_shifts_by_its_coarsest_pixel(family: str, axes: Axes) -> None:
    network, ask = unet(family)
    unit = 2 ** (len(network.config.channels) - 1)
    x = normal(1, network.config.in_channels, 2 * unit, 3 * unit)
    shift = (SHIFTS[axes][0] * unit, SHIFTS[axes][1] * unit)
    assert unlike(ask, x, shift) > 100 * LIMIT
    with seamless(network, axes) as same:
        assert same is network
        assert unlike(ask, x, shift) < LIMIT
        if axes != "both":
            assert unlike(ask, x, (shift[1] and unit, shift[0] and unit)) > 100 * LIMIT


@pytest.mark.parametrize("name", ["pocket", "sd1", "tiny"])
def test_an_autoencoder_commutes_with_shifts_by_its_latents(name: str) -> None:
    network = autoencoder(name)
    unit, channels = network.config.downscale, network.config.latent_channels
    latents, pixels = normal(1, channels, 6, 5), torch.rand(1, 3, 6 * unit, 5 * unit)
    cases: list[tuple[Network, Tensor, tuple[int, int]]] = [
        (network.decode, latents, (2, 1)),
        (lambda x: network.encode(x).mean, pixels, (2 * unit, unit)),
    ]
    for ask, x, shift in cases:
        plain = unlike(ask, x, shift)
        with seamless(network):
            assert unlike(ask, x, shift) < LIMIT < plain / 10


def test_the_one_sided_downsampler_sees_the_first_row_and_column() -> None:
    """At the right and the bottom only, by hand: what torch's own circular padding gives."""
    layer = Downsample(3, one_sided=True).requires_grad_(False)
    x = normal(2, 3, 6, 8)
    for axes, (rows, columns) in SHIFTS.items():
        longer = torch.cat([x, x[..., :1, :] * rows], dim=-2)
        longer = torch.cat([longer, longer[..., :1] * columns], dim=-1)
        expected = layer.conv(longer)
        with seamless(layer, axes):
            made = layer(x)
        assert made.shape == (2, 3, 3, 4)
        assert torch.equal(made, expected)


def test_wrapping_equals_torch() -> None:
    x = normal(1, 2, 5, 4)
    assert torch.equal(wrapped(x, 2, 1), nn.functional.pad(x, (1, 1, 2, 2), mode="circular"))
    assert torch.equal(wrapped(x, 5, 0), nn.functional.pad(x, (0, 0, 5, 5), mode="circular"))
    assert wrapped(x, 0, 0) is x


def test_afterwards_all_is_as_it_was() -> None:
    network, ask = unet("sd1")
    x = normal(1, 4, 8, 8)
    before = ask(x)
    paddings = [getattr(layer, "padding", None) for layer in network.modules()]
    with seamless(network), seamless(network, "x"):
        inside = ask(x)
    with pytest.raises(RuntimeError, match="on purpose"), seamless(network):
        raise RuntimeError("on purpose")
    with seamless(network, "none"):
        assert torch.equal(ask(x), before)
    assert not torch.equal(inside, before)
    assert torch.equal(ask(x), before)
    assert all(not layer._forward_pre_hooks for layer in network.modules())
    assert [getattr(layer, "padding", None) for layer in network.modules()] == paddings
