"""The autoencoder beside diffusers', and the embedded model's form of it beside a plain functional one."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from rein.nn.autoencoder import Autoencoder, LatentDistribution
from rein.nn.specs import POCKET, AutoencoderConfig
from tests.nn.peers import SMALL_AUTOENCODER, SMALL_AUTOENCODER_PEER, autoencoder_peer, native_state, relative_error

LIMIT = 1e-5

PLAIN_CONFIGS = {
    "pocket": POCKET.autoencoder,
    "three levels": AutoencoderConfig(
        latent_channels=6, channels=(16, 24, 24), blocks_per_level=2, norm_groups=0, middle_attention=False, patch=2
    ),
    "no patches": AutoencoderConfig(
        latent_channels=3, channels=(12, 20), blocks_per_level=1, norm_groups=0, middle_attention=False
    ),
}


@pytest.fixture(scope="module")
def pair() -> tuple[Autoencoder, Any]:
    """Our autoencoder and diffusers', with diffusers' first weights."""
    torch.manual_seed(5)
    peer = autoencoder_peer(SMALL_AUTOENCODER_PEER).eval()
    ours = Autoencoder(SMALL_AUTOENCODER).eval()
    ours.load_state_dict(native_state(peer), strict=True)
    return ours, peer


@pytest.mark.parametrize("size", [(32, 32), (24, 40), (20, 12)], ids=str)
@torch.no_grad()
def test_encoding_equals_diffusers(pair: tuple[Autoencoder, Any], size: tuple[int, int]) -> None:
    ours, peer = pair
    pixels = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(1)) * 2 - 1
    distribution, reference = ours.encode(pixels), peer.encode(pixels).latent_dist
    assert distribution.mean.shape == (2, 4, size[0] // 4, size[1] // 4)
    assert relative_error(distribution.mean, reference.mean) <= LIMIT
    assert relative_error(distribution.log_variance, reference.logvar) <= LIMIT
    assert relative_error(distribution.mode(), reference.mode()) <= LIMIT
    assert relative_error(distribution.kl(), reference.kl()) <= LIMIT


@pytest.mark.parametrize("size", [(8, 8), (6, 10), (5, 3)], ids=str)
@torch.no_grad()
def test_decoding_equals_diffusers(pair: tuple[Autoencoder, Any], size: tuple[int, int]) -> None:
    ours, peer = pair
    latents = torch.randn(2, 4, *size, generator=torch.Generator().manual_seed(2))
    theirs = peer.decode(latents).sample
    assert theirs.std() > 0.05
    assert relative_error(ours.decode(latents), theirs) <= LIMIT


@torch.no_grad()
def test_a_sample_is_the_mean_moved_by_the_noise(pair: tuple[Autoencoder, Any]) -> None:
    ours, peer = pair
    pixels = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(1)) * 2 - 1
    reference = peer.encode(pixels).latent_dist
    theirs = reference.sample(generator=torch.Generator().manual_seed(9))
    noise = torch.randn(theirs.shape, generator=torch.Generator().manual_seed(9))
    assert relative_error(ours.encode(pixels).sample(noise), theirs) <= LIMIT
    rebuilt, distribution = ours(pixels, noise)
    assert torch.equal(rebuilt, ours.decode(distribution.sample(noise)))
    assert torch.equal(ours(pixels)[0], ours.decode(distribution.mean))


def test_the_log_variance_is_clamped() -> None:
    autoencoder = Autoencoder(SMALL_AUTOENCODER)
    assert autoencoder.quant_conv.bias is not None
    with torch.no_grad():
        autoencoder.quant_conv.weight.zero_()
        autoencoder.quant_conv.bias.copy_(torch.tensor([0.0] * 4 + [-99.0, 99.0, 5.0, -5.0]))
        log_variance = autoencoder.encode(torch.zeros(1, 3, 8, 8)).log_variance
    assert log_variance[0, :, 0, 0].tolist() == [-30.0, 20.0, 5.0, -5.0]


def test_the_divergence_equals_torch() -> None:
    generator = torch.Generator().manual_seed(4)
    mean, log_variance = torch.randn(3, 2, 4, 4, generator=generator), torch.randn(3, 2, 4, 4, generator=generator)
    made = torch.distributions.Normal(mean, (0.5 * log_variance).exp())
    unit = torch.distributions.Normal(torch.zeros_like(mean), torch.ones_like(mean))
    expected = torch.distributions.kl_divergence(made, unit).sum(dim=(1, 2, 3))
    assert torch.allclose(LatentDistribution(mean, log_variance).kl(), expected, rtol=1e-5)


def plain_convolution(state: Mapping[str, Tensor], name: str, x: Tensor, stride: int = 1) -> Tensor:
    """A convolution of the state by name; a strided one pads right and bottom only."""
    weight, bias = state[f"{name}.weight"], state[f"{name}.bias"]
    reach = weight.shape[-1] - 1
    before, after = (0, 1) if stride == 2 else (reach // 2, reach // 2)
    return functional.conv2d(functional.pad(x, (before, after, before, after)), weight, bias, stride=stride)


def plain_residual(state: Mapping[str, Tensor], name: str, x: Tensor) -> Tensor:
    """x + conv(silu(conv(silu(x)))), with a 1x1 convolution of x where its channels change."""
    hidden = plain_convolution(state, f"{name}.conv1", x * torch.sigmoid(x))
    hidden = plain_convolution(state, f"{name}.conv2", hidden * torch.sigmoid(hidden))
    shortcut = f"{name}.conv_shortcut"
    return hidden + (plain_convolution(state, shortcut, x) if f"{shortcut}.weight" in state else x)


def plain_encode(config: AutoencoderConfig, state: Mapping[str, Tensor], pixels: Tensor) -> Tensor:
    """Moments before the 1x1 convolution's split, without norms and attention."""
    batch, channels, height, width = pixels.shape
    side = config.patch
    x = pixels.reshape(batch, channels, height // side, side, width // side, side).permute(0, 1, 3, 5, 2, 4)
    x = plain_convolution(state, "encoder.conv_in", x.reshape(batch, -1, height // side, width // side))
    for level in range(len(config.channels)):
        for block in range(config.blocks_per_level):
            x = plain_residual(state, f"encoder.down_blocks.{level}.resnets.{block}", x)
        if level < len(config.channels) - 1:
            x = plain_convolution(state, f"encoder.down_blocks.{level}.downsamplers.0.conv", x, stride=2)
    for block in range(2):
        x = plain_residual(state, f"encoder.mid_block.resnets.{block}", x)
    x = plain_convolution(state, "encoder.conv_out", x * torch.sigmoid(x))
    return plain_convolution(state, "quant_conv", x)


def plain_decode(config: AutoencoderConfig, state: Mapping[str, Tensor], latents: Tensor) -> Tensor:
    """Pixels, without norms and attention."""
    x = plain_convolution(state, "decoder.conv_in", plain_convolution(state, "post_quant_conv", latents))
    for block in range(2):
        x = plain_residual(state, f"decoder.mid_block.resnets.{block}", x)
    for level in range(len(config.channels)):
        for block in range(config.blocks_per_level + 1):
            x = plain_residual(state, f"decoder.up_blocks.{level}.resnets.{block}", x)
        if level < len(config.channels) - 1:
            x = x.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
            x = plain_convolution(state, f"decoder.up_blocks.{level}.upsamplers.0.conv", x)
    x = plain_convolution(state, "decoder.conv_out", x * torch.sigmoid(x))
    batch, _, height, width = x.shape
    side = config.patch
    x = x.reshape(batch, config.picture_channels, side, side, height, width).permute(0, 1, 4, 2, 5, 3)
    return x.reshape(batch, config.picture_channels, height * side, width * side)


@pytest.mark.parametrize("name", PLAIN_CONFIGS)
@torch.no_grad()
def test_the_form_without_norms_equals_a_plain_one(name: str) -> None:
    config = PLAIN_CONFIGS[name]
    torch.manual_seed(6)
    autoencoder = Autoencoder(config)
    state = autoencoder.state_dict()
    height, width = 3 * config.downscale, 2 * config.downscale
    pixels = torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(1)) * 2 - 1
    moments = plain_encode(config, state, pixels)
    distribution = autoencoder.encode(pixels)
    assert distribution.mean.shape == (2, config.latent_channels, 3, 2)
    assert relative_error(torch.cat([distribution.mean, distribution.log_variance], dim=1), moments) <= LIMIT
    latents = torch.randn(2, config.latent_channels, 3, 2, generator=torch.Generator().manual_seed(2))
    decoded = autoencoder.decode(latents)
    assert decoded.shape == pixels.shape
    assert relative_error(decoded, plain_decode(config, state, latents)) <= LIMIT


@pytest.mark.parametrize("config", [SMALL_AUTOENCODER, *PLAIN_CONFIGS.values()], ids=["sd", *PLAIN_CONFIGS])
def test_downscale_is_the_true_ratio(config: AutoencoderConfig) -> None:
    side = 4 * config.downscale
    assert Autoencoder(config).encode(torch.zeros(1, 3, side, side)).mean.shape[-2:] == (4, 4)
    assert config.downscale == config.patch * math.prod([2] * (len(config.channels) - 1))


@torch.no_grad()
def test_without_norms_a_far_pixel_has_no_influence() -> None:
    """What makes tiling exact: a latent depends on its neighbourhood only."""
    autoencoder = Autoencoder(PLAIN_CONFIGS["no patches"])
    pixels = torch.zeros(1, 3, 8, 96)
    changed = pixels.clone()
    changed[..., -1] = 1.0
    difference = (autoencoder.encode(pixels).mean - autoencoder.encode(changed).mean).abs().amax((0, 1, 2))
    assert difference[:32].max() == 0 and difference[-1] > 0
