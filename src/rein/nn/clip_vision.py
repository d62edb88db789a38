"""CLIP's picture tower: a vision transformer (Dosovitskiy et al. 2021; Radford et al. 2021, section 2.4).

Its layers are those of the text tower, with every patch looking at every other. Parameter names are those of the
published files, as transformers 4 has them.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from rein.nn.clip import TextLayers
from rein.nn.specs import TextTowerConfig


@dataclass(frozen=True)
class VisionTowerConfig:
    """Shape of a picture tower: pictures of `side` pixels in patches of `patch`, and its transformer."""

    transformer: TextTowerConfig
    """Width, layers, heads, feed-forward width, activation and projection; the rest is of texts and not used."""
    side: int = 224
    patch: int = 14


class PatchEmbeddings(nn.Module):
    """A learned vector for the whole picture, one for each patch by its pixels, and one for each position."""

    def __init__(self, config: VisionTowerConfig) -> None:
        super().__init__()
        width, across = config.transformer.width, config.side // config.patch
        self.class_embedding = nn.Parameter(torch.zeros(width))
        self.patch_embedding = nn.Conv2d(3, width, config.patch, config.patch, bias=False)
        self.position_embedding = nn.Embedding(across**2 + 1, width)

    def forward(self, pixels: Tensor) -> Tensor:
        patches = self.patch_embedding(pixels).flatten(2).transpose(1, 2)
        whole = self.class_embedding.expand(len(pixels), 1, -1)
        return torch.cat([whole, patches], dim=1) + self.position_embedding.weight


class VisionModel(nn.Module):
    """Embeddings, layers and norms, under the names that published weights use, one of them with its slip."""

    def __init__(self, config: VisionTowerConfig) -> None:
        super().__init__()
        width = config.transformer.width
        self.embeddings = PatchEmbeddings(config)
        self.pre_layrnorm = nn.LayerNorm(width)
        self.encoder = TextLayers(config.transformer)
        self.post_layernorm = nn.LayerNorm(width)


class VisionTower(nn.Module):
    """Pictures (B, 3, side, side), normalised as CLIP's were, to vectors (B, projection width)."""

    def __init__(self, config: VisionTowerConfig) -> None:
        super().__init__()
        self.config = config
        self.vision_model = VisionModel(config)
        self.visual_projection = nn.Linear(config.transformer.width, config.transformer.projection_width, bias=False)

    def forward(self, pixels: Tensor) -> Tensor:
        model = self.vision_model
        x = model.pre_layrnorm(model.embeddings(pixels))
        everything = torch.ones(1, 1, 1, x.shape[1], dtype=torch.bool, device=x.device)
        for layer in model.encoder.layers:
            x = layer(x, everything)
        out: Tensor = self.visual_projection(model.post_layernorm(x[:, 0]))
        return out
