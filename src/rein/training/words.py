"""Captions as a U-Net hears them, from text towers that do not learn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from rein.formats.checkpoint import LoadedModel
from rein.pipeline.network import AESTHETIC_SCORE
from rein.text.encode import Conditioning, check_pair, encode_windows, one_window


class FrozenWords:
    """Makes captions into a `Conditioning`, a whole batch at a time. What does not fit into one window is cut off.

    `known` are those that the towers need not read again (`rein.data.features.text_features`).
    """

    def __init__(self, parts: LoadedModel, known: Mapping[str, Conditioning] | None = None) -> None:
        self.towers, self.tokenizers, self._known = parts.towers, parts.tokenizers, known or {}
        for tower, tokenizer in zip(self.towers, self.tokenizers, strict=True):
            check_pair(tower, tokenizer)
        self._config = parts.spec.unet
        self._zero_empty = parts.spec.zero_empty_negative
        side = float(parts.spec.native_size)
        last = [AESTHETIC_SCORE] if self._config.size_ids == 5 else [side, side]
        self._sizes = torch.tensor([side, side, 0.0, 0.0, *last])  # nothing of the pictures is cut off

    def place(self, device: torch.device) -> None:
        """Move the towers to the device of the training."""
        for tower in self.towers:
            tower.to(device)

    @torch.no_grad()
    def __call__(self, captions: Sequence[str]) -> Conditioning:
        """Context (B, T, D), and pooled text (B, P) and sizes (B, S) where the U-Net takes them."""
        words = self.features(captions)
        context, pooled = words.context, words.pooled
        assert pooled is not None
        if self._zero_empty:
            said = torch.tensor([bool(text) for text in captions], device=pooled.device)
            context, pooled = context * said[:, None, None], pooled * said[:, None]
        sizes = self._sizes.to(pooled.device).expand(len(captions), -1) if self._config.size_ids else None
        return Conditioning(context, pooled if self._config.pooled_width else None, sizes)

    @torch.no_grad()
    def features(self, captions: Sequence[str]) -> Conditioning:
        """Context (B, T, D) and pooled text (B, P), as the towers give them for empty captions too."""
        if all(text in self._known for text in captions):
            device = next(self.towers[0].parameters()).device
            return Conditioning.cat([self._known[text] for text in captions]).to(device)
        return encode_windows([one_window(text, self.towers, self.tokenizers) for text in captions], self.towers)
