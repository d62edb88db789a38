"""The U-Net beside diffusers' with the same weights, for every family, shrunken."""

from __future__ import annotations

import copy
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from rein.nn.attention import Attention, SpatialTransformer
from rein.nn.specs import UNetConfig
from rein.nn.unet import UNet
from tests.nn.peers import SMALL_UNETS, native_state, relative_error, unet_peer

LIMIT = 1e-5
TOKENS = 7


@cache
def pair(family: str) -> tuple[UNet, nn.Module]:
    """Our U-Net and diffusers', with diffusers' first weights; loading is strict about names and shapes."""
    small = SMALL_UNETS[family]
    torch.manual_seed(3)
    peer = unet_peer(small.peer).eval()
    unet = UNet(small.config).eval()
    unet.load_state_dict(native_state(peer), strict=True)
    return unet, peer


def inputs(config: UNetConfig, batch: int, size: tuple[int, int]) -> dict[str, Tensor]:
    """Noisy latents, timesteps from both ends, text, and the vectors that a family has besides."""
    generator = torch.Generator().manual_seed(11)
    given = {
        "x": torch.randn(batch, config.in_channels, *size, generator=generator),
        "timestep": torch.linspace(999.0, 0.5, batch) if batch > 1 else torch.tensor([421.5]),
        "context": torch.randn(batch, TOKENS, config.context_width, generator=generator),
    }
    if config.pooled_width:
        given["pooled"] = torch.randn(batch, config.pooled_width, generator=generator)
    if config.size_ids:
        given["size_ids"] = torch.randint(0, 1024, (batch, config.size_ids), generator=generator).float()
    return given


def ask_peer(peer: Any, given: dict[str, Tensor]) -> Tensor:
    """The same call in diffusers' words."""
    options: dict[str, Any] = {}
    if "size_ids" in given:
        options["added_cond_kwargs"] = {"text_embeds": given["pooled"], "time_ids": given["size_ids"]}
    elif "pooled" in given:
        options["class_labels"] = given["pooled"]
    sample: Tensor = peer(given["x"], given["timestep"], given["context"], **options).sample
    return sample


@pytest.mark.parametrize("size", [(8, 8), (12, 20), (9, 7)], ids=["even", "uneven", "odd"])
@pytest.mark.parametrize("family", SMALL_UNETS)
@torch.no_grad()
def test_the_output_equals_diffusers(family: str, size: tuple[int, int]) -> None:
    unet, peer = pair(family)
    given = inputs(unet.config, 3, size)
    theirs = ask_peer(peer, given)
    assert theirs.std() > 0.05  # a network that says nothing would agree with anything
    assert relative_error(unet(**given), theirs) <= LIMIT


@pytest.mark.parametrize("family", SMALL_UNETS)
@torch.no_grad()
def test_one_timestep_serves_a_whole_batch(family: str) -> None:
    unet, _ = pair(family)
    given = inputs(unet.config, 2, (8, 8))
    expected = unet(**given | {"timestep": torch.full((2,), 250.0)})
    for timestep in (torch.tensor(250.0), torch.tensor([250.0])):
        assert torch.equal(unet(**given | {"timestep": timestep}), expected)


@pytest.mark.parametrize("family", SMALL_UNETS)
@torch.no_grad()
def test_gradients_equal_diffusers(family: str) -> None:
    unet, peer = pair(family)
    given = inputs(unet.config, 2, (8, 8))
    with torch.enable_grad():
        weight, reference = unet.conv_in.weight, dict(peer.named_parameters())["conv_in.weight"]
        ours = torch.autograd.grad(unet(**given).square().mean(), weight)[0]
        theirs = torch.autograd.grad(ask_peer(peer, given).square().mean(), reference)[0]
    assert relative_error(ours, theirs) <= 10 * LIMIT  # sums over all pixels, in another order


