"""What is noted of each step of an explained picture. Shapes: latents (C, h, w), one picture."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from rein.explain.heatmaps import LayerMaps
from rein.explain.observe import Evaluation


@dataclass(frozen=True)
class Guidance:
    """What guidance added to the words' own answer at one step.

    Fields:
        size: length of what was added, relative to the length of the words' answer; 0 is nothing.
        apart: how far the answers with and without words are apart, relative to the former.
        turn: cosine between what was added at this step and at the one before, 1 being the same direction; None at the
            first step, and where nothing was added.
    """

    size: float
    apart: float
    turn: float | None


@dataclass(frozen=True, eq=False)
class StepRecord:
    """One step.

    Fields:
        index, steps: which, from 0, of how many.
        sigma, next_sigma: noise levels before and after it; timestep: how the network is told the first.
        before, latents: (C, h, w), before and after the step.
        denoised: the finished picture as the network, guided, saw it at this step, (C, h, w).
        wanted, unwanted: its answers with the words, and with the negative or empty prompt (None if not asked); under a
            mask with the known parts in them, as `denoised` has them.
        guidance: what guidance did, in numbers; None where it did not act.
        evaluations: how often the denoiser was asked.
        seconds: wall time of the step, without the time for looking.
        attention: where each token was looked at, layer by layer.
    """

    index: int
    steps: int
    sigma: float
    next_sigma: float
    timestep: float
    before: Tensor
    latents: Tensor
    denoised: Tensor
    wanted: Tensor
    unwanted: Tensor | None
    guidance: Guidance | None
    evaluations: int
    seconds: float
    attention: tuple[LayerMaps, ...] = ()

    @property
    def added(self) -> Tensor:
        """What guidance added to the answer with the words, (C, h, w)."""
        return self.denoised - self.wanted


@dataclass(frozen=True)
class StepNumbers:
    """A step without its tensors: what is kept of every step of a run of any length."""

    index: int
    sigma: float
    next_sigma: float
    timestep: float
    guidance: Guidance | None
    evaluations: int
    seconds: float
    change: float | None
    """How far the finished picture, as the network sees it, moved since the step before, relative to its length."""

    @classmethod
    def of(cls, record: StepRecord, before: Tensor | None) -> StepNumbers:
        """The numbers of a record; `before` is the `denoised` of the step before."""
        change = None
        if before is not None:
            change = _length(record.denoised - before) / max(_length(record.denoised), 1e-12)
        kept = (record.index, record.sigma, record.next_sigma, record.timestep, record.guidance, record.evaluations)
        return cls(*kept, record.seconds, change)


def guidance_of(answers: Evaluation, before: Tensor | None) -> Guidance | None:
    """What guidance added at a step; `before` is what it added at the one before. None where it did not act."""
    if answers.unwanted is None:
        return None
    length = max(_length(answers.wanted), 1e-12)
    added = answers.denoised - answers.wanted
    size = _length(added)
    turn = None
    if before is not None and size > 0 and _length(before) > 0:
        turn = float((added.double() * before.double()).sum() / (size * _length(before)))
    return Guidance(size / length, _length(answers.wanted - answers.unwanted) / length, turn)


def _length(tensor: Tensor) -> float:
    return float(tensor.double().norm())
