"""What a model answered before it was taught, so that what it learns leaves those answers alone.

Pictures of a class (`rein.training.prior`) are data like any other: a model that learns them beside its lesson learns
their accidents too. The answers themselves, at noise levels and noise that are drawn once, have none: their error is 0
before the first step, and all that it tells is what the lesson has moved. It is distillation of the model as it was
(Hinton et al. 2015; Li & Hoiem 2016, "Learning without forgetting"). Guidance sets words against no words, so the
answers without words are kept as well.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import cycle

import torch
from torch import Tensor

from rein.training.lessons import Lesson
from rein.training.noising import NoiseLoss

_AT_ONCE = 16
_WITHOUT_WORDS = 4
"""One answer of so many is kept without words."""
_SEED = 2
_COMPARED = 64

Asked = Callable[[Tensor, Tensor, Sequence[str], Tensor], Tensor]
"""A model: input (B, C, h, w), timesteps (B,), texts and which of them are dropped (B,) -> prediction (B, C, h, w)."""


@dataclass(frozen=True)
class KeptAnswers:
    """Questions to a model, and its answers.

    Fields:
        shown, timestep: the network's input (N, C, h, w) and timesteps (N,).
        texts: N texts, empty where `dropped` (N,) is true.
        answers: predictions (N, C, h, w).
    """

    shown: Tensor
    timestep: Tensor
    texts: tuple[str, ...]
    dropped: Tensor
    answers: Tensor

    @classmethod
    @torch.no_grad()
    def of(
        cls, model: Asked, lessons: Sequence[Lesson], prompts: Sequence[str], loss: NoiseLoss, times: int
    ) -> KeptAnswers:
        """The answers for each lesson, all of one shape, at `times` noise levels, which are drawn as `loss` does.

        The prompts take turns whatever a picture shows: where most is noise, which is where a picture's layout and
        ground are decided, it shows next to nothing, and many prompts can be kept with few pictures.
        """
        device = lessons[0].latents.device
        generator = torch.Generator(device).manual_seed(_SEED)
        every = [lesson for _ in range(times) for lesson in lessons]
        dropped = torch.arange(len(every), device=device) % _WITHOUT_WORDS == _WITHOUT_WORDS - 1
        turns = cycle(prompts)
        texts = ["" if gone else next(turns) for gone in dropped.tolist()]
        shown, timesteps, answers = [], [], []
        for first in range(0, len(every), _AT_ONCE):
            part = slice(first, first + _AT_ONCE)

            def ask(x: Tensor, timestep: Tensor, part: slice = part) -> Tensor:
                shown.append(x)
                timesteps.append(timestep)
                answers.append(model(x, timestep, texts[part], dropped[part]).float())
                return answers[-1]

            loss(ask, torch.stack([lesson.latents.float() for lesson in every[part]]), generator)
        return cls(torch.cat(shown), torch.cat(timesteps), tuple(texts), dropped, torch.cat(answers))

    def error(self, model: Asked, count: int, generator: torch.Generator) -> Tensor:
        """Mean squared distance of the answers to `count` questions, drawn by lot, from those that are kept."""
        chosen = torch.randint(len(self.texts), (count,), generator=generator, device=generator.device)
        return (self._asked(model, chosen) - self.answers[chosen]).square().mean()

    @torch.no_grad()
    def drift(self, model: Asked) -> float:
        """How far the answers to the first 64 questions have moved, as a share of their size."""
        moved = size = 0.0
        for chosen in torch.arange(len(self.texts), device=self.shown.device)[:_COMPARED].split(_AT_ONCE):
            moved += float((self._asked(model, chosen) - self.answers[chosen]).square().sum())
            size += float(self.answers[chosen].square().sum())
        return float((moved / size) ** 0.5)

    def _asked(self, model: Asked, chosen: Tensor) -> Tensor:
        texts = [self.texts[place] for place in chosen.tolist()]
        return model(self.shown[chosen], self.timestep[chosen], texts, self.dropped[chosen]).float()
