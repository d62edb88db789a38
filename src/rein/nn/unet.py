"""The denoising U-Net: one class for SD1, SD2, SDXL, their inpainting and depth forms, and the embedded model.

Parameter names are those of the diffusers folder layout, so that such folders load unmapped.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from rein.nn.attention import SpatialTransformer, TextKeys, TransformerBlock
from rein.nn.layers import (
    Downsample,
    EmbeddingMLP,
    ResidualBlock,
    Upsample,
    guidance_features,
    norm,
    timestep_features,
)
from rein.nn.specs import UNetConfig

_EPSILON = 1e-5


class Level(nn.Module):
    """The residual blocks, transformers and resampling of one resolution, on the way down or up."""

    downsamplers: nn.ModuleList
    upsamplers: nn.ModuleList

    def __init__(self, resnets: list[ResidualBlock], attentions: list[SpatialTransformer]) -> None:
        super().__init__()
        self.resnets = nn.ModuleList(resnets)
        if attentions:
            self.attentions = nn.ModuleList(attentions)
        self.has_attention = bool(attentions)

    def apply_block(self, index: int, x: Tensor, time: _Time, text: _Text) -> Tensor:
        """Residual block `index` and the transformer after it, if the level has any."""
        out = time.enter(self.resnets[index], x)
        if self.has_attention:
            out = text.attend(self.attentions[index], out)
        return out


TimeShifts = dict[str, Tensor]
"""What time adds within each residual block (B, C, 1, 1), by module name; made by `UNet.time_shifts`."""


class _Time:
    """What residual blocks are told of time: the embedding, or what each makes of it, computed earlier."""

    def __init__(self, embedding: Tensor | None, shifts: TimeShifts | None, names: dict[nn.Module, str]) -> None:
        self.embedding, self.shifts, self.names = embedding, shifts, names

    def enter(self, block: nn.Module, x: Tensor) -> Tensor:
        out: Tensor = block(x, self.embedding, None if self.shifts is None else self.shifts[self.names[block]])
        return out


class _Text:
    """What cross-attention reads: the context itself, or keys and values computed from it earlier."""

    def __init__(self, context: Tensor | None, keys: TextKeys | None, names: dict[nn.Module, str]) -> None:
        self.context, self.keys, self.names = context, keys, names

    def attend(self, transformer: nn.Module, x: Tensor) -> Tensor:
        known = None
        if self.keys is not None:
            name = self.names[transformer]
            depth = len(transformer.transformer_blocks)  # type: ignore[arg-type]
            known = [self.keys[f"{name}.{index}"] for index in range(depth)]
        out: Tensor = transformer(x, self.context, known)
        return out


class UNet(nn.Module):
    """Noisy latents (B, in, h, w), timesteps (B,) and text (B, T, context_width) -> prediction (B, out, h, w)."""

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config = config
        first, time_width = config.channels[0], config.channels[0] * 4
        self.conv_in = nn.Conv2d(config.in_channels, first, 3, padding=1)
        self.time_embedding = EmbeddingMLP(first, time_width, config.guidance_width)
        if config.pooled_width:
            added = config.pooled_width + config.size_ids * config.size_id_width
            self.add_embedding = EmbeddingMLP(added, time_width)
        self.down_blocks, skips = self._build_down(config, time_width)
        self.mid_block = self._build_middle(config, time_width)
        self.up_blocks = self._build_up(config, time_width, skips)
        self.conv_norm_out = norm(config.norm_groups, first, _EPSILON)
        self.conv_out = nn.Conv2d(first, config.out_channels, 3, padding=1)
        self._names: dict[nn.Module, str] = {
            m: name for name, m in self.named_modules() if isinstance(m, SpatialTransformer)
        }
        self._blocks: dict[nn.Module, str] = {
            m: name for name, m in self.named_modules() if isinstance(m, ResidualBlock)
        }

    def forward(
        self,
        x: Tensor,
        timestep: Tensor,
        context: Tensor | None = None,
        pooled: Tensor | None = None,
        size_ids: Tensor | None = None,
        text_keys: TextKeys | None = None,
        time_shifts: TimeShifts | None = None,
        guidance: Tensor | None = None,
    ) -> Tensor:
        """`guidance` (B,) is the scale that a network with `guidance_width` was distilled to answer for.

        `text_keys` (from `text_keys()`) replaces `context` where the text stays the same over many steps.

        `time_shifts` (from `time_shifts()`) replaces `timestep`, `pooled` and `size_ids` where they are known before.
        """
        embedding = self.embedding(x, timestep, pooled, size_ids, guidance) if time_shifts is None else None
        time = _Time(embedding, time_shifts, self._blocks)
        text = _Text(context, text_keys, self._names)
        x = self.conv_in(x)
        skips = [x]
        for level in cast(Iterable[Level], self.down_blocks):
            for index in range(len(level.resnets)):
                x = level.apply_block(index, x, time, text)
                skips.append(x)
            if hasattr(level, "downsamplers"):
                x = level.downsamplers[0](x)
                skips.append(x)
        x = time.enter(self.mid_block.resnets[0], x)
        if self.mid_block.has_attention:
            x = text.attend(self.mid_block.attentions[0], x)
        x = time.enter(self.mid_block.resnets[1], x)
        for level in cast(Iterable[Level], self.up_blocks):
            for index in range(len(level.resnets)):
                x = level.apply_block(index, torch.cat([x, skips.pop()], dim=1), time, text)
            if hasattr(level, "upsamplers"):
                x = level.upsamplers[0](x, (skips[-1].shape[-2], skips[-1].shape[-1]))
        out: Tensor = self.conv_out(functional.silu(self.conv_norm_out(x)))
        return out

    def embedding(
        self,
        x: Tensor,
        timestep: Tensor,
        pooled: Tensor | None,
        size_ids: Tensor | None,
        guidance: Tensor | None = None,
    ) -> Tensor:
        """Time embedding (B, 4 * first level), with the pooled text and size ids added where the family has them."""
        features = timestep_features(timestep.expand(x.shape[0]), self.config.channels[0])
        scale = None
        if self.config.guidance_width and guidance is not None:
            scale = guidance_features(guidance.expand(x.shape[0]), self.config.guidance_width).to(x.dtype)
        embedding: Tensor = self.time_embedding(features.to(x.dtype), scale)
        if self.config.pooled_width:
            if pooled is None:
                raise ValueError("this U-Net needs the pooled text vector")
            added = [pooled]
            if self.config.size_ids:
                if size_ids is None:
                    raise ValueError(f"this U-Net needs {self.config.size_ids} size ids per picture")
                added.append(timestep_features(size_ids, self.config.size_id_width).flatten(1).to(x.dtype))
            embedding = embedding + self.add_embedding(torch.cat(added, dim=-1))
        return embedding

    def text_keys(self, context: Tensor) -> TextKeys:
        """Keys and values of every cross-attention for `context` (B, T, width): computed once, used at every step."""
        return {
            f"{name}.{index}": block.attn2.keys_and_values(context)
            for transformer, name in self._names.items()
            for index, block in enumerate(cast(Iterable[TransformerBlock], transformer.transformer_blocks))
        }

    def time_shifts(
        self,
        timesteps: Tensor,
        pooled: Tensor | None = None,
        size_ids: Tensor | None = None,
        guidance: Tensor | None = None,
    ) -> list[TimeShifts]:
        """What each of `timesteps` (S,) adds in every residual block, for the B rows of `pooled`, or for one without.

        One pass over all steps instead of one a step; equal to rounding.
        """
        count, rows = len(timesteps), 1 if pooled is None else len(pooled)
        words, sizes = (None if entry is None else entry.repeat(count, 1) for entry in (pooled, size_ids))
        weight = self.conv_in.weight
        template = weight.new_empty(count * rows, 0)
        embedding = self.embedding(
            template, timesteps.to(weight.device).repeat_interleave(rows), words, sizes, guidance
        )
        shifts = {
            name: block.shift(embedding).unflatten(0, (count, rows))
            for block, name in cast(Iterable[tuple[ResidualBlock, str]], self._blocks.items())
        }
        return [{name: shift[step] for name, shift in shifts.items()} for step in range(count)]

    @staticmethod
    def _transformer(config: UNetConfig, level: int, depth: int) -> SpatialTransformer:
        return SpatialTransformer(
            config.channels[level],
            config.context_width,
            config.heads[level],
            depth,
            config.linear_projection,
            config.norm_groups,
        )

    def _build_down(self, config: UNetConfig, time_width: int) -> tuple[nn.ModuleList, list[int]]:
        levels, skips, current = nn.ModuleList(), [config.channels[0]], config.channels[0]
        for index, channels in enumerate(config.channels):
            resnets, attentions = [], []
            for _ in range(config.blocks_per_level):
                resnets.append(ResidualBlock(current, channels, time_width, config.norm_groups, _EPSILON))
                if config.transformer_depth[index]:
                    attentions.append(self._transformer(config, index, config.transformer_depth[index]))
                current = channels
                skips.append(channels)
            level = Level(resnets, attentions)
            if index < len(config.channels) - 1:
                level.downsamplers = nn.ModuleList([Downsample(channels)])
                skips.append(channels)
            levels.append(level)
        return levels, skips

    def _build_middle(self, config: UNetConfig, time_width: int) -> Level:
        last = len(config.channels) - 1
        channels = config.channels[last]
        resnets = [ResidualBlock(channels, channels, time_width, config.norm_groups, _EPSILON) for _ in range(2)]
        return Level(resnets, [self._transformer(config, last, config.middle_depth)] if config.middle_depth else [])

    def _build_up(self, config: UNetConfig, time_width: int, skips: list[int]) -> nn.ModuleList:
        levels, remaining, current = nn.ModuleList(), list(skips), config.channels[-1]
        for index in reversed(range(len(config.channels))):
            channels = config.channels[index]
            resnets, attentions = [], []
            for _ in range(config.blocks_per_level + 1):
                joined = current + remaining.pop()
                resnets.append(ResidualBlock(joined, channels, time_width, config.norm_groups, _EPSILON))
                if config.transformer_depth[index]:
                    attentions.append(self._transformer(config, index, config.transformer_depth[index]))
                current = channels
            level = Level(resnets, attentions)
            if index:
                level.upsamplers = nn.ModuleList([Upsample(channels)])
            levels.append(level)
        return levels
