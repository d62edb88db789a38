"""Attention and the transformer that sits between the U-Net's convolutions.

Every attention has a probe point: set `attention.probe` to a callable and it receives the queries and keys of each
call. It is None by default, and then costs one comparison.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from rein.nn.layers import norm

Probe = Callable[[Tensor, Tensor], None]
"""Receives queries (B, heads, Tq, width) and keys (B, heads, Tk, width), unscaled."""


class Attention(nn.Module):
    """Multi-head scaled dot-product attention (Vaswani et al. 2017, section 3.2).

    `x` (B, T, width) asks; `context` (B, S, context_width), or `x` itself, answers. Returns (B, T, width).
    """

    def __init__(self, width: int, context_width: int, heads: int, projection_bias: bool = False) -> None:
        super().__init__()
        self.heads = heads
        self.to_q = nn.Linear(width, width, bias=projection_bias)
        self.to_k = nn.Linear(context_width, width, bias=projection_bias)
        self.to_v = nn.Linear(context_width, width, bias=projection_bias)
        self.to_out = nn.ModuleList([nn.Linear(width, width)])
        self.probe: Probe | None = None

    def keys_and_values(self, context: Tensor) -> tuple[Tensor, Tensor]:
        """The two projections of `context`, split into heads: (B, heads, S, head width) each."""
        return self._split(self.to_k(context)), self._split(self.to_v(context))

    def forward(self, x: Tensor, context: Tensor | None = None, known: tuple[Tensor, Tensor] | None = None) -> Tensor:
        """`known`: keys and values computed before, for a context that stays the same over all steps."""
        query = self._split(self.to_q(x))
        key, value = known if known is not None else self.keys_and_values(x if context is None else context)
        if self.probe is not None:
            self.probe(query, key)
        mixed = functional.scaled_dot_product_attention(query, key, value)
        out: Tensor = self.to_out[0](mixed.transpose(1, 2).flatten(2))
        return out

    def _split(self, x: Tensor) -> Tensor:
        heads: Tensor = x.unflatten(2, (self.heads, -1))
        return heads.transpose(1, 2)


class GatedLinear(nn.Module):
    """GEGLU (Shazeer 2020): a linear layer whose second half gates the first through GELU."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.proj = nn.Linear(width, hidden * 2)

    def forward(self, x: Tensor) -> Tensor:
        value, gate = self.proj(x).chunk(2, dim=-1)
        out: Tensor = value * functional.gelu(gate)
        return out


class FeedForward(nn.Module):
    """GEGLU to four times the width and back; the empty middle entry keeps the published parameter names."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.net = nn.ModuleList([GatedLinear(width, width * 4), nn.Identity(), nn.Linear(width * 4, width)])

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.net[2](self.net[0](x))
        return out


class TransformerBlock(nn.Module):
    """Self-attention, cross-attention to the text, feed-forward; each normalised first and added to its input."""

    def __init__(self, width: int, context_width: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attn1 = Attention(width, width, heads)
        self.norm2 = nn.LayerNorm(width)
        self.attn2 = Attention(width, context_width, heads)
        self.norm3 = nn.LayerNorm(width)
        self.ff = FeedForward(width)

    def forward(self, x: Tensor, context: Tensor | None, known: tuple[Tensor, Tensor] | None = None) -> Tensor:
        x = x + self.attn1(self.norm1(x))
        x = x + self.attn2(self.norm2(x), context, known)
        out: Tensor = x + self.ff(self.norm3(x))
        return out


TextKeys = dict[str, tuple[Tensor, Tensor]]
"""Keys and values of a text for each cross-attention, by module name; made by `UNet.text_keys`."""


class SpatialTransformer(nn.Module):
    """Transformer blocks over the pixels of a feature map (B, C, h, w), entered and left by a 1x1 projection."""

    def __init__(
        self, channels: int, context_width: int, heads: int, depth: int, linear_projection: bool, groups: int
    ) -> None:
        super().__init__()
        self.norm = norm(groups, channels, 1e-6)
        self.linear_projection = linear_projection
        self.proj_in = self._projection(channels)
        self.transformer_blocks = nn.ModuleList(TransformerBlock(channels, context_width, heads) for _ in range(depth))
        self.proj_out = self._projection(channels)

    def forward(self, x: Tensor, context: Tensor | None, known: list[tuple[Tensor, Tensor]] | None = None) -> Tensor:
        height, width = x.shape[-2:]
        tokens = self.norm(x)
        tokens = self.proj_in(_to_tokens(tokens)) if self.linear_projection else _to_tokens(self.proj_in(tokens))
        for index, block in enumerate(self.transformer_blocks):
            tokens = block(tokens, context, known[index] if known is not None else None)
        if self.linear_projection:
            return x + _to_map(self.proj_out(tokens), height, width)
        out: Tensor = x + self.proj_out(_to_map(tokens, height, width))
        return out

    def _projection(self, channels: int) -> nn.Module:
        return nn.Linear(channels, channels) if self.linear_projection else nn.Conv2d(channels, channels, 1)


class PixelAttention(Attention):
    """Single-head self-attention over all pixels of a feature map, with its own norm (autoencoder middle block)."""

    def __init__(self, channels: int, groups: int, epsilon: float) -> None:
        super().__init__(channels, channels, heads=1, projection_bias=True)
        self.group_norm = norm(groups, channels, epsilon)

    def forward(self, x: Tensor, context: Tensor | None = None, known: tuple[Tensor, Tensor] | None = None) -> Tensor:
        height, width = x.shape[-2:]
        return x + _to_map(super().forward(_to_tokens(self.group_norm(x))), height, width)


def _to_tokens(x: Tensor) -> Tensor:
    """(B, C, h, w) -> (B, h*w, C); free for channels_last memory."""
    return x.permute(0, 2, 3, 1).flatten(1, 2)


def _to_map(tokens: Tensor, height: int, width: int) -> Tensor:
    """(B, h*w, C) -> (B, C, h, w) in channels_last memory."""
    rows: Tensor = tokens.unflatten(1, (height, width))
    return rows.permute(0, 3, 1, 2)


def attention_maps(query: Tensor, key: Tensor) -> Tensor:
    """Softmax weights (B, heads, Tq, Tk) of the queries and keys that a probe received."""
    scores: Tensor = query.float() @ key.float().transpose(-1, -2) / query.shape[-1] ** 0.5
    return torch.softmax(scores, dim=-1)
