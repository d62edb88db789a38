"""Small models for adapters: our networks and the peers' with the same weights."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from rein.formats.adapters_names import Targets, parts_of
from rein.nn.adapters import Place
from rein.nn.clip import TextTower
from rein.nn.specs import SD15, SD21_BASE, SDXL, ModelSpec, TextTowerConfig
from rein.nn.unet import UNet
from tests.nn.peers import SMALL_UNETS, native_state, small_tower, unet_peer


def _tower(width: int, **more: Any) -> TextTowerConfig:
    small = TextTowerConfig(
        vocabulary_size=99, context_length=9, width=width, layers=2, heads=2, end_token=98, pad_token=98
    )
    return replace(small, feed_forward_width=36, **more)


SPECS: dict[str, ModelSpec] = {
    "sd1": replace(SD15, unet=SMALL_UNETS["sd1"].config, towers=(_tower(20),)),
    "sd2": replace(SD21_BASE, unet=SMALL_UNETS["sd2"].config, towers=(_tower(20),)),
    "sdxl": replace(SDXL, unet=SMALL_UNETS["sdxl"].config, towers=(_tower(8), _tower(12, projection_width=28))),
}


@dataclass(frozen=True, eq=False)
class Model:
    """One family: our networks, the peers', and what layers there are."""

    spec: ModelSpec
    unet: UNet
    towers: tuple[TextTower, ...]
    peer_unet: nn.Module
    peer_towers: tuple[nn.Module, ...]

    @property
    def parts(self) -> dict[str, nn.Module]:
        """Ours, by part."""
        return parts_of(self.unet, self.towers)

    @functools.cached_property
    def targets(self) -> Targets:
        """The layers."""
        return Targets.of(self.spec, self.parts)

    @functools.cached_property
    def inputs(self) -> dict[str, Tensor]:
        """What the U-Nets are fed."""
        draw = functools.partial(torch.randn, generator=torch.Generator().manual_seed(8))
        inputs = {"x": draw(2, 4, 16, 16), "context": draw(2, 7, 20)}
        if self.spec.unet.pooled_width:
            inputs |= {"pooled": draw(2, 28), "size_ids": draw(2, 6).abs() * 500}
        return inputs

    @torch.no_grad()
    def run(self) -> Tensor:
        """Our U-Net's output."""
        given = self.inputs
        out: Tensor = self.unet(given["x"], TIMES, given["context"], given.get("pooled"), given.get("size_ids"))
        return out

    @torch.no_grad()
    def run_peer(self, unet: nn.Module) -> Tensor:
        """The output of diffusers' U-Net for the same."""
        more = {"text_embeds": self.inputs.get("pooled"), "time_ids": self.inputs.get("size_ids")}
        out: Tensor = unet(self.inputs["x"], TIMES, self.inputs["context"], added_cond_kwargs=more).sample
        return out

    @torch.no_grad()
    def run_tower(self, index: int) -> Tensor:
        """The last state of our text tower."""
        return self.towers[index](IDS).last  # type: ignore[no-any-return]

    @torch.no_grad()
    def run_peer_tower(self, tower: nn.Module) -> Tensor:
        """That of transformers'."""
        return tower(input_ids=IDS).last_hidden_state  # type: ignore[no-any-return]


TIMES = torch.tensor([7, 601])
IDS = torch.tensor([[3, 14, 15, 92, 65, 35, 89, 79, 98], [2, 71, 82, 81, 82, 84, 59, 4, 98]])


@functools.cache
def model(family: str) -> Model:
    """The small model of a family."""
    torch.manual_seed(1)
    spec = SPECS[family]
    peer_unet, unet = unet_peer(SMALL_UNETS[family].peer).eval(), UNet(spec.unet).eval().requires_grad_(False)
    unet.load_state_dict(native_state(peer_unet))
    peer_towers = tuple(small_tower(config).eval() for config in spec.towers)
    towers = tuple(TextTower(config).eval().requires_grad_(False) for config in spec.towers)
    for ours, theirs in zip(towers, peer_towers, strict=True):
        ours.load_state_dict(native_state(theirs))
    return Model(spec, unet, towers, peer_unet, peer_towers)


Name = Callable[[Place], str]

_UNET_PROCESSORS = {"to_q": "to_q_lora", "to_k": "to_k_lora", "to_v": "to_v_lora", "to_out.0": "to_out_lora"}


def kohya(place: Place) -> str:
    """The name in a kohya file for a model with one tower."""
    return {"unet": "lora_unet_", "tower": "lora_te_"}[place[0]] + place[1].replace(".", "_")


def kohya_xl(place: Place) -> str:
    """The name in a kohya file for SDXL, with the blocks of diffusers."""
    return {"unet": "lora_unet_", "tower": "lora_te1_", "tower_2": "lora_te2_"}[place[0]] + place[1].replace(".", "_")


def peft(place: Place) -> str:
    """The name in a file that diffusers writes."""
    return {"unet": "unet.", "tower": "text_encoder.", "tower_2": "text_encoder_2."}[place[0]] + place[1]


def headless(place: Place) -> str:
    """The same with text towers named as in transformers 5."""
    return peft((place[0], place[1].removeprefix("text_model.")))


def processors(place: Place) -> str:
    """The name of an attention layer in a file of diffusers before PEFT."""
    for layer, old in _UNET_PROCESSORS.items():
        if place[1].endswith(f".{layer}"):
            return f"unet.{place[1].removesuffix(layer)}processor.{old}"
    return peft(place)
