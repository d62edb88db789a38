"""The families of models in diffusers' and transformers' classes, at full size or shrunken, with seeded random weights.

Beside each stands the specification that Rein has of it. The peers' configurations are the published ones.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rein.nn.specs import VARIANTS, ModelSpec, TextTowerConfig, UNetConfig
from rein.text.vocabulary import clip_vocabulary

os.environ["HF_HUB_OFFLINE"] = "1"

_ATTENDS, _PLAIN = "CrossAttnDownBlock2D", "DownBlock2D"
_SD1: dict[str, Any] = {
    "block_out_channels": (320, 640, 1280, 1280),
    "down_block_types": (_ATTENDS, _ATTENDS, _ATTENDS, _PLAIN),
    "layers_per_block": 2,
    "cross_attention_dim": 768,
    "attention_head_dim": 8,
}
_SD2 = {**_SD1, "cross_attention_dim": 1024, "attention_head_dim": (5, 10, 20, 20), "use_linear_projection": True}
_SDXL: dict[str, Any] = {
    "block_out_channels": (320, 640, 1280),
    "down_block_types": (_PLAIN, _ATTENDS, _ATTENDS),
    "layers_per_block": 2,
    "transformer_layers_per_block": (1, 2, 10),
    "cross_attention_dim": 2048,
    "attention_head_dim": (5, 10, 20),
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
}
_REFINER = {
    **_SDXL,
    "block_out_channels": (384, 768, 1536, 1536),
    "down_block_types": (_PLAIN, _ATTENDS, _ATTENDS, _PLAIN),
    "transformer_layers_per_block": 4,
    "cross_attention_dim": 1280,
    "attention_head_dim": (6, 12, 24, 24),
    "projection_class_embeddings_input_dim": 2560,
}
PUBLISHED: dict[str, dict[str, Any]] = {
    "sd15": _SD1,
    "sd15-inpainting": {**_SD1, "in_channels": 9},
    "sd15-instruct-pix2pix": {**_SD1, "in_channels": 8},
    "sd21-base": _SD2,
    "sd21": _SD2,
    "sd2-inpainting": {**_SD2, "in_channels": 9},
    "sd2-depth": {**_SD2, "in_channels": 5},
    "sdxl": _SDXL,
    "sdxl-inpainting": {**_SDXL, "in_channels": 9},
    "sdxl-instruct-pix2pix": {**_SDXL, "in_channels": 8},
    "sdxl-refiner": _REFINER,
}
"""unet/config.json of each family, as published. diffusers' `attention_head_dim` is the number of heads."""

_PIPELINES = {False: "StableDiffusionPipeline", True: "StableDiffusionXLPipeline"}


@dataclass(frozen=True)
class Family:
    """A family in our terms and in diffusers'."""

    spec: ModelSpec
    unet: dict[str, Any]

    @property
    def sized(self) -> bool:
        """Whether it is one of SDXL's."""
        return self.spec.unet.size_ids > 0


def family(name: str, full: bool) -> Family:
    """A family by its row's name, shrunken unless `full`."""
    published = Family(VARIANTS[name], {"in_channels": 4, **PUBLISHED[name]})
    return published if full else _shrunken(published)


def _shrunken(published: Family) -> Family:
    """The same network with few channels and a hundredth of the weights; what makes the family stays."""
    spec = published.spec
    unet, options = shrunken_unet(spec.unet, published.unet)
    widths = (8, 12) if len(spec.towers) == 2 else (20,)
    towers = tuple(_small_tower(tower, width) for tower, width in zip(spec.towers, widths, strict=True))
    autoencoder = replace(spec.autoencoder, channels=(16, 24, 32, 32), norm_groups=8)
    return Family(replace(spec, unet=unet, towers=towers, autoencoder=autoencoder, native_size=64), options)


def shrunken_unet(config: UNetConfig, options: Mapping[str, Any]) -> tuple[UNetConfig, dict[str, Any]]:
    """A U-Net with few channels, in our terms and in diffusers'."""
    levels = len(config.channels)
    channels, heads = (24, 32, 48, 48)[:levels], (2, 4, 6, 3)[:levels]
    depths, middle = tuple(min(depth, 2) for depth in config.transformer_depth), min(config.middle_depth, 2)
    small = replace(
        config, channels=channels, heads=heads, transformer_depth=depths, middle_depth=middle, norm_groups=8
    )
    small = replace(small, context_width=20)
    theirs = {**options, "block_out_channels": channels, "attention_head_dim": heads}
    theirs |= {"norm_num_groups": 8, "cross_attention_dim": 20}
    if config.pooled_width:
        small = replace(small, pooled_width=28, size_id_width=10 if config.size_ids else 256)
        theirs["projection_class_embeddings_input_dim"] = 28 + 10 * config.size_ids
    if config.size_ids:
        theirs["transformer_layers_per_block"] = (*(max(depth, 1) for depth in depths[:-1]), middle)
        theirs["addition_time_embed_dim"] = 10
    return small, theirs


def unet_options(name: str) -> dict[str, Any]:
    """All that diffusers' U-Net of a family is made with, at full size."""
    return _whole(PUBLISHED[name])


def _whole(published: Mapping[str, Any]) -> dict[str, Any]:
    up = tuple(kind.replace("Down", "Up") for kind in reversed(published["down_block_types"]))
    return {"in_channels": 4, "out_channels": 4, **published, "up_block_types": up}


