"""An autoencoder in parts: equal to the whole where it is local, and measured against the whole where it is not."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from rein.errors import NonFiniteError
from rein.nn.autoencoder import Autoencoder
from rein.nn.seamless import Axes, seamless
from rein.nn.specs import POCKET, SD15, TAESD, AutoencoderConfig
from rein.pipeline import decode
from rein.pipeline.decode import decode_latents
from rein.pipeline.model import Model
from rein.pipeline.tiled import Side, decode_tiled, encode_tiled, overlap_for, reach
from tests.pipeline.conftest import Loader

LIMIT = 2e-5

LOCAL = {
    "pocket": replace(POCKET.autoencoder, channels=(8, 8)),
    "three levels": AutoencoderConfig(
        latent_channels=4, channels=(6, 8, 8), blocks_per_level=2, norm_groups=0, middle_attention=False
    ),
    "one level": AutoencoderConfig(
        latent_channels=4, channels=(6,), blocks_per_level=1, norm_groups=0, middle_attention=False, patch=4
    ),
    "tiny": replace(TAESD, channels=(8, 8, 8, 8), blocks_per_level=1),
    "tiny of two levels": replace(TAESD, channels=(8, 8), blocks_per_level=2),
}
NORMED = AutoencoderConfig(channels=(8, 8, 8), blocks_per_level=1, norm_groups=4)


def lively(config: AutoencoderConfig, gain: float = 1.0) -> Autoencoder:
    """Weights large enough for what is far away to matter."""
    torch.manual_seed(3)
    network = Autoencoder(config).eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(3)
    for parameter in network.parameters():
        if parameter.ndim > 1:
            parameter.data = torch.randn(parameter.shape, generator=generator) * gain * parameter[0].numel() ** -0.5
    return network


def normal(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(2))


def by_regions(channels: int, side: int) -> Tensor:
    """A map of light and dark regions, and a little noise: each part of it has other statistics."""
    generator = torch.Generator().manual_seed(2)
    coarse = torch.randn(1, channels, 8, 8, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, (side, side), mode="bicubic")
    return smooth + 0.2 * torch.randn(1, channels, side, side, generator=generator)


def relative(ours: Tensor, theirs: Tensor) -> float:
    assert ours.shape == theirs.shape
    return float((ours - theirs).abs().max() / theirs.abs().max())


def decoded_reach(network: Autoencoder, middle: int) -> int:
    """How far NaN in one latent spreads over the pixels, in latents: no arithmetic makes it a number again."""
    config = network.config
    channels = config.latent_channels if config.design == "tiny" else config.channels[-1]
    half = network.decode if config.design == "tiny" else network.decoder.enlarged
    features = torch.zeros(1, channels, 1, 2 * middle + 1)
    features[..., middle] = math.nan
    touched = half(features)[0, 0].isnan().any(dim=0).unflatten(0, (-1, config.downscale)).any(dim=1).nonzero()
    return int((touched - middle).abs().max())


def encoded_reach(network: Autoencoder, middle: int) -> int:
    """Likewise, of NaN in all pixels of one latent."""
    unit, tiny = network.config.downscale, network.config.design == "tiny"
    pixels = torch.zeros(1, 3, unit, (2 * middle + 1) * unit)
    pixels[..., middle * unit : (middle + 1) * unit] = math.nan
    features = network.encode(pixels).mode() if tiny else network.encoder.reduced(pixels)
    return int((features[0, 0].isnan().any(dim=0).nonzero() - middle).abs().max())


@pytest.mark.parametrize("name", LOCAL)
def test_the_reach_is_that_of_the_network(name: str) -> None:
    network = lively(LOCAL[name])
    found: dict[Side, int] = {"decoder": decoded_reach(network, 25), "encoder": encoded_reach(network, 25)}
    for side, measured in found.items():
        told = reach(LOCAL[name], side)
        assert told is not None and measured < 25
        assert measured <= told <= measured + 1, f"{side}: {told}, measured {measured}"


def test_what_sees_everything_has_no_reach() -> None:
    assert reach(SD15.autoencoder, "decoder") is None
    assert reach(SD15.autoencoder, "encoder") is None
    assert reach(POCKET.autoencoder, "decoder") == 7


def test_overlaps_are_exact_where_they_are_not_too_dear() -> None:
    assert overlap_for(POCKET.autoencoder, "decoder", 19) == 14
    assert overlap_for(POCKET.autoencoder, "decoder", 18) == 18 // 4
    assert overlap_for(SD15.autoencoder, "decoder", 64) == 16


@pytest.mark.parametrize("axes", ["none", "x", "both"])
@pytest.mark.parametrize("name", LOCAL)
def test_parts_of_a_local_autoencoder_are_the_whole(name: str, axes: Axes) -> None:
    config = LOCAL[name]
    network, unit = lively(config), config.downscale
    sides: tuple[Side, Side] = ("decoder", "encoder")
    needed = [math.ceil(2 * (reach(config, side) or 0) / 0.75) for side in sides]
    latents = normal(2, config.latent_channels, 9, needed[0] + 21)
    pixels = torch.rand(1, 3, 6 * unit, (needed[1] + 9) * unit, generator=torch.Generator().manual_seed(1))
    with seamless(network, axes):
        whole, means = network.decode(latents), network.encode(pixels).mode()
    assert relative(decode_tiled(network, latents, needed[0] * unit, wrap=axes), whole) < LIMIT
    assert relative(encode_tiled(network, pixels, needed[1] * unit, wrap=axes), means) < LIMIT
    # Where parts only touch, each ends in zeros.
    assert relative(decode_tiled(network, latents, needed[0] * unit, 0, axes), whole) > 100 * LIMIT


@pytest.mark.parametrize("gain", [0.6, 1.0])
def test_parts_with_norms_differ_little_and_leave_no_edge(gain: float) -> None:
    """Random weights: each part by itself would have a tone of its own."""
    network, unit = lively(NORMED, gain), NORMED.downscale
    latents = by_regions(4, 64)
    whole = network.decode(latents)
    alone = torch.cat([torch.cat([network.decode(x) for x in row.split(32, 3)], 3) for row in latents.split(32, 2)], 2)
    tiled = decode_tiled(network, latents, 32 * unit)

    def error(made: Tensor, wanted: Tensor) -> float:
        return float((made - wanted).square().mean().sqrt() / wanted.std())

    def steps(pixels: Tensor) -> float:
        """The mean step from pixel to pixel in the picture, and where tiles that do not overlap would be cut."""
        across = pixels.diff(dim=-1).abs()
        return float(across[..., 32 * unit - 1].mean() / across.mean())

    print(f"gain {gain}: errors {error(tiled, whole):.3f}, {error(alone, whole):.3f}; {steps(tiled):.3f}")
    assert error(tiled, whole) < 0.4 * error(alone, whole)
    assert steps(tiled) < 1.1 * steps(whole) < steps(alone)
    assert relative(decode_tiled(network, latents, 64 * unit), whole) < LIMIT


@pytest.mark.parametrize("gain", [0.6, 1.0])
def test_parts_that_are_encoded_differ_little(gain: float) -> None:
    network, unit = lively(NORMED, gain), NORMED.downscale
    pixels = by_regions(3, 64 * unit).tanh()
    whole = network.encode(pixels).mode()
    half = 32 * unit
    alone = torch.cat(
        [torch.cat([network.encode(x).mode() for x in row.split(half, 3)], 3) for row in pixels.split(half, 2)], 2
    )
    tiled = encode_tiled(network, pixels, half)
    errors = [float((made - whole).square().mean().sqrt() / whole.std()) for made in (tiled, alone)]
    print(errors)
    assert errors[0] < 0.5 * errors[1]
    assert relative(encode_tiled(network, pixels, 2 * half), whole) < LIMIT


def test_a_decoder_asked_in_tiles_draws_the_same_picture(small_model: Loader) -> None:
    parts = small_model("pocket").parts
    side = 40
    latents = normal(2, parts.spec.autoencoder.latent_channels, side, side)
    whole = decode_latents(parts, latents)
    tiled = decode_latents(parts, latents, 32 * parts.spec.autoencoder.downscale)
    for first, second in zip(whole, tiled, strict=True):
        difference = np.asarray(first.image, dtype=int) - np.asarray(second.image, dtype=int)
        assert np.abs(difference).max() <= 1
        assert second.notes == ()


@contextmanager
def little_memory(network: Autoencoder, most: int, message: str = "") -> Iterator[list[int]]:
    """Within the block the decoder fails for more than `most` latents at once, as PyTorch does. Gives the widths that
    it was asked for."""
    asked: list[int] = []
    finest = 2 ** (len(network.config.channels) - 1)

    def check(module: torch.nn.Module, inputs: tuple[Any, ...]) -> None:
        height, width = (length // finest for length in inputs[0].shape[-2:])
        asked.append(width)
        if height * width > most:
            raise RuntimeError(message) if message else torch.OutOfMemoryError("CUDA out of memory")

    handle = network.decoder.conv_out.register_forward_pre_hook(check)
    try:
        yield asked
    finally:
        handle.remove()


CPU_MESSAGE = "[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate memory: you tried ..."


@pytest.mark.parametrize("message", ["", CPU_MESSAGE], ids=["gpu", "cpu"])
def test_without_memory_for_the_whole_parts_are_decoded(
    pocket: Model, monkeypatch: pytest.MonkeyPatch, message: str
) -> None:
    unit = pocket.spec.autoencoder.downscale
    monkeypatch.setattr(decode, "SMALLER_TILES", (64 * unit, 36 * unit, 33 * unit))
    latents = normal(1, pocket.spec.autoencoder.latent_channels, 40, 48)
    [whole] = decode_latents(pocket.parts, latents)
    with little_memory(pocket.parts.autoencoder, 34 * 34, message) as asked:
        [made] = decode_latents(pocket.parts, latents)
    assert asked[:2] == [48, 36] and set(asked[2:]) == {33}
    assert made.notes == (f"memory was too small for the whole picture: decoded in parts of {33 * unit} pixels",)
    assert made.image.size == whole.image.size
    with little_memory(pocket.parts.autoencoder, 100, message), pytest.raises(RuntimeError, match="memory"):
        decode_latents(pocket.parts, latents)


def test_other_failures_are_passed_on(pocket: Model) -> None:
    latents = normal(1, pocket.spec.autoencoder.latent_channels, 8, 8)
    with little_memory(pocket.parts.autoencoder, 1, "sizes do not match"), pytest.raises(RuntimeError, match="sizes"):
        decode_latents(pocket.parts, latents)
    with pytest.raises(NonFiniteError, match="the autoencoder gave NaN"):
        decode_latents(pocket.parts, latents * math.nan, 64)


def test_wrong_overlaps_are_refused() -> None:
    network = lively(LOCAL["pocket"])
    for overlap in (-1, 7):
        with pytest.raises(ValueError, match=f"overlap is {overlap}"):
            decode_tiled(network, normal(1, 12, 12, 12), 64, overlap)
