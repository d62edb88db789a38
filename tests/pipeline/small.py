"""Small models of every family, with the same random weights on every run, as folders and in memory."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from rein.formats.checkpoint import save_model
from rein.nn.autoencoder import Autoencoder
from rein.nn.clip import TextTower
from rein.nn.specs import POCKET, SD15, SD21, SDXL, ModelSpec, ScheduleConfig, TextTowerConfig
from rein.nn.unet import UNet
from rein.text.tokenizer import Tokenizer, train_vocabulary

CAPTIONS = [
    "a red apple, flat style",
    "two green apples on a table",
    "a blue car and a red house",
    "an apple, blue",
] * 3
WIDTH = 16


def own_tokenizer() -> Tokenizer:
    """A vocabulary of 560 tokens."""
    return train_vocabulary(CAPTIONS, 560)


def _tower(config: TextTowerConfig, vocabulary: int) -> TextTowerConfig:
    small = replace(config, width=WIDTH, layers=2, heads=2, feed_forward_width=32, context_length=12)
    end = vocabulary - 1
    small = replace(small, vocabulary_size=vocabulary, end_token=end, pad_token=min(config.pad_token, end))
    return replace(small, projection_width=WIDTH if config.projection_width else 0)


def _small(spec: ModelSpec, vocabulary: int) -> ModelSpec:
    levels = len(spec.unet.channels)
    towers = tuple(_tower(tower, vocabulary) for tower in spec.towers)
    unet = replace(
        spec.unet,
        in_channels=spec.unet.in_channels - spec.autoencoder.latent_channels + 4,
        out_channels=4,
        channels=(8, 8, 16, 16)[:levels],
        heads=(2, 2, 4, 4)[:levels],
        transformer_depth=tuple(min(depth, 2) for depth in spec.unet.transformer_depth),
        middle_depth=1,
        norm_groups=2,
        context_width=WIDTH * len(towers),
        pooled_width=WIDTH if spec.unet.pooled_width else 0,
        size_id_width=8,
    )
    channels = (8,) * len(spec.autoencoder.channels)
    groups = min(spec.autoencoder.norm_groups, 2)
    autoencoder = replace(
        spec.autoencoder, latent_channels=4, channels=channels, blocks_per_level=1, norm_groups=groups
    )
    name = f"small-{spec.name}"
    return replace(spec, name=name, unet=unet, autoencoder=autoencoder, towers=towers, native_size=32, vocabulary="own")


_SIZE = own_tokenizer().vocabulary_size
_ZERO_SNR = ScheduleConfig(zero_terminal_snr=True)

SPECS: dict[str, ModelSpec] = {
    "pocket": _small(POCKET, _SIZE),
    "sd1": _small(SD15, _SIZE),
    "sd2-v": replace(_small(SD21, _SIZE), schedule=_ZERO_SNR, default_sampler="ddim", default_spacing="trailing"),
    "sdxl": _small(SDXL, _SIZE),
}
"""A flow with a pooled text; epsilon; v down to pure noise; two towers with pooled text and sizes."""


def networks(spec: ModelSpec, seed: int = 0) -> tuple[UNet, Autoencoder, list[TextTower]]:
    """Networks whose first weights are made livelier, so that time, words and noise all show in the pictures."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        unet, autoencoder = UNet(spec.unet), Autoencoder(spec.autoencoder)
        towers = [TextTower(config) for config in spec.towers]
        parts: list[nn.Module] = [unet, autoencoder, *towers]
        for part in parts:
            for name, parameter in part.named_parameters():
                if name.endswith("bias"):
                    nn.init.normal_(parameter, std=0.05)
                elif parameter.ndim > 1 and "embedding.weight" not in name:
                    nn.init.normal_(parameter, std=1.4 * parameter[0].numel() ** -0.5)
    return unet, autoencoder, towers


def save_small(folder: Path, family: str, dtype: torch.dtype = torch.float16, seed: int = 0) -> Path:
    """The folder of a small model."""
    spec = SPECS[family]
    return save_model(folder, spec, *networks(spec, seed), own_tokenizer(), dtype)
