"""Training the judge on all of the art: every style and combination, those held out from generators as well."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import islice

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from rein.data.colours import COLOUR_NAMES
from rein.data.held_out import HeldOut
from rein.data.icons import IconArt
from rein.data.options import ArtOptions, Mixture
from rein.data.scenes import SceneMaker
from rein.errors import InputError, NonFiniteError
from rein.evaluation.classifier import Classifier, ClassifierConfig, Verdict
from rein.evaluation.damage import DamageOptions, damaged
from rein.evaluation.views import View, training_views

OWN_COLOUR_SHIFT = 2.0
"""Taken off the logit of a thing's own colours after training. There are thirty times as many of these as of any
colour, so a doubtful colour would be called the thing's own (Menon et al. 2021, logit adjustment)."""

IGNORED = -100
"""A class that is not judged: of a view without a thing, or a colour that the thing has by itself."""

JUDGE_MIXTURE = Mixture(plain=0.34, colour=0.26, background=0.06, position=0.02, count=0.02, pair=0.28, triple=0.02)


@dataclass(frozen=True)
class LearningOptions:
    """How the judge is trained: each step damages `batch_size` of the `views` that are drawn with `seed`."""

    steps: int = 2_000
    batch_size: int = 64
    views: int = 24_000
    learning_rate: float = 4e-3
    weight_decay: float = 0.05
    warm_up: int = 100
    seed: int = 1
    bf16: bool = True
    widths: tuple[int, ...] = (64, 128, 192)
    damage: DamageOptions = field(default=DamageOptions())

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "views", "warm_up"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}; it must be at least 1")


@dataclass(frozen=True)
class Lesson:
    """One finished step: the loss and its parts, and the views per second so far."""

    step: int
    steps: int
    losses: dict[str, float]
    views_per_second: float


@dataclass(frozen=True)
class Lessons:
    """Views (N, 3, 64, 64) uint8, and what each shows: classes of `Verdict`, (N,) each."""

    views: Tensor
    concepts: Tensor
    styles: Tensor
    colours: Tensor

    def at(self, indices: Tensor) -> Lessons:
        """Some of them."""
        return Lessons(*(part[indices] for part in (self.views, self.concepts, self.styles, self.colours)))


class JudgeTraining:
    """Trains a new `classifier` by `run()`. `art_options` say which concepts, styles and size; their seed is not used.

    Nothing is held out here: the judge has to know what a generator never saw.
    """

    def __init__(self, art_options: ArtOptions, options: LearningOptions | None = None) -> None:
        self.options = options or LearningOptions()
        self.art = IconArt(replace(art_options, held_out_share=0.0, mixture=JUDGE_MIXTURE))
        torch.manual_seed(self.options.seed)
        self.classifier = new_classifier(self.art, self.options.widths)

    def run(self) -> Iterator[Lesson]:
        """Draw the views, which takes a millisecond each, and train to the last step.

        Raises:
            NonFiniteError: the loss is not finite.
        """
        options = self.options
        lessons = drawn_lessons(self.art, options.views, options.seed)
        network = self.classifier.train()
        optimiser = torch.optim.AdamW(network.parameters(), options.learning_rate, weight_decay=options.weight_decay)
        began = time.monotonic()
        for step in range(options.steps):
            for group in optimiser.param_groups:
                group["lr"] = options.learning_rate * self._rate(step)
            losses = self._losses(lessons, step)
            losses["loss"].backward()
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
            shown = {name: float(value.detach()) for name, value in losses.items()}
            if not np.isfinite(shown["loss"]):
                raise NonFiniteError(f"the judge's loss is {shown['loss']} at step {step + 1}; lower the learning rate")
            pace = (step + 1) * options.batch_size / (time.monotonic() - began)
            yield Lesson(step + 1, options.steps, shown, pace)
        with torch.no_grad():
            network.eval().colours.bias[0] -= OWN_COLOUR_SHIFT

    def _rate(self, step: int) -> float:
        """Linear warm-up, then a linear fall to 0."""
        return min((step + 1) / self.options.warm_up, (self.options.steps - step) / self.options.steps)

    def _losses(self, lessons: Lessons, step: int) -> dict[str, Tensor]:
        generator = torch.Generator().manual_seed(self.options.seed * 1_000_003 + step)
        batch = lessons.at(torch.randint(len(lessons.views), (self.options.batch_size,), generator=generator))
        views = damaged(batch.views.float() / 127.5 - 1.0, generator, self.options.damage)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.options.bf16):
            verdict = self.classifier(views)
        return judge_losses(verdict, batch)


def new_classifier(art: IconArt, widths: tuple[int, ...]) -> Classifier:
    """An untrained classifier for the concepts and styles of some art."""
    concepts = tuple(concept.icon for concept in art.concepts)
    return Classifier(ClassifierConfig(concepts, art.styles, COLOUR_NAMES, widths, (1,) * len(widths)))


def judge_losses(verdict: Verdict, targets: Lessons) -> dict[str, Tensor]:
    """Cross-entropies; those of style and colour count a half."""
    concepts = functional.cross_entropy(verdict.concepts, targets.concepts)
    styles = functional.cross_entropy(verdict.styles, targets.styles)
    known = (targets.colours != IGNORED).sum().clamp(min=1)
    colours = functional.cross_entropy(verdict.colours, targets.colours, ignore_index=IGNORED, reduction="sum") / known
    loss = concepts + 0.5 * styles + 0.5 * colours
    return {"loss": loss, "concepts": concepts, "styles": styles, "colours": colours}


def drawn_lessons(art: IconArt, count: int, seed: int) -> Lessons:
    """Views of the art, with what they show."""
    held_out = HeldOut(art)
    views = list(islice(training_views(art, SceneMaker(art, held_out), seed), count))
    nothing = len(art.concepts)
    return Lessons(
        views=torch.from_numpy(np.stack([view.pixels for view in views])).permute(0, 3, 1, 2).contiguous(),
        concepts=torch.tensor([nothing if view.thing is None else view.thing.concept for view in views]),
        styles=torch.tensor([view.style for view in views]),
        colours=torch.tensor([_colour(view, held_out) for view in views]),
    )


def _colour(view: View, held_out: HeldOut) -> int:
    """0 for a thing in its own colours, else 1 + the colour's place."""
    if view.thing is None:
        return IGNORED
    colour = view.thing.colour
    if colour is None:
        return 0
    return IGNORED if colour in held_out.own_colours[view.thing.concept] else 1 + colour
