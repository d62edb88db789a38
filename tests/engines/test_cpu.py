"""Networks laid out for the CPU: the same names, weights and answers, in training as in inference."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from rein.engines import cpu
from rein.engines.cpu import PointwiseConv2d, SortedConv2d, lay_out, sorting_available
from rein.nn.attention import Attention
from rein.nn.seamless import seamless
from rein.nn.unet import UNet
from tests.pipeline.small import SPECS, networks

needs_sorting = pytest.mark.skipif(not sorting_available(), reason="this PyTorch cannot keep sorted weights")

FAMILIES = tuple(SPECS)


def unet_of(family: str) -> UNet:
    return networks(SPECS[family])[0].eval().requires_grad_(False)


def inputs(unet: UNet, side: int = 8, batch: int = 2) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(1)
    config = unet.config
    x = torch.randn(batch, config.in_channels, side, side, generator=generator)
    words = [torch.randn(batch, 12, config.context_width, generator=generator)]
    words += [torch.randn(batch, config.pooled_width, generator=generator)] if config.pooled_width else []
    words += [torch.full((batch, config.size_ids), 32.0)] if config.size_ids else []
    return x, torch.tensor([500.0]).expand(batch), *words


def relative_error(ours: Tensor, theirs: Tensor) -> float:
    return float((ours - theirs).abs().max() / theirs.abs().max())


@pytest.mark.parametrize("sort", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_names_weights_and_answers_stay(family: str, sort: bool) -> None:
    plain = unet_of(family)
    ours = lay_out(copy.deepcopy(plain), sort)
    before, after = plain.state_dict(), ours.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(value, before[name]) for name, value in after.items())
    for side, batch in ((8, 2), (20, 1), (8, 2)):
        with torch.inference_mode():
            assert relative_error(ours(*inputs(plain, side, batch)), plain(*inputs(plain, side, batch))) <= 2e-5


@needs_sorting
def test_convolutions_are_replaced_and_only_on_request() -> None:
    kinds = [{type(layer) for layer in lay_out(unet_of("sd1"), sort).modules()} for sort in (False, True)]
    assert nn.Conv2d in kinds[0] and not {SortedConv2d, PointwiseConv2d} & kinds[0]
    assert nn.Conv2d not in kinds[1] and {SortedConv2d, PointwiseConv2d} <= kinds[1]


@needs_sorting
def test_weights_are_sorted_once_for_a_size_and_again_when_they_change() -> None:
    plain = nn.Conv2d(8, 16, 3, stride=2, padding=1).requires_grad_(False)
    layer = SortedConv2d(plain)
    x = torch.randn(2, 8, 6, 6, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        first = layer(x)
        kept = layer._sorted
        assert relative_error(first, plain(x)) <= 1e-5
        layer(x[:1])
        assert layer._sorted is kept
        assert layer(x[:, :, :4, :4]).shape == (2, 16, 2, 2)
        assert layer._sorted is not kept
    with torch.no_grad():
        layer.weight.mul_(2.0)
    with torch.inference_mode():
        assert relative_error(layer(x), plain(x)) <= 1e-5
    layer.weight = nn.Parameter(torch.zeros_like(plain.weight))
    with torch.inference_mode():
        assert torch.equal(layer(x), plain.bias[:, None, None].expand(2, 16, 3, 3))  # type: ignore[index]


@needs_sorting
def test_a_network_made_in_inference_mode_works() -> None:
    with torch.inference_mode():
        unet = lay_out(unet_of("pocket"), sort=True)
        assert unet(*inputs(unet_of("pocket"))).isfinite().all()


@needs_sorting
def test_training_still_works_on_the_same_parameters() -> None:
    plain = unet_of("sd1")
    ours = lay_out(copy.deepcopy(plain), sort=True)
    for network in (plain, ours):
        network.requires_grad_(True)
        functional.mse_loss(network(*inputs(plain)), torch.ones(2, 4, 8, 8)).backward()
    gradients = {name: parameter.grad for name, parameter in ours.named_parameters()}
    for name, parameter in plain.named_parameters():
        ours_gradient = gradients[name]
        assert parameter.grad is not None and ours_gradient is not None
        assert (ours_gradient - parameter.grad).norm() <= 1e-4 * parameter.grad.norm() + 1e-7, name


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_other_number_formats_are_left_as_they_are(dtype: torch.dtype) -> None:
    unet = lay_out(unet_of("pocket").to(dtype), sort=True)
    assert nn.Conv2d in {type(layer) for layer in unet.modules()}
    with torch.inference_mode():
        x, timestep, *words = inputs(unet_of("pocket"))
        assert unet(x.to(dtype), timestep, *(entry.to(dtype) for entry in words)).dtype == dtype


def test_a_network_with_too_much_to_sort_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu, "MOST_SORTED", 1000)
    assert nn.Conv2d in {type(layer) for layer in lay_out(unet_of("sd1"), sort=True).modules()}


def test_linear_weights_are_transposed_in_memory_only() -> None:
    layer = nn.Linear(3, 5)
    values = layer.weight.detach().clone()
    lay_out(layer)
    assert torch.equal(layer.weight, values) and layer.weight.t().is_contiguous()
    assert layer.weight.requires_grad


def test_probes_still_see_queries_and_keys() -> None:
    unet = lay_out(unet_of("sd1"), sort=True)
    seen: list[tuple[int, ...]] = []
    probed = next(module for module in unet.modules() if isinstance(module, Attention))
    probed.probe = lambda query, key: seen.append(tuple(query.shape))
    with torch.inference_mode():
        unet(*inputs(unet_of("sd1")))
    assert seen == [(2, 2, 64, 4)]


@needs_sorting
def test_sorted_convolutions_can_be_seamless_and_go_back() -> None:
    plain = unet_of("sd1")
    ours = lay_out(copy.deepcopy(plain), sort=True)
    assert isinstance(ours, UNet)
    with torch.inference_mode():
        before = ours(*inputs(plain, 8, 1))
        with seamless(ours, "x"), seamless(plain, "x"):
            assert relative_error(ours(*inputs(plain, 8, 1)), plain(*inputs(plain, 8, 1))) <= 2e-5
        assert torch.equal(ours(*inputs(plain, 8, 1)), before)