def _small_tower(config: TextTowerConfig, width: int) -> TextTowerConfig:
    small = replace(config, width=width, layers=3, heads=2, feed_forward_width=24)
    return replace(small, projection_width=28 if config.projection_width else 0)


@dataclass
class Peers:
    """A model in diffusers' and transformers' classes."""

    family: Family
    unet: Any
    autoencoder: Any
    towers: list[Any]
    tokenizers: list[Any]

    def pipeline(self, scheduler: Any = None) -> Any:
        """diffusers' own pipeline; families with extra channels use that of their base, which is given them."""
        import diffusers

        scheduler = ddim(self.family.spec) if scheduler is None else scheduler
        parts = (self.autoencoder, *self.towers, *self.tokenizers, self.unet, scheduler)
        if self.family.spec.unet.size_ids == 5:
            named = {"vae": parts[0], "text_encoder": None, "tokenizer": None, "text_encoder_2": parts[1]}
            named |= {"tokenizer_2": parts[2], "unet": parts[3], "scheduler": scheduler}
            built = diffusers.StableDiffusionXLImg2ImgPipeline(
                **named, requires_aesthetics_score=True, force_zeros_for_empty_prompt=False, add_watermarker=False
            )
        elif self.family.sized:
            built = diffusers.StableDiffusionXLPipeline(*parts, add_watermarker=False)
        else:
            built = diffusers.StableDiffusionPipeline(*parts, None, None, requires_safety_checker=False)
        built.set_progress_bar_config(disable=True)
        return built


def build_peers(made: Family, folder: Path, seed: int = 5) -> Peers:
    """The peers of a family with random weights that depend on `seed` alone; `folder` is for the tokenizers' files."""
    from diffusers import AutoencoderKL, UNet2DConditionModel

    spec = made.spec
    options = {"sample_size": spec.native_size // 8, **_whole(made.unet)}
    count = len(spec.autoencoder.channels)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        unet = UNet2DConditionModel(**options).eval().requires_grad_(False)
        unet.get_parameter("conv_out.weight").mul_(4.0)  # so that words and noise move the picture
        autoencoder = AutoencoderKL(
            block_out_channels=spec.autoencoder.channels,
            down_block_types=("DownEncoderBlock2D",) * count,
            up_block_types=("UpDecoderBlock2D",) * count,
            layers_per_block=2,
            latent_channels=4,
            norm_num_groups=spec.autoencoder.norm_groups,
            scaling_factor=spec.latent_scale,
            force_upcast=False,
        )
        towers = [_tower(config) for config in spec.towers]
    autoencoder.eval().requires_grad_(False)
    return Peers(made, unet, autoencoder, towers, [tokenizer(folder, config.pad_token) for config in spec.towers])


def _tower(config: TextTowerConfig) -> Any:
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    options = CLIPTextConfig(
        hidden_size=config.width,
        intermediate_size=config.feed_forward_width,
        num_hidden_layers=config.layers,
        num_attention_heads=config.heads,
        hidden_act=config.activation,
        eos_token_id=config.end_token,
        projection_dim=config.projection_width or config.width,
    )
    kind = CLIPTextModelWithProjection if config.projection_width else CLIPTextModel
    return kind(options).eval().requires_grad_(False)


def tokenizer(folder: Path, pad: int) -> Any:
    """transformers' CLIP tokenizer that pads with token `pad`: the end, or "!" as OpenCLIP's."""
    from transformers import CLIPTokenizer

    vocabulary = clip_vocabulary()
    (folder / "vocab.json").write_text(json.dumps(vocabulary.ids), encoding="utf-8")
    merges = "".join(f"{first} {second}\n" for first, second in vocabulary.merges)
    (folder / "merges.txt").write_text("#version: 0.2\n" + merges, encoding="utf-8")
    sign = "!" if pad == 0 else "<|endoftext|>"
    return CLIPTokenizer.from_pretrained(folder, model_max_length=77, pad_token=sign)


def ddim(spec: ModelSpec) -> Any:
    """diffusers' DDIM for a model, in our spacing "trailing"."""
    from diffusers import DDIMScheduler

    return DDIMScheduler(
        beta_schedule="scaled_linear",
        beta_start=spec.schedule.beta_start,
        beta_end=spec.schedule.beta_end,
        prediction_type={"epsilon": "epsilon", "v": "v_prediction"}[spec.prediction],
        rescale_betas_zero_snr=spec.schedule.zero_terminal_snr,
        timestep_spacing="trailing",
        steps_offset=1,
        clip_sample=False,
        set_alpha_to_one=True,
    )


def question(config: UNetConfig, side: int, tokens: int = 77) -> dict[str, Tensor]:
    """Seeded inputs of a U-Net by our names for them: latents of `side` x `side`, a late timestep, words and sizes."""
    generator = torch.Generator().manual_seed(3)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    asked = {"x": normal(2, config.in_channels, side, side), "timestep": torch.tensor([801.0, 801.0])}
    asked["context"] = normal(2, tokens, config.context_width)
    if config.size_ids:
        asked["pooled"] = normal(2, config.pooled_width)
        sizes = [side * 8.0, side * 8.0, 0.0, 0.0, side * 8.0, side * 8.0]
        asked["size_ids"] = torch.tensor([sizes[: config.size_ids]] * 2)
    return asked
