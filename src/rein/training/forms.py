"""Forms of a model: its U-Net taught to heed more input channels, such as a depth map or a mask with what is round it.

The new channels start with weights of zero, so that the first step is the base model's own (as Stable Diffusion's
inpainting and depth models were made, Rombach et al. 2022 and the cards of Stable Diffusion 2).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn

from rein.errors import quoted
from rein.formats.checkpoint import LoadedModel
from rein.formats.tensors import write_tensors
from rein.images import grid, tensor_to_pil
from rein.nn.initial import widened
from rein.nn.specs import ModelSpec
from rein.nn.unet import UNet
from rein.pipeline.conditioning import blank_channels
from rein.training.diffusion import UNET_FILE
from rein.training.noising import NoiseLoss
from rein.training.objective import Batch, Losses, Player, Uncompiled
from rein.training.showing import draw_with
from rein.training.shown_data import ShownSet
from rein.training.tables_forms import FormTable
from rein.training.words import FrozenWords

_VALIDATED, _AT_ONCE, _SHOWN = 256, 32, 8


class ShownObjective(ABC):
    """What the objectives that teach a U-Net on a `ShownSet` share."""

    unet: UNet
    train: ShownSet
    held_out: ShownSet
    words: FrozenWords

    def place(self, device: torch.device) -> None:
        """Keep pictures and words where the network is, so that no step waits for a transfer."""
        self.train, self.held_out = self.train.to(device), self.held_out.to(device)
        self.words.place(device)

    def players(self) -> list[Player]:
        """The U-Net alone."""
        return [Player("unet", self.unet, self._loss)]

    def size(self) -> int:
        return len(self.train)

    def picture(self, index: int) -> str:
        """What messages call a picture."""
        return picture_name(self.train, index)

    @abstractmethod
    def _loss(self, module: nn.Module, batch: Batch) -> Losses:
        """What the U-Net is to make small."""


class FormObjective(ShownObjective):
    """Teaches a copy of `base`'s U-Net, widened to what `spec` says, to draw with what the new channels show.

    `base` is left as it is.

    Raises:
        InputError: `spec` is not the base with more channels; options of the loss that exclude one another.
    """

    name = "form"

    def __init__(
        self, base: LoadedModel, spec: ModelSpec, table: FormTable, train: ShownSet, held_out: ShownSet
    ) -> None:
        self.unet = widened(base.unet, spec.unet)
        self.parts = replace(base, spec=spec, unet=self.unet)
        self.table, self.train, self.held_out = table, train, held_out
        self.noise_loss = NoiseLoss.of(table, spec)
        self.words = FrozenWords(self.parts, train.words)
        blank = blank_channels(self.parts, *train.latents.shape[-2:])
        assert blank is not None, "a form has channels beyond the latents"
        self.blank = blank.clone().float()  # outside of inference mode

    def place(self, device: torch.device) -> None:
        """Keep latents and channels where the network is."""
        super().place(device)
        self.blank = self.blank.to(device)
        self.parts.autoencoder.to(device)

    def _loss(self, module: nn.Module, batch: Batch) -> Losses:
        generator, indices = batch.generator, batch.indices.to(batch.generator.device)
        # Drawn in one go: how a caption is chosen changes nothing else.
        lots = torch.rand(4, len(indices), generator=generator, device=generator.device)
        latents, extra, texts = chosen(self.train, indices, lots, self.table.caption_dropout)
        extra = torch.where((lots[3] < self.table.blank)[:, None, None, None], self.blank, extra)
        return {"loss": self._error(module, latents, extra, texts, generator)}

    def _error(
        self,
        module: Callable[..., Tensor],
        latents: Tensor,
        extra: Tensor,
        texts: Sequence[str],
        generator: torch.Generator,
    ) -> Tensor:
        words = self.words(texts)

        def answer(x: Tensor, timestep: Tensor) -> Tensor:
            shown = torch.cat([x, extra], dim=1).contiguous(memory_format=torch.channels_last)
            return module(shown, timestep, words.context, words.pooled, words.size_ids)

        return self.noise_loss(answer, latents.float(), generator).mean()

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """The loss on held-out pictures at fixed noise, with the first of what may be shown, and with nothing shown."""
        shown = self.held_out.extra[:_VALIDATED, 0].float()
        return {
            "held_out_loss": self._held_out(shown),
            "held_out_loss_blank": self._held_out(self.blank.expand_as(shown)),
        }

    def _held_out(self, extra: Tensor) -> float:
        generator, total = torch.Generator(self.blank.device).manual_seed(1), 0.0
        for first in range(0, len(extra), _AT_ONCE):
            rows = slice(first, first + _AT_ONCE)
            texts = [captions[0] for captions in self.held_out.captions[: len(extra)][rows]]
            latents = self.held_out.latents[: len(extra)][rows]
            error = self._error(Uncompiled(self.unet), latents, extra[rows], texts, generator)
            total += float(error) * len(latents)
        return total / len(extra)

    def sample(self) -> Image.Image:
        """What the new channels show of held-out pictures, and below it what is drawn from their captions."""
        rows = range(min(_SHOWN, len(self.held_out)))
        texts = [self.held_out.captions[row][0] for row in rows]
        first = self.held_out.extra[:, :1]
        drawn = [draw_with(self.parts, text, row, first[row]) for row, text in zip(rows, texts, strict=True)]
        shown = [_grey(first[row, 0].float(), drawn[0].size) for row in rows]
        return grid([*shown, *drawn], columns=len(drawn), labels=[*[""] * len(shown), *texts])

    def save(self, folder: Path) -> None:
        """Write the U-Net into the model folder."""
        save_unet(self.unet, folder)


def save_unet(unet: nn.Module, folder: Path) -> None:
    """Write a U-Net's weights as they are into a folder, which is made if it is missing."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: value.detach().cpu().contiguous() for name, value in unet.state_dict().items()}
    write_tensors(folder / UNET_FILE, tensors, {"format": "pt"})


def picture_name(pictures: ShownSet, index: int) -> str:
    """What messages call a picture of a set: its number, and what it is said to show."""
    return f"picture {index} ({quoted(pictures.captions[index][0], 60)})"


def chosen(train: ShownSet, indices: Tensor, lots: Tensor, dropout: float) -> tuple[Tensor, Tensor, list[str]]:
    """Latents (B, C, h, w), further channels (B, E, h, w) and captions of pictures `indices` (B,).

    `lots` (3 or more, B) in [0, 1) decide whether a caption is dropped, which it is, and which way to show the picture.
    """
    variant = (lots[2] * train.extra.shape[1]).long()
    texts = chosen_captions(train, indices, lots[:2], dropout)
    return train.latents[indices], train.extra[indices, variant].float(), texts


def chosen_captions(train: ShownSet, indices: Tensor, lots: Tensor, dropout: float) -> list[str]:
    """One caption of each picture by lots (2, B) in [0, 1): whether it is dropped for the empty one, and which."""
    rows = zip(indices.tolist(), *lots.tolist(), strict=True)
    return ["" if drop < dropout else train.text(i, which) for i, drop, which in rows]


def _grey(extra: Tensor, size: tuple[int, int]) -> Image.Image:
    """The first of the new channels (E, h, w), its range stretched from black to white."""
    first = extra[:1].cpu()
    low, high = first.amin(), first.amax()
    unit = (first - low) / (high - low).clamp(min=1e-6)
    return tensor_to_pil((2 * unit - 1).expand(3, -1, -1)).resize(size, Image.Resampling.NEAREST)
