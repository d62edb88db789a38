"""Models of several families with the same random weights in our classes and in those of diffusers and transformers."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from rein.formats.checkpoint import save_model
from rein.nn.autoencoder import Autoencoder
from rein.nn.clip import TextTower
from rein.nn.specs import SD15, SD21, SD21_BASE, SDXL, ModelSpec, ScheduleConfig, TextTowerConfig
from rein.nn.unet import UNet
from rein.pipeline.model import Model, load
from rein.text.vocabulary import clip_vocabulary
from tests.nn.peers import (
    SMALL_AUTOENCODER,
    SMALL_AUTOENCODER_PEER,
    SMALL_UNETS,
    autoencoder_peer,
    native_state,
    small_tower,
    unet_peer,
)

SIDE = 64

SCHEDULE = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012, "num_train_timesteps": 1000}


def _tower(config: TextTowerConfig, width: int) -> TextTowerConfig:
    small = replace(config, width=width, layers=2, heads=2, feed_forward_width=24)
    return replace(small, projection_width=28 if config.projection_width else 0)


def _spec(family: str, published: ModelSpec, widths: tuple[int, ...], **changes: Any) -> ModelSpec:
    towers = tuple(_tower(tower, width) for tower, width in zip(published.towers, widths, strict=True))
    unet = SMALL_UNETS[family].config
    return replace(published, unet=unet, autoencoder=SMALL_AUTOENCODER, towers=towers, native_size=SIDE, **changes)


SPECS = {
    "sd1": _spec("sd1", SD15, (20,)),
    "sd2": _spec("sd2", SD21, (20,)),
    "sd2-zero-snr": _spec("sd2", SD21, (20,), schedule=ScheduleConfig(zero_terminal_snr=True)),
    "sdxl": _spec("sdxl", SDXL, (8, 12)),
    "inpainting": _spec("inpainting", SD15, (20,)),
    "editing": _spec("editing", SD15, (20,)),
    "depth": _spec("depth", SD21_BASE, (20,)),
}


@dataclass(frozen=True)
class Peers:
    """The same model in diffusers' and transformers' classes, and in ours."""

    model: Model
    unet: Any
    autoencoder: Any
    towers: list[Any]
    tokenizers: list[Any]


def clip_tokenizers(folder: Path) -> dict[int, Any]:
    """transformers' CLIP tokenizer by what it pads with: the end (49407), or "!" (0) as for OpenCLIP's towers."""
    from transformers import CLIPTokenizer

    vocabulary = clip_vocabulary()
    (folder / "vocab.json").write_text(json.dumps(vocabulary.ids), encoding="utf-8")
    merges = "".join(f"{first} {second}\n" for first, second in vocabulary.merges)
    (folder / "merges.txt").write_text("#version: 0.2\n" + merges, encoding="utf-8")
    signs = {49407: "<|endoftext|>", 0: "!"}
    return {
        pad: CLIPTokenizer.from_pretrained(folder, model_max_length=77, pad_token=sign) for pad, sign in signs.items()
    }


def build(family: str, folder: Path, tokenizers: dict[int, Any]) -> Peers:
    """The peers of a family with random weights, and our model from their weights, through a model folder."""
    spec = SPECS[family]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        unet = unet_peer(SMALL_UNETS[family.removesuffix("-zero-snr")].peer).eval()
        autoencoder = autoencoder_peer(SMALL_AUTOENCODER_PEER).eval()
        towers = [small_tower(config).eval() for config in spec.towers]
        with torch.no_grad():
            unet.get_parameter("conv_out.weight").mul_(4.0)  # so that words and noise move the picture
    ours = [UNet(spec.unet), Autoencoder(spec.autoencoder), *(TextTower(config) for config in spec.towers)]
    for module, peer in zip(ours, [unet, autoencoder, *towers], strict=True):
        module.load_state_dict(native_state(peer))
    save_model(folder / family, spec, ours[0], ours[1], ours[2:], dtype=torch.float32)  # type: ignore[arg-type]
    _tell(unet, sample_size=64)  # some pipelines compare it
    _tell(autoencoder, scaling_factor=spec.latent_scale, force_upcast=False)
    words = [tokenizers[config.pad_token] for config in spec.towers]
    return Peers(load(folder / family, "cpu", "float32"), unet, autoencoder, towers, words)


def _tell(peer: Any, **settings: object) -> None:
    peer.register_to_config(**settings)
