"""Configurations as data: there and back through JSON, what is refused, and that every field does something."""

from __future__ import annotations

import ast
import json
from collections.abc import Callable
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import rein
from rein.diffusion.schedule import make_schedule
from rein.errors import InputError
from rein.nn.autoencoder import Autoencoder
from rein.nn.clip import TextTower
from rein.nn.discriminator import PatchDiscriminator
from rein.nn.specs import (
    POCKET,
    VARIANTS,
    AutoencoderConfig,
    DiscriminatorConfig,
    ModelSpec,
    ScheduleConfig,
    TextTowerConfig,
    UNetConfig,
    from_dict,
    to_dict,
    variant,
)
from rein.nn.unet import UNet
from rein.text.encode import window_ids
from rein.text.tokenizer import clip_tokenizer
from tests.nn.peers import SMALL_AUTOENCODER, SMALL_UNETS, shapes


@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_survives_json(name: str) -> None:
    spec = VARIANTS[name]
    assert spec.name == name
    text = json.dumps(to_dict(spec))
    assert from_dict(ModelSpec, json.loads(text)) == spec


def test_a_variant_is_found_by_name_or_its_neighbour_is_named() -> None:
    assert variant("sdxl") is VARIANTS["sdxl"]
    with pytest.raises(InputError, match="'sdlx' is unknown: did you mean 'sdxl'"):
        variant("sdlx")


def changed(path: str, value: Any) -> dict[str, Any]:
    """pocket as plain values with one of them changed; the path is dotted."""
    values = to_dict(POCKET)
    *parents, last = path.split(".")
    place: Any = values
    for name in parents:
        place = place[int(name)] if name.isdigit() else place[name]
    place[last] = value
    return values


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("unett", 1, r"model\.unett is unknown: did you mean 'unet'"),
        ("unet.chanels", [1], r"model\.unet\.chanels is unknown: did you mean 'channels'"),
        ("towers.0.widht", 1, r"model\.towers\[0\]\.widht is unknown: did you mean 'width'"),
        ("unet.in_channels", "4", r"model\.unet\.in_channels is '4', but must be of type int"),
        ("unet.in_channels", 4.0, r"model\.unet\.in_channels is 4\.0, but must be of type int"),
        ("unet.in_channels", True, r"model\.unet\.in_channels is True, but must be of type int"),
        ("unet.linear_projection", 1, r"model\.unet\.linear_projection is 1, but must be of type bool"),
        ("unet.channels", 96, r"model\.unet\.channels is 96, but must be a list"),
        ("unet.channels", [96, "160", 192], r"model\.unet\.channels\[1\] is '160', but must be of type int"),
        ("unet.heads", [3, 5], r"model\.unet\.heads has 2 numbers, but there are 3 levels"),
        ("unet.transformer_depth", [1] * 4, r"model\.unet\.transformer_depth has 4 numbers, but there are 3 levels"),
        ("unet.heads", [5, 5, 6], r"model\.unet\.heads is 5, but must divide the 96 channels"),
        ("unet.heads", [0, 5, 6], r"model\.unet\.heads is \(0, 5, 6\), but must be at least 1"),
        ("unet.norm_groups", 36, r"model\.unet\.norm_groups is 36, but must divide the 96 channels"),
        ("unet.blocks_per_level", 0, r"model\.unet\.blocks_per_level is 0, but must be at least 1"),
        ("autoencoder.channels", [], r"model\.autoencoder\.channels is \(\), but must be at least 1"),
        ("autoencoder.patch", 0, r"model\.autoencoder\.patch is 0, but must be at least 1"),
        ("towers.0.heads", 7, r"model\.towers\[0\]\.heads is 7, but must divide the 256 channels"),
        ("towers", {}, r"model\.towers is \{\}, but must be a list"),
        ("unet", [1], r"model\.unet must be an object, not list"),
        ("prediction", "epsilom", r"model\.prediction is 'epsilom'.*did you mean 'epsilon'"),
        ("latent_scale", "1", r"model\.latent_scale is '1', but must be of type float"),
        ("latent_scale", True, r"model\.latent_scale is True, but must be of type float"),
        ("name", 3, r"model\.name is 3, but must be of type str"),
    ],
)
def test_what_is_wrong_is_refused_with_its_path(path: str, value: Any, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        from_dict(ModelSpec, changed(path, value))
    assert "\n" not in str(caught.value)


def test_a_whole_number_may_stand_for_a_fraction() -> None:
    spec = from_dict(ModelSpec, changed("latent_scale", 2))
    assert isinstance(spec.latent_scale, float) and spec.latent_scale == 2.0


def test_a_missing_name_is_told() -> None:
    values = to_dict(POCKET)
    del values["name"]
    with pytest.raises(InputError, match=r"model\.name is missing"):
        from_dict(ModelSpec, values)


def test_something_else_than_an_object_is_refused() -> None:
    with pytest.raises(InputError, match="model must be an object, not list"):
        from_dict(ModelSpec, [1, 2])  # type: ignore[arg-type]


UNET = replace(SMALL_UNETS["sdxl"].config, blocks_per_level=1)
UNET_CHANGES: dict[str, Any] = {
    "in_channels": 5,
    "out_channels": 3,
    "channels": (32, 32, 48),
    "blocks_per_level": 2,
    "transformer_depth": (0, 1, 2),
    "middle_depth": 1,
    "heads": (2, 2, 6),
    "context_width": 12,
    "linear_projection": False,
    "norm_groups": 4,
    "pooled_width": 20,
    "size_ids": 4,
    "size_id_width": 12,
    "guidance_width": 6,
}
AUTOENCODER_CHANGES: dict[str, Any] = {
    "design": "tiny",
    "picture_channels": 1,
    "latent_channels": 3,
    "channels": (16, 32, 32),
    "blocks_per_level": 1,
    "norm_groups": 4,
    "middle_attention": False,
    "patch": 2,
}
TOWER = TextTowerConfig(90, 8, 16, 2, 4, 24, projection_width=6, end_token=88, pad_token=0)
TOWER_CHANGES: dict[str, Any] = {
    "vocabulary_size": 91,
    "context_length": 9,
    "width": 24,
    "layers": 3,
    "heads": 2,
    "feed_forward_width": 32,
    "activation": "gelu",
    "projection_width": 5,
    "end_token": 87,
    "context_layer": "penultimate",
}
DISCRIMINATOR_CHANGES: dict[str, Any] = {"picture_channels": 1, "channels": 32, "layers": 2}


def ask_unet(module: Any) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    x, context = torch.randn(1, 4, 8, 8, generator=generator), torch.randn(1, 5, 20, generator=generator)
    out: Tensor = module(x, torch.tensor([300.0]), context, torch.ones(1, 28), torch.arange(6.0)[None])
    return out


def ask_autoencoder(module: Any) -> Tensor:
    out: Tensor = module(torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(1)))[0]
    return out


