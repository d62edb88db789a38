"""Few-step distillation: a student U-Net learns to draw in a handful of steps what its teacher draws in many.

The teacher's guidance is folded in (Meng et al. 2023): the student is asked once a step, with the prompt alone. Both
methods go along the teacher's path by Euler steps, x' = r x + (1 - r) x0 with r = sigma' / sigma, for any prediction:

* progressive (Salimans & Ho 2022): from a level of its own grid the student must land in one step where the teacher
  lands in several. Steps are halved by stages, each taught by the one before, or divided at once.
* consistency (Song et al. 2023; latent form, Luo et al. 2023): from a level of the teacher's grid the student must say
  the picture that it says itself one step of the teacher later. Drawn with the sampler `lcm`.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn

from rein.diffusion.prediction import find_prediction, per_picture
from rein.diffusion.schedule import make_schedule
from rein.diffusion.spacing import spaced_sigmas
from rein.errors import InputError
from rein.formats.checkpoint import LoadedModel
from rein.images import grid
from rein.nn.specs import ModelSpec
from rein.nn.unet import UNet
from rein.text.encode import Conditioning
from rein.training.adapter import LearningAdapter
from rein.training.forms import ShownObjective, chosen, save_unet
from rein.training.objective import Batch, Losses, Uncompiled
from rein.training.showing import draw_with
from rein.training.shown_data import ShownSet
from rein.training.tables_forms import DistilTable
from rein.training.words import FrozenWords

_VALIDATED, _AT_ONCE, _SHOWN = 128, 32, 8

SAMPLERS = {"progressive": "euler", "consistency": "lcm"}
"""What draws with a student, by the method that taught it."""

SPACING = "trailing"
"""Levels of a student. None lies near the end, where a step has nothing left to do, and those of half the steps are
every second one (Lin et al. 2023, section 3.3)."""


class DistilObjective(ShownObjective):
    """Teaches a copy of `teacher`'s U-Net to draw in `table.steps_of_student` steps; the teacher is left as it is.

    Raises:
        InputError: a teacher that already guides itself, or grids that its schedule does not have.
    """

    name = "distil"

    def __init__(
        self,
        teacher: LoadedModel,
        table: DistilTable,
        train: ShownSet,
        held_out: ShownSet,
        provenance: Mapping[str, str] | None = None,
    ) -> None:
        if teacher.spec.unet.guidance_width:
            raise InputError(
                f"model {teacher.spec.name!r} is a student already, told its guidance scale: take its base"
            )
        if not len(held_out):
            raise InputError("a student is watched on held-out pictures, and there are none: set them apart in [data]")
        self.teacher, self.table = teacher, table
        self.unet: UNet = copy.deepcopy(teacher.unet).requires_grad_(table.rank == 0)
        self.adapter: LearningAdapter | None = None
        if table.rank:
            self.adapter = LearningAdapter({"unet": self.unet}, teacher.spec, table)
        self.parts = replace(teacher, spec=student_spec(teacher.spec, table), unet=self.unet)
        self.train, self.held_out, self.provenance = train, held_out, provenance or {}
        self.prediction = find_prediction(teacher.spec.prediction)
        self.schedule = make_schedule(**asdict(teacher.spec.schedule))
        self.guidance = teacher.spec.default_guidance if table.guidance is None else table.guidance
        self.levels = self._grid()
        self.words = FrozenWords(teacher, train.words)
        self._method = {"progressive": self._progressive, "consistency": self._consistency}[table.method]

    def _grid(self) -> Tensor:
        """Levels (S + 1, K + 1): in row i those from the student's level i to the next, K steps of the teacher."""
        own = spaced_sigmas(self.parts.spec.default_spacing, self.table.steps_of_student, self.schedule)
        times = self.schedule.timestep(own)
        times[-1] = 0.0  # below the lowest level of a discrete schedule is none
        parts = torch.arange(self.table.substeps + 1) / self.table.substeps
        rows = times[:-1, None] + (times[1:] - times[:-1])[:, None] * parts
        # Below the first trained level there are no times to part, but noise.
        levels = torch.where(rows[:, :1] >= 1, self.schedule.sigma(rows), own[:-1, None] * (1 - parts))
        levels[:, 0], levels[:, -1] = own[:-1], own[1:]
        return levels

    def place(self, device: torch.device) -> None:
        """Move to the training's device what every step reads, the teacher among it."""
        super().place(device)
        self.levels = self.levels.to(device)
        self.teacher.unet.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.teacher.autoencoder.to(device)

    def _loss(self, module: nn.Module, batch: Batch) -> Losses:
        generator = batch.generator
        indices = batch.indices.to(generator.device)
        lots = torch.rand(3, len(indices), generator=generator, device=generator.device)
        latents, extra, texts = chosen(self.train, indices, lots, self.table.caption_dropout)
        return {"loss": self._error(module, latents, extra, texts, generator)}

    def _error(
        self,
        module: Callable[..., Tensor],
        latents: Tensor,
        extra: Tensor,
        texts: Sequence[str],
        generator: torch.Generator,
    ) -> Tensor:
        """Mean error of the picture that the student says, at levels drawn by lot."""
        x0 = latents.float()
        noise = torch.randn(x0.shape, generator=generator, device=generator.device)
        words = replace(self.words([*texts, *[""] * len(texts)]), extra=torch.cat([extra, extra]))
        lots = torch.rand(len(x0), generator=generator, device=generator.device)
        x, sigma, target = self._method(module, (x0, noise), words, lots)
        answer = self._x0(module, x, sigma, words.select(slice(len(x0))))
        # The truncated weight of Salimans & Ho 2022, section 4: max(1, SNR) on the squared error of x0.
        difference = (answer - target) * per_picture((1 / sigma).clamp(min=1.0), x0)
        if not self.table.huber:
            return difference.square().mean()
        bound = self.table.huber
        return (2 * bound * ((difference.square() + bound**2).sqrt() - bound)).mean()

    def _progressive(
        self, module: Callable[..., Tensor], pictures: tuple[Tensor, Tensor], words: Conditioning, lots: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Latents at a level of the student's grid, that level, and the x0 that leads to where the teacher lands."""
        rows = self.levels[(lots * len(self.levels)).long()]
        x = started = pictures[0] + per_picture(rows[:, 0], pictures[0]) * pictures[1]
        # The target is a mean of the teacher's answers: from where it lands, little of it could be told at high noise.
        target, share = torch.zeros_like(x), torch.ones_like(rows[:, 0])
        for now, after in zip(rows.T[:-1], rows.T[1:], strict=True):
            answer, kept = self._guided(x, now, words), per_picture(after / now, x)
            x, target = kept * x + (1 - kept) * answer, kept * target + (1 - kept) * answer
            share = share * (after / now)
        return started, rows[:, 0], target / (1 - per_picture(share, x))

    def _consistency(
        self, module: Callable[..., Tensor], pictures: tuple[Tensor, Tensor], words: Conditioning, lots: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Latents at a level of the teacher's grid, that level, and what the student says one step later."""
        pairs = torch.stack([self.levels[:, :-1].flatten(), self.levels[:, 1:].flatten()], dim=1)
        now, after = pairs[(lots * len(pairs)).long()].T
        x = pictures[0] + per_picture(now, pictures[0]) * pictures[1]
        kept = per_picture(after / now, x)
        later = kept * x + (1 - kept) * self._guided(x, now, words)
        with torch.no_grad():  # the student of this very step, without an average (Song & Dhariwal 2024, section 3.2)
            level = after.clamp(min=float(self.schedule.sigma_min))
            known = self._x0(module, later, level, words.select(slice(len(x))))
        return x, now, torch.where(per_picture(after, x) > 0, known, later)

    @torch.no_grad()
    def _guided(self, x: Tensor, sigma: Tensor, words: Conditioning) -> Tensor:
        """The teacher's x0 (B, C, h, w); `words` has the prompts and then as many empty ones."""
        if self.guidance == 1:
            return self._x0(self.teacher.unet, x, sigma, words.select(slice(len(x))))
        both = self._x0(self.teacher.unet, torch.cat([x, x]), torch.cat([sigma, sigma]), words)
        wanted, unwanted = both.chunk(2)
        return unwanted + self.guidance * (wanted - unwanted)

    def _x0(self, unet: Callable[..., Tensor], x: Tensor, sigma: Tensor, words: Conditioning) -> Tensor:
        return self.prediction.x0(self._asked(unet, x, sigma, words), x, sigma)

    def _asked(self, unet: Callable[..., Tensor], x: Tensor, sigma: Tensor, words: Conditioning) -> Tensor:
        seen = self.prediction.network_input(x, sigma)
        if words.extra is not None:
            seen = torch.cat([seen, words.extra], dim=1)
        shown = seen.contiguous(memory_format=torch.channels_last)
        return unet(shown, self.schedule.timestep(sigma), words.context, words.pooled, words.size_ids).float()

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """The same error on held-out pictures from fixed seeds."""
        count = min(_VALIDATED, len(self.held_out))
        generator, total = torch.Generator(self.levels.device).manual_seed(1), 0.0
        for first in range(0, count, _AT_ONCE):
            rows = slice(first, min(first + _AT_ONCE, count))
            texts = [captions[0] for captions in self.held_out.captions[rows]]
            latents, extra = self.held_out.latents[rows], self.held_out.extra[rows, 0].float()
            total += float(self._error(Uncompiled(self.unet), latents, extra, texts, generator)) * len(latents)
        return {"held_out_error": total / count}

    def sample(self) -> Image.Image:
        """Held-out captions drawn by the student, each from its own seed."""
        rows = range(min(_SHOWN, len(self.held_out)))
        texts = [self.held_out.captions[row][0] for row in rows]
        extra = self.held_out.extra[:, :1] if self.held_out.extra.shape[2] else None
        steps = self.table.steps_of_student
        drawn = [
            draw_with(self.parts, text, row, None if extra is None else extra[row], steps)
            for row, text in zip(rows, texts, strict=True)
        ]
        return grid(drawn, columns=len(drawn), labels=texts)

    def save(self, folder: Path) -> None:
        """Write the student's U-Net into the model folder, or the adapter that makes the teacher into the student."""
        if self.adapter is None:
            save_unet(self.unet, folder)
        else:
            self.adapter.save(folder, self.provenance)


def student_spec(spec: ModelSpec, table: DistilTable) -> ModelSpec:
    """What a student is: its teacher, drawn without guidance in its few steps by the sampler of its method."""
    return replace(
        spec,
        default_guidance=1.0,
        default_sampler=SAMPLERS[table.method],
        default_spacing=SPACING,
        default_steps=table.steps_of_student,
    )