@pytest.mark.parametrize("family", SMALL_UNETS)
@torch.no_grad()
def test_text_keys_replace_the_context_exactly(family: str) -> None:
    unet, _ = pair(family)
    given = inputs(unet.config, 2, (8, 8))
    expected = unet(**given)
    keys = unet.text_keys(given.pop("context"))
    assert torch.equal(unet(**given, text_keys=keys), expected)
    crossed = [name for name, module in unet.named_modules() if name.endswith("attn2")]
    assert len(keys) == len(crossed) > 0


@pytest.mark.parametrize("family", SMALL_UNETS)
@torch.no_grad()
def test_time_shifts_replace_the_timestep(family: str) -> None:
    unet, _ = pair(family)
    given = inputs(unet.config, 2, (8, 8))
    del given["timestep"]
    timesteps = torch.tensor([999.0, 421.5, 3.0])
    vectors = {name: given[name] for name in ("pooled", "size_ids") if name in given}
    every = unet.time_shifts(timesteps, **vectors)
    assert len(every) == 3
    for timestep, shifts in zip(timesteps, every, strict=True):
        expected = unet(**given, timestep=timestep)
        rest = {name: value for name, value in given.items() if name not in vectors}
        assert relative_error(unet(**rest, timestep=timestep, time_shifts=shifts), expected) <= LIMIT


@torch.no_grad()
def test_a_copy_finds_its_own_text_keys() -> None:
    first = copy.deepcopy(pair("sdxl")[0])
    twin = copy.deepcopy(first)
    given = inputs(first.config, 1, (8, 8))
    expected = first(**given)
    for parameter in first.parameters():
        parameter.zero_()
    context = given.pop("context")
    assert torch.equal(twin(**given, text_keys=twin.text_keys(context)), expected)


@torch.no_grad()
def test_a_picture_does_not_depend_on_the_others_of_its_batch() -> None:
    unet, _ = pair("sd1")
    given = inputs(unet.config, 3, (8, 8))
    together = unet(**given)
    for index in range(3):
        alone = unet(**{name: value[index : index + 1] for name, value in given.items()})
        assert relative_error(alone, together[index : index + 1]) <= LIMIT


@torch.no_grad()
def test_channels_last_memory_changes_rounding_only() -> None:
    unet, _ = pair("pocket")
    given = inputs(unet.config, 2, (12, 20))
    expected = unet(**given)
    arranged = copy.deepcopy(unet).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    given["x"] = given["x"].contiguous(memory_format=torch.channels_last)
    assert relative_error(arranged(**given), expected) <= LIMIT


@pytest.mark.parametrize("missing", ["pooled", "size_ids"])
def test_a_missing_vector_is_named(missing: str) -> None:
    unet, _ = pair("sdxl")
    given = inputs(unet.config, 1, (8, 8))
    del given[missing]
    with pytest.raises(ValueError, match=missing.replace("_", " ")):
        unet(**given)


@torch.no_grad()
def test_the_probe_sees_every_attention_and_changes_nothing() -> None:
    unet = copy.deepcopy(pair("sdxl")[0])
    attentions = [module for module in unet.modules() if isinstance(module, Attention)]
    assert all(attention.probe is None for attention in attentions)
    given = inputs(unet.config, 2, (8, 8))
    expected = unet(**given)
    seen: list[tuple[torch.Size, torch.Size]] = []
    for attention in attentions:
        attention.probe = lambda query, key: seen.append((query.shape, key.shape))
    assert torch.equal(unet(**given), expected)
    assert len(seen) == len(attentions)
    assert {key[2] for query, key in seen if key[2] != query[2]} == {TOKENS}
    keys = unet.text_keys(given.pop("context"))
    seen.clear()
    assert torch.equal(unet(**given, text_keys=keys), expected)
    assert len(seen) == len(attentions)


def test_levels_without_transformers_have_none() -> None:
    config = replace(SMALL_UNETS["sd1"].config, transformer_depth=(0, 0, 0, 0), middle_depth=0)
    unet = UNet(config)
    assert not any(isinstance(module, SpatialTransformer) for module in unet.modules())
    assert unet(torch.randn(1, 4, 8, 8), torch.tensor([5.0])).shape == (1, 4, 8, 8)
