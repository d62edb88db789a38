"""The shared blocks: enlargement with its gradient, timestep features, resampling."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from rein.nn.autoencoder import Autoencoder
from rein.nn.layers import Downsample, ResidualBlock, Upsample, doubled, timestep_features
from rein.nn.specs import POCKET
from tests.nn.peers import relative_error

SIZES = [(2, 3, 4, 5), (1, 1, 1, 1), (3, 8, 7, 2)]


def picture(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1), dtype=dtype)


@pytest.mark.parametrize("arrangement", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("shape", SIZES, ids=str)
def test_doubled_equals_nearest_interpolation_and_its_gradient(
    shape: tuple[int, ...], arrangement: torch.memory_format
) -> None:
    x = picture(*shape).contiguous(memory_format=arrangement).requires_grad_()
    twin = x.detach().clone().requires_grad_()
    ours, theirs = doubled(x), functional.interpolate(twin, scale_factor=2.0, mode="nearest")
    assert torch.equal(ours, theirs)
    assert ours.shape[1] == 1 or ours.is_contiguous(memory_format=torch.channels_last)
    slope = torch.randn(theirs.shape, generator=torch.Generator().manual_seed(2))
    ours.backward(slope)
    theirs.backward(slope)
    assert x.grad is not None and twin.grad is not None
    assert relative_error(x.grad, twin.grad) <= 1e-6


def test_the_gradient_of_doubled_is_the_sum_of_its_four_pixels() -> None:
    x = picture(1, 2, 3, 3, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(doubled, (x,))
    slope = torch.arange(72, dtype=torch.float64).reshape(1, 2, 6, 6)
    doubled(x).backward(slope)
    expected = slope[:, :, 0::2, 0::2] + slope[:, :, 0::2, 1::2] + slope[:, :, 1::2, 0::2] + slope[:, :, 1::2, 1::2]
    assert x.grad is not None and torch.equal(x.grad, expected)


def gradients(autoencoder: Autoencoder, pixels: Tensor, autocast: bool) -> dict[str, Tensor]:
    """Of the mean absolute error, for every weight."""
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        rebuilt, _ = autoencoder(pixels)
    (rebuilt.float() - pixels).abs().mean().backward()
    found = {name: parameter.grad for name, parameter in autoencoder.named_parameters() if parameter.grad is not None}
    autoencoder.zero_grad(set_to_none=True)
    return found


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")  # torch's compiler about torch itself
def test_compiled_in_half_precision_the_gradient_is_right() -> None:
    """With `interpolate` in place of `doubled`, PyTorch 2.13 gives this very network zeros for 44 of its weights."""
    torch.manual_seed(0)
    config = replace(POCKET.autoencoder, channels=(32, 32))
    autoencoder = Autoencoder(config).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    pixels = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1)) * 2 - 1
    pixels = pixels.contiguous(memory_format=torch.channels_last)
    expected = gradients(autoencoder, pixels, autocast=False)
    autoencoder.compile()
    found = gradients(autoencoder, pixels, autocast=True)
    assert found.keys() == expected.keys() and len(found) > 40
    for name, value in expected.items():
        cosine = functional.cosine_similarity(found[name].flatten(), value.flatten(), dim=0)
        assert cosine > 0.98, name  # bfloat16 has 8 bits


def test_timestep_features_are_cosines_then_sines() -> None:
    features = timestep_features(torch.tensor([0.0, 1.0, 250.5]), 8)
    assert features.shape == (3, 8) and features.dtype == torch.float32
    for row, value in zip(features.tolist(), [0.0, 1.0, 250.5], strict=True):
        angles = [value * 10_000 ** (-index / 4) for index in range(4)]
        expected = [math.cos(angle) for angle in angles] + [math.sin(angle) for angle in angles]
        assert row == pytest.approx(expected, abs=2e-5)


def test_timestep_features_keep_leading_shapes() -> None:
    assert timestep_features(torch.zeros(2, 6), 10).shape == (2, 6, 10)


@torch.no_grad()
def test_upsampling_to_an_odd_size_is_nearest() -> None:
    layer, x = Upsample(4), picture(1, 4, 3, 2)
    enlarged = functional.interpolate(x, size=(5, 4), mode="nearest")
    assert relative_error(layer(x, (5, 4)), layer.conv(enlarged)) <= 1e-6
    assert layer(x, (5, 4)).shape == (1, 4, 5, 4)
    assert torch.equal(layer(x, (6, 4)), layer(x))


@torch.no_grad()
def test_the_two_paddings_of_downsampling() -> None:
    x = picture(1, 4, 6, 8)
    both, right_and_bottom = Downsample(4), Downsample(4, one_sided=True)
    right_and_bottom.load_state_dict(both.state_dict())
    assert both(x).shape == right_and_bottom(x).shape == (1, 4, 3, 4)
    moved = functional.pad(x, (0, 1, 0, 1))[:, :, 1:, 1:]  # padding on the other two sides sees the picture moved
    inner = both(moved)[:, :, 1:, 1:]
    assert relative_error(right_and_bottom(x)[:, :, 1:, 1:], inner) <= 1e-6


@torch.no_grad()
def test_a_residual_block_without_time_ignores_it() -> None:
    block, x = ResidualBlock(4, 6, 0, 2, 1e-6), picture(2, 4, 3, 3)
    assert torch.equal(block(x, picture(2, 5)), block(x))
    timed = ResidualBlock(4, 6, 5, 2, 1e-6)
    assert not torch.equal(timed(x, picture(2, 5)), timed(x, -picture(2, 5)))
