"""The same networks in diffusers and transformers, at full size from the published configurations, and shrunken.

The U-Nets' tables are those of `benchmarks.families`; the others are written out as published, apart from our own
configurations.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.families import family, shrunken_unet, unet_options
from rein.nn.specs import POCKET, AutoencoderConfig, TextTowerConfig, UNetConfig

os.environ["HF_HUB_OFFLINE"] = "1"

from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

UNET_SD15 = unet_options("sd15")
UNET_SD2 = unet_options("sd21-base")
UNET_SDXL = unet_options("sdxl")
UNET_REFINER = unet_options("sdxl-refiner")
UNET_POCKET: dict[str, Any] = {
    "in_channels": 12,
    "out_channels": 12,
    "block_out_channels": POCKET.unet.channels,
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "layers_per_block": 1,
    "cross_attention_dim": 256,
    "attention_head_dim": POCKET.unet.heads,
    "use_linear_projection": True,
    "class_embed_type": "projection",
    "projection_class_embeddings_input_dim": 256,
}
"""The embedded model's. Pooled text without size ids is what diffusers calls a projected class embedding."""

AUTOENCODER_SD: dict[str, Any] = {
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 2,
    "latent_channels": 4,
}
"""The autoencoder of all three families."""

TOWER_L: dict[str, Any] = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "hidden_act": "quick_gelu",
    "eos_token_id": 49407,
}
"""openai/clip-vit-large-patch14, the text half."""

TOWER_H: dict[str, Any] = {
    **TOWER_L,
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 23,
    "num_attention_heads": 16,
    "hidden_act": "gelu",
}
"""OpenCLIP ViT-H/14 without its last layer, as in stabilityai/stable-diffusion-2-1."""

TOWER_G: dict[str, Any] = {
    **TOWER_L,
    "hidden_size": 1280,
    "intermediate_size": 5120,
    "num_hidden_layers": 32,
    "num_attention_heads": 20,
    "hidden_act": "gelu",
    "projection_dim": 1280,
}
"""OpenCLIP ViT-bigG/14 with its projection, SDXL's second tower."""


@dataclass(frozen=True)
class SmallUNet:
    """A family's U-Net with few channels: our configuration and diffusers' of the same network."""

    config: UNetConfig
    peer: dict[str, Any]


def _small(name: str) -> SmallUNet:
    small = family(name, full=False)
    return SmallUNet(small.spec.unet, {**unet_options(name), **small.unet})


SMALL_UNETS = {
    "sd1": _small("sd15"),
    "sd2": _small("sd21-base"),
    "sdxl": _small("sdxl"),
    "inpainting": _small("sd15-inpainting"),
    "depth": _small("sd2-depth"),
    "sdxl-inpainting": _small("sdxl-inpainting"),
    "editing": _small("sd15-instruct-pix2pix"),
    "pocket": SmallUNet(*shrunken_unet(POCKET.unet, UNET_POCKET)),
}

SMALL_AUTOENCODER = AutoencoderConfig(channels=(16, 24, 32), norm_groups=8)
SMALL_AUTOENCODER_PEER = {
    **AUTOENCODER_SD,
    "block_out_channels": (16, 24, 32),
    "down_block_types": ("DownEncoderBlock2D",) * 3,
    "up_block_types": ("UpDecoderBlock2D",) * 3,
    "norm_num_groups": 8,
}


def unet_peer(options: Mapping[str, Any]) -> nn.Module:
    """diffusers' U-Net."""
    return UNet2DConditionModel(**options)  # type: ignore[no-any-return]


def autoencoder_peer(options: Mapping[str, Any]) -> nn.Module:
    """diffusers' autoencoder."""
    return AutoencoderKL(**options)  # type: ignore[no-any-return]


def tower_peer(options: Mapping[str, Any]) -> nn.Module:
    """transformers' text model, with its projection where the options name one."""
    kind = CLIPTextModelWithProjection if "projection_dim" in options else CLIPTextModel
    return kind(CLIPTextConfig(**options, attn_implementation="eager"))  # type: ignore[no-any-return]


def small_tower(config: TextTowerConfig) -> nn.Module:
    """transformers' text model of our configuration."""
    options: dict[str, Any] = {
        "vocab_size": config.vocabulary_size,
        "max_position_embeddings": config.context_length,
        "hidden_size": config.width,
        "intermediate_size": config.feed_forward_width,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "hidden_act": config.activation,
        "eos_token_id": config.end_token,
        "pad_token_id": config.pad_token,
    }
    if config.projection_width:
        options["projection_dim"] = config.projection_width
    return tower_peer(options)


def on_meta(build: Callable[[], nn.Module]) -> nn.Module:
    """A network without memory: names and shapes only."""
    with torch.device("meta"):
        return build()


def native_state(peer: nn.Module) -> dict[str, Tensor]:
    """A peer's weights under our names: transformers 5 drops a prefix, and pocket's pooled text has another name."""
    state = peer.state_dict()
    if "embeddings.token_embedding.weight" in state:
        return {f"text_model.{name}": value for name, value in state.items()}
    state = {name.replace("class_embedding.", "add_embedding."): value for name, value in state.items()}
    return {name: value for name, value in state.items() if not name.endswith("position_ids")}


def shapes(state: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    """Names and shapes of weights."""
    return {name: tuple(value.shape) for name, value in state.items()}


def relative_error(ours: Tensor, theirs: Tensor) -> float:
    """The largest difference beside the largest value."""
    assert ours.shape == theirs.shape
    return float((ours - theirs).abs().max() / theirs.abs().max())
