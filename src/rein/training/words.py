"""Captions as a U-Net hears them, from text towers that do not learn."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from rein.formats.checkpoint import LoadedModel
from rein.pipeline.network import AESTHETIC_SCORE
from rein.text.encode import Conditioning, check_pair, window_ids


class FrozenWords:
    """Makes captions into a `Conditioning`, a whole batch at a time. What does not fit into one window is cut off."""

    def __init__(self, parts: LoadedModel) -> None:
        self.towers, self.tokenizers = parts.towers, parts.tokenizers
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
        contexts: list[Tensor] = []
        pooled: Tensor | None = None
        for tower, tokenizer in zip(self.towers, self.tokenizers, strict=True):
            device = next(tower.parameters()).device
            rows = [window_ids(tokenizer.encode(text), tower, tokenizer, 1)[0] for text in captions]
            features = tower(torch.tensor(rows, device=device))
            contexts.append(tower.context(features))
            pooled = features.pooled
        assert pooled is not None
        context = torch.cat(contexts, dim=2)
        if self._zero_empty:
            said = torch.tensor([bool(text) for text in captions], device=pooled.device)
            context, pooled = context * said[:, None, None], pooled * said[:, None]
        sizes = self._sizes.to(pooled.device).expand(len(captions), -1) if self._config.size_ids else None
        return Conditioning(context, pooled if self._config.pooled_width else None, sizes)
