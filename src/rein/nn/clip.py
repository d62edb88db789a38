"""CLIP's text tower: a causal transformer over tokens (Radford et al. 2021, section 2.4).

One class for CLIP ViT-L, OpenCLIP ViT-H and bigG, and the embedded model's own tower. Parameter names are those of the
published files, as transformers 4 has them.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from rein.errors import InputError
from rein.nn.attention import Probe
from rein.nn.specs import TextTowerConfig


@dataclass(frozen=True)
class TextFeatures:
    """What a tower says of its tokens."""

    hidden: tuple[Tensor, ...]
    """States (B, T, D) before the first layer and after each."""
    last: Tensor
    """The final state (B, T, D), normalised."""
    pooled: Tensor
    """One vector (B, P) for each text."""


class CausalAttention(nn.Module):
    """Self-attention in which a token sees itself and the tokens before it."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_proj = nn.Linear(width, width)
        self.k_proj = nn.Linear(width, width)
        self.v_proj = nn.Linear(width, width)
        self.out_proj = nn.Linear(width, width)
        self.probe: Probe | None = None

    def forward(self, x: Tensor, seen: Tensor | None = None) -> Tensor:
        """`seen` (B, 1, T, T), where given, says which tokens each may look at, instead of all up to itself."""
        query, key, value = (
            projection(x).unflatten(2, (self.heads, -1)).transpose(1, 2)
            for projection in (self.q_proj, self.k_proj, self.v_proj)
        )
        if self.probe is not None:
            self.probe(query, key)
        causal = seen is None
        mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=seen, is_causal=causal)
        out: Tensor = self.out_proj(mixed.transpose(1, 2).flatten(2))
        return out


class FeedForward(nn.Module):
    """Two linear layers around GELU, or around OpenAI's quick form of it, x * sigmoid(1.702 x)."""

    def __init__(self, width: int, hidden: int, quick: bool) -> None:
        super().__init__()
        self.quick = quick
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.fc1(x)
        hidden = hidden * torch.sigmoid(1.702 * hidden) if self.quick else functional.gelu(hidden)
        out: Tensor = self.fc2(hidden)
        return out


class TextLayer(nn.Module):
    """One transformer layer, normalised before each half."""

    def __init__(self, config: TextTowerConfig) -> None:
        super().__init__()
        self.self_attn = CausalAttention(config.width, config.heads)
        self.layer_norm1 = nn.LayerNorm(config.width)
        self.mlp = FeedForward(config.width, config.feed_forward_width, config.activation == "quick_gelu")
        self.layer_norm2 = nn.LayerNorm(config.width)

    def forward(self, x: Tensor, seen: Tensor | None = None) -> Tensor:
        x = x + self.self_attn(self.layer_norm1(x), seen)
        out: Tensor = x + self.mlp(self.layer_norm2(x))
        return out


class TokenEmbeddings(nn.Module):
    """A learned vector for each token plus one for each position."""

    def __init__(self, config: TextTowerConfig) -> None:
        super().__init__()
        self.token_embedding = nn.Embedding(config.vocabulary_size, config.width)
        self.position_embedding = nn.Embedding(config.context_length, config.width)

    def forward(self, ids: Tensor, words: Tensor | None = None) -> Tensor:
        words = self.token_embedding(ids) if words is None else words
        out: Tensor = words + self.position_embedding.weight[: ids.shape[1]]
        return out


class TextLayers(nn.Module):
    """The list of layers, under the name that published weights use."""

    def __init__(self, config: TextTowerConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(TextLayer(config) for _ in range(config.layers))


class TextModel(nn.Module):
    """Embeddings, layers and final norm, under the name that published weights use."""

    def __init__(self, config: TextTowerConfig) -> None:
        super().__init__()
        self.embeddings = TokenEmbeddings(config)
        self.encoder = TextLayers(config)
        self.final_layer_norm = nn.LayerNorm(config.width)


class TextTower(nn.Module):
    """Token ids (B, T) with T at most `context_length` -> `TextFeatures`.

    The pooled vector is the state at the first end token.
    """

    def __init__(self, config: TextTowerConfig) -> None:
        super().__init__()
        self.config = config
        self.text_model = TextModel(config)
        if config.projection_width:
            self.text_projection = nn.Linear(config.width, config.projection_width, bias=False)

    def forward(self, ids: Tensor, words: Tensor | None = None, visible: Tensor | None = None) -> TextFeatures:
        """What the tower says of its tokens.

        Args:
            words: vectors (B, T, D) that stand for the tokens instead of those of `ids`, without positions: where some
                are learned words. `ids` still say where the text ends.
            visible: (B, T) booleans; a token that is not visible is looked at by no other and not by itself. The first
                must be.
        """
        hidden = [self.text_model.embeddings(ids, words)]
        seen = None
        if visible is not None:
            length = ids.shape[1]
            causal = torch.ones(length, length, dtype=torch.bool, device=ids.device).tril()
            seen = causal & visible[:, None, None, :]
        for layer in self.text_model.encoder.layers:
            hidden.append(layer(hidden[-1], seen))
        last = self.text_model.final_layer_norm(hidden[-1])
        end = (ids == self.config.end_token).int().argmax(dim=1)
        pooled = last[torch.arange(ids.shape[0], device=ids.device), end]
        if self.config.projection_width:
            pooled = self.text_projection(pooled)
        return TextFeatures(tuple(hidden), last, pooled)

    def context(self, features: TextFeatures, clip_skip: int = 1) -> Tensor:
        """The state (B, T, D) that conditions the U-Net: `config.context_layer`, or an earlier one.

        Args:
            clip_skip: which state, counted from the published tower's last, which is 1. The norm after the last layer
                follows where the model's own state has it. States later than the model's own are not read.

        Raises:
            InputError: the tower has fewer layers.
        """
        config = self.config
        last = config.context_layer == "last"
        back = clip_skip - config.dropped_layers
        if back <= (1 if last else 2):
            return features.last if last else features.hidden[-2]
        if back > config.layers:
            most = config.layers + config.dropped_layers
            raise InputError(f"clip_skip is {clip_skip}: this model's text tower has {most} layers")
        state: Tensor = features.hidden[-back]
        return self.text_model.final_layer_norm(state) if last else state
