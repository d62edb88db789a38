"""A whole text-to-image model as one module that learns: U-Net, text towers, and a word of its own.

Shapes: B pictures, N towers, T tokens, D width of a tower.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from rein.errors import InputError
from rein.formats.checkpoint import LoadedModel
from rein.nn.clip import TextTower
from rein.nn.unet import UNet
from rein.text.encode import Conditioning, window_ids
from rein.text.inversion import Embedding
from rein.text.tokenizer import Tokenizer
from rein.text.windows import LearnedWords


@dataclass(frozen=True)
class Tokens:
    """Texts as the towers read them, one window each.

    Fields:
        ids: (N, B, T).
        slots: (N, B, T), which vector of the learned word stands there, -1 where none does.
    """

    ids: Tensor
    slots: Tensor

    def __len__(self) -> int:
        return self.ids.shape[1]

    def select(self, rows: Tensor) -> Tokens:
        """Some of the texts."""
        return Tokens(self.ids[:, rows], self.slots[:, rows])

    def to(self, device: torch.device) -> Tokens:
        """The same on a device."""
        return Tokens(self.ids.to(device), self.slots.to(device))


def tokenise(texts: Sequence[str], model: LoadedModel, word: Embedding | None = None) -> Tokens:
    """Texts cut to one window of each tower; where the name of `word` stands, its vectors do."""
    rows = [
        [_row(text, tower, tokenizer, word) for text in texts]
        for tower, tokenizer in zip(model.towers, model.tokenizers, strict=True)
    ]
    length = max(len(ids) for tower in rows for ids, _ in tower)
    if any(len(ids) != length for tower in rows for ids, _ in tower):
        raise InputError("text towers that read windows of different lengths cannot be taught together")
    ids, slots = ([[entry[part] for entry in tower] for tower in rows] for part in (0, 1))
    return Tokens(torch.tensor(ids), torch.tensor(slots))


def _row(text: str, tower: TextTower, tokenizer: Tokenizer, word: Embedding | None) -> tuple[list[int], list[int]]:
    """Ids (T,) and slots (T,) of one text; what does not fit into the window is cut off, a learned word as a whole."""
    known = {} if word is None else {word.name: word}
    room = tower.config.context_length - 2
    ids: list[int] = []
    slots: list[int] = []
    for group in LearnedWords(tokenizer, known).tokens(tokenizer.encode(text), 1.0, 0):
        if len(ids) + len(group) > room:
            break
        ids += [token.id for token in group]
        slots += [-1 if token.learned is None else token.learned[1] for token in group]
    [row] = window_ids(ids, tower, tokenizer, 1)
    return list(row), [-1, *slots, *[-1] * (len(row) - 1 - len(slots))]


class Pupil(nn.Module):
    """The networks of a model under "unet", "towers" and "words", so that one optimiser and one average hold them.

    `words`: the vectors (n, D) of a learned word for each tower, none where no word is learned.
    """

    def __init__(self, model: LoadedModel, words: Sequence[Tensor] = ()) -> None:
        super().__init__()
        self.unet: UNet = model.unet
        self.towers = nn.ModuleList(model.towers)
        self.words = nn.ParameterList(nn.Parameter(vectors.clone()) for vectors in words)
        self._zero_empty = model.spec.zero_empty_negative
        self._unit = model.spec.autoencoder.downscale

    def forward(
        self,
        x: Tensor,
        timestep: Tensor,
        words: Tokens | Conditioning,
        dropped: Tensor | None = None,
        place: Tensor | None = None,
    ) -> Tensor:
        """Network input (B, C, h, w), timesteps (B,) and texts -> the network's prediction.

        Args:
            words: what the towers are to read, or what they made of it before.
            dropped: (B,) marks the texts that are empty, for families that show the U-Net zeros in their place.
            place: of windows in their pictures (B, 4), from `rein.training.crops.windows`; None shows whole ones.
        """
        context, pooled = self._read(words) if isinstance(words, Tokens) else (words.context, words.pooled)
        assert pooled is not None
        if dropped is not None and self._zero_empty:
            context = torch.where(dropped[:, None, None], 0.0, context)
            pooled = torch.where(dropped[:, None], 0.0, pooled)
        config = self.unet.config
        sizes = self._sizes(x, place) if config.size_ids else None
        out: Tensor = self.unet(x, timestep, context, pooled if config.pooled_width else None, sizes)
        return out

    def _read(self, tokens: Tokens) -> tuple[Tensor, Tensor]:
        """Context (B, T, D) and pooled text (B, P)."""
        contexts: list[Tensor] = []
        pooled: Tensor | None = None
        for number, tower in enumerate(self.towers):
            assert isinstance(tower, TextTower)
            ids = tokens.ids[number]
            features = tower(ids, self._vectors(tower, number, ids, tokens.slots[number]))
            contexts.append(tower.context(features))
            pooled = features.pooled
        assert pooled is not None
        return torch.cat(contexts, dim=2), pooled

    def _vectors(self, tower: TextTower, number: int, ids: Tensor, slots: Tensor) -> Tensor | None:
        """Vectors (B, T, D) of the tokens, the learned word's among them; None where there is no such word."""
        if not self.words:
            return None
        plain = tower.text_model.embeddings.token_embedding(ids)
        learned = self.words[number][slots.clamp(min=0)].to(plain.dtype)
        return torch.where((slots >= 0)[..., None], learned, plain)

    def _sizes(self, x: Tensor, place: Tensor | None) -> Tensor:
        """Sizes in pixels (B, 6): of the whole picture, the corner, what is shown of it (Podell et al. 2023)."""
        shown = torch.tensor([[x.shape[-2] * self._unit, x.shape[-1] * self._unit]], device=x.device)
        if place is None:
            place = torch.cat([shown, torch.zeros_like(shown)], dim=1)
        return torch.cat([part.expand(len(x), -1) for part in (place, shown)], dim=1)


def check_teachable(model: LoadedModel) -> None:
    """See that a model is one of texts to pictures.

    Raises:
        InputError: its U-Net sees more than the noisy latents, or scores instead of sizes.
    """
    if model.spec.conditioning_channels:
        raise InputError(
            f"model {model.spec.name!r} sees {model.spec.conditioning_channels} channels besides the picture: "
            "teach the text-to-image model that it was made from"
        )
    if model.unet.config.size_ids not in (0, 6):
        raise InputError(f"model {model.spec.name!r} is a refiner: teach the base model")