def ask_tower(module: Any) -> Tensor:
    features = module(torch.tensor([[3, 9, 4, 87, 6, 88, 0, 0]]))
    return torch.cat([module.context(features).flatten(), features.pooled.flatten()])


def ask_discriminator(module: Any) -> Tensor:
    out: Tensor = module(torch.zeros(1, 3, 32, 32))
    return out


Case = tuple[Callable[[Any], nn.Module], Any, dict[str, Any], Callable[[Any], Tensor]]
NETWORKS: dict[str, Case] = {
    "unet": (UNet, UNET, UNET_CHANGES, ask_unet),
    "autoencoder": (Autoencoder, SMALL_AUTOENCODER, AUTOENCODER_CHANGES, ask_autoencoder),
    "tower": (TextTower, TOWER, TOWER_CHANGES, ask_tower),
    "discriminator": (PatchDiscriminator, DiscriminatorConfig(channels=16), DISCRIMINATOR_CHANGES, ask_discriminator),
}
KINDS = {"unet": UNetConfig, "autoencoder": AutoencoderConfig, "tower": TextTowerConfig, "discriminator": None}


@pytest.mark.parametrize("name", NETWORKS)
def test_the_changes_below_cover_every_field(name: str) -> None:
    _, base, changes, _ = NETWORKS[name]
    read_elsewhere = {"pad_token", "dropped_layers"} if name == "tower" else set()
    assert changes.keys() == {entry.name for entry in fields(base)} - read_elsewhere
    assert all(getattr(base, field) != value for field, value in changes.items())


@pytest.mark.parametrize(("name", "field"), [(name, field) for name, case in NETWORKS.items() for field in case[2]])
@torch.no_grad()
def test_every_field_changes_the_network(name: str, field: str) -> None:
    """Its weights' names or shapes; or, with the same weights, what it answers."""
    build, base, changes, ask = NETWORKS[name]
    torch.manual_seed(2)
    first, second = build(base), build(replace(base, **{field: changes[field]}))
    if shapes(first.state_dict()) == shapes(second.state_dict()):
        second.load_state_dict(first.state_dict())
        assert not torch.allclose(ask(first), ask(second), rtol=1e-4)


def test_the_pad_token_fills_a_short_text() -> None:
    tokenizer = clip_tokenizer()
    base = replace(TOWER, vocabulary_size=49_408, end_token=49_407, projection_width=0)
    with torch.device("meta"):
        rows = [window_ids([5], TextTower(replace(base, pad_token=pad)), tokenizer, 1)[0] for pad in (0, 7)]
    assert rows[0][3:] == (0,) * 5 and rows[1][3:] == (7,) * 5


SCHEDULES: dict[str, tuple[ScheduleConfig, Any]] = {
    "kind": (ScheduleConfig(), "linear"),
    "steps": (ScheduleConfig(), 500),
    "beta_start": (ScheduleConfig(), 0.001),
    "beta_end": (ScheduleConfig(), 0.02),
    "zero_terminal_snr": (ScheduleConfig(), True),
    "shift": (ScheduleConfig(kind="flow"), 3.0),
}


def test_every_field_of_the_schedule_changes_its_levels() -> None:
    assert SCHEDULES.keys() == {entry.name for entry in fields(ScheduleConfig)}
    for field, (base, value) in SCHEDULES.items():
        first, second = (make_schedule(**asdict(entry)) for entry in (base, replace(base, **{field: value})))
        assert (first.sigma_min, first.sigma_max) != (second.sigma_min, second.sigma_max), field


def test_every_field_of_a_model_is_read_somewhere() -> None:
    """A number in model.json that nothing reads would be a promise that nothing keeps."""
    folder = Path(rein.__file__).parent
    trees = [ast.parse(path.read_text()) for path in folder.rglob("*.py") if path.name != "specs.py"]
    read = {
        node.attr
        for tree in trees
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and ast.unparse(node.value).split(".")[-1] in ("spec", "_spec")
    }
    assert {entry.name for entry in fields(ModelSpec)} - read == set()
