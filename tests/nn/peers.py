"""The same networks in diffusers and transformers, at full size from the published configurations, and shrunken.

The full-size tables are written out as published, apart from our own configurations. A shrunken pair changes the same
numbers in both.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from rein.nn.specs import POCKET, SD15, SD21_BASE, SDXL, AutoencoderConfig, TextTowerConfig, UNetConfig

os.environ["HF_HUB_OFFLINE"] = "1"

from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

UNET_SD15: dict[str, Any] = {
    "in_channels": 4,
    "out_channels": 4,
    "block_out_channels": (320, 640, 1280, 1280),
    "down_block_types": ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
    "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
    "layers_per_block": 2,
    "cross_attention_dim": 768,
    "attention_head_dim": 8,
}
"""runwayml/stable-diffusion-v1-5. diffusers' `attention_head_dim` is the number of heads."""

UNET_SD2: dict[str, Any] = {
    **UNET_SD15,
    "cross_attention_dim": 1024,
    "attention_head_dim": (5, 10, 20, 20),
    "use_linear_projection": True,
}
"""stabilityai/stable-diffusion-2-1 and -base."""

UNET_SDXL: dict[str, Any] = {
    "in_channels": 4,
    "out_channels": 4,
    "block_out_channels": (320, 640, 1280),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "layers_per_block": 2,
    "transformer_layers_per_block": (1, 2, 10),
    "cross_attention_dim": 2048,
    "attention_head_dim": (5, 10, 20),
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
}
"""stabilityai/stable-diffusion-xl-base-1.0."""

UNET_REFINER: dict[str, Any] = {
    **UNET_SDXL,
    "block_out_channels": (384, 768, 1536, 1536),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "transformer_layers_per_block": 4,
    "cross_attention_dim": 1280,
    "attention_head_dim": (6, 12, 24, 24),
    "projection_class_embeddings_input_dim": 2560,
}
"""stabilityai/stable-diffusion-xl-refiner-1.0."""

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


def _small(config: UNetConfig, peer: dict[str, Any], extra: int = 0) -> SmallUNet:
    """The pair with a sixteenth or so of the channels, and `extra` more channels in."""
    levels = len(config.channels)
    channels = (24, 32, 48, 48)[:levels]
    heads, depth = (2, 4, 6, 3)[:levels], tuple(min(d, 2) for d in config.transformer_depth)
    config = replace(config, channels=channels, heads=heads, norm_groups=8, context_width=20, transformer_depth=depth)
    config = replace(config, in_channels=config.in_channels + extra, middle_depth=min(config.middle_depth, 2))
    peer = {**peer, "block_out_channels": channels, "attention_head_dim": heads, "norm_num_groups": 8}
    peer |= {"cross_attention_dim": 20, "in_channels": peer["in_channels"] + extra}
    if config.pooled_width:
        config = replace(config, pooled_width=28, size_id_width=10 if config.size_ids else 256)
        peer["projection_class_embeddings_input_dim"] = 28 + 10 * config.size_ids
    if config.size_ids:
        peer |= {"addition_time_embed_dim": 10, "transformer_layers_per_block": (1, 2, 2)}
    return SmallUNet(config, peer)


SMALL_UNETS = {
    "sd1": _small(SD15.unet, UNET_SD15),
    "sd2": _small(SD21_BASE.unet, UNET_SD2),
    "sdxl": _small(SDXL.unet, UNET_SDXL),
    "inpainting": _small(SD15.unet, UNET_SD15, extra=5),
    "depth": _small(SD21_BASE.unet, UNET_SD2, extra=1),
    "sdxl-inpainting": _small(SDXL.unet, UNET_SDXL, extra=5),
    "editing": _small(SD15.unet, UNET_SD15, extra=4),
    "pocket": _small(POCKET.unet, UNET_POCKET),
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
