"""Classifier-free guidance as a wrapper: from a denoiser of two predictions to a `Denoiser`.

Every kind of prediction is linear in x0 at a given x and sigma, so guiding x0 is guiding the network's output.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Protocol, TypeGuard

import torch
from torch import Tensor

from rein.diffusion.prediction import PREDICTIONS, Denoiser, Prediction, per_picture
from rein.errors import InputError

DenoiserPair = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""`(x, sigma) -> (x0 with the prompt, x0 with the negative or empty prompt)`, say by one pass of a doubled batch."""


class NegativeDenoiser(Protocol):
    """A `Denoiser` that can also give the negative prompt's picture, which DDIM CFG++ asks for.

    A wrapper round a guided denoiser that is to serve that sampler too needs this method; all others never ask for it.
    """

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor: ...

    def with_negative(self, x: Tensor, sigma: Tensor, weight: float) -> tuple[Tensor, Tensor]:
        """The picture guided by `weight` times the guidance scale, and the negative prompt's, by one evaluation."""


def has_negative(denoise: Denoiser) -> TypeGuard[NegativeDenoiser]:
    """Whether a denoiser has both predictions."""
    return callable(getattr(denoise, "with_negative", None))


@dataclass(frozen=True)
class SelectedDenoiser:
    """Asks, at each noise level, the denoiser that `at(sigma)` gives, inside the context of `inside()`."""

    at: Callable[[Tensor], Denoiser]
    inside: Callable[[], AbstractContextManager[object]] = nullcontext

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        with self.inside():
            return self.at(sigma)(x, sigma)


@dataclass(frozen=True)
class SelectedNegativeDenoiser(SelectedDenoiser):
    """The same of guided denoisers: see `NegativeDenoiser`."""

    def with_negative(self, x: Tensor, sigma: Tensor, weight: float) -> tuple[Tensor, Tensor]:
        """See `NegativeDenoiser`."""
        chosen = self.at(sigma)
        assert has_negative(chosen), "all of them are guided, or none is"
        with self.inside():
            return chosen.with_negative(x, sigma, weight)


def selected(
    at: Callable[[Tensor], Denoiser],
    example: Denoiser,
    inside: Callable[[], AbstractContextManager[object]] = nullcontext,
) -> Denoiser:
    """A denoiser that changes with the noise level or works inside a context; guided if `example`, one of them, is."""
    return (SelectedNegativeDenoiser if has_negative(example) else SelectedDenoiser)(at, inside)


@dataclass(frozen=True)
class GuidedDenoiser:
    """What `guided` makes; its fields are that function's arguments, checked there."""

    pair: DenoiserPair
    conditional: Denoiser
    scale: float
    rescale: float
    interval: tuple[float, float] | None
    prediction: Prediction

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        """The guided picture; the prompt's alone outside the interval."""
        if not self._acts(sigma):
            return self.conditional(x, sigma)
        wanted, unwanted = self.pair(x, sigma)
        return self._combined(wanted, unwanted, (x, sigma), self.scale)

    def with_negative(self, x: Tensor, sigma: Tensor, weight: float) -> tuple[Tensor, Tensor]:
        """See `NegativeDenoiser`. Outside the interval both are the prompt's."""
        if not self._acts(sigma):
            wanted = self.conditional(x, sigma)
            return wanted, wanted
        wanted, unwanted = self.pair(x, sigma)
        return self._combined(wanted, unwanted, (x, sigma), self.scale * weight), unwanted

    def _acts(self, sigma: Tensor) -> bool:
        return self.interval is None or self.interval[0] < float(sigma) <= self.interval[1]

    def _combined(self, wanted: Tensor, unwanted: Tensor, at: tuple[Tensor, Tensor], scale: float) -> Tensor:
        combined = unwanted + scale * (wanted - unwanted)
        if self.rescale == 0:
            return combined
        x, sigma = at
        output = self.prediction.output(combined, x, sigma)
        ratio = _deviation(self.prediction.output(wanted, x, sigma)) / _deviation(output)
        return self.prediction.x0(output * per_picture(1 + self.rescale * (ratio - 1), x), x, sigma)


def guided(
    pair: DenoiserPair,
    conditional: Denoiser,
    scale: float,
    rescale: float = 0.0,
    interval: tuple[float, float] | None = None,
    prediction: Prediction = PREDICTIONS["x0"],
) -> Denoiser:
    """A denoiser that goes from the negative prompt's x0 past the prompt's by `scale` (Ho and Salimans 2022, eq. 6).

    Args:
        pair: both predictions; asked where guidance acts.
        conditional: the prompt's prediction alone; asked where it does not: at scale 1, and outside `interval`.
        scale: guidance scale w, 0 or more; 0 is the negative prompt alone, 1 the prompt alone.
        rescale: phi in [0, 1], how far the guided prediction gets back the prompt's own standard deviation, each
            picture by itself, against over-exposure (Lin et al. 2023, eq. 14 to 16; they use 0.7).
        interval: noise levels (low, high]; guidance acts for low < sigma <= high only (Kynkäänniemi et al. 2024).
        prediction: whose output's deviation `rescale` restores; the model's own is what diffusers does. x0 unless
            given.

    Raises:
        InputError: a number out of its range.
    """
    _check(scale, rescale, interval)
    if scale == 1:
        return conditional
    return GuidedDenoiser(pair, conditional, scale, rescale, interval, prediction)


def _check(scale: float, rescale: float, interval: tuple[float, float] | None) -> None:
    if not (math.isfinite(scale) and scale >= 0):
        raise InputError(f"guidance scale is {scale}: it must be a number, 0 or more")
    if not 0 <= rescale <= 1:
        raise InputError(f"guidance rescale is {rescale}: it must be from 0 to 1")
    if interval is not None and not 0 <= interval[0] < interval[1]:
        raise InputError(f"guidance interval is {interval}: it must be (low, high) in sigma with 0 <= low < high")


def _deviation(output: Tensor) -> Tensor:
    """Standard deviation of every picture, (B,).

    Picture by picture, because the sum over a batch may be split among threads in another order than that of one
    picture.
    """
    return torch.stack([picture.std() for picture in output]).clamp(min=torch.finfo(output.dtype).tiny)
