"""What all samplers share: the step they yield, their options, their signature."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

from torch import Tensor

from rein.diffusion.noise import NoiseSource
from rein.diffusion.prediction import Denoiser
from rein.diffusion.schedule import Coordinates, NoiseSchedule
from rein.errors import InputError

_MOST_CHURN = 1000.0
_MOST_NOISE = 2.0
_LARGEST_GAMMA = math.sqrt(2.0) - 1.0
"""Karras et al. 2022, algorithm 2: churn at most doubles the variance of the noise."""


@dataclass(frozen=True, eq=False)
class Step:
    """One step of a sampler, finished.

    `x` (B, C, h, w) are the latents after it, at `next_sigma`; `denoised` (B, C, h, w) is the picture that the
    denoiser saw at `sigma`, before it. Of the last step, which goes to 0, x is the result.
    """

    index: int
    sigma: float
    next_sigma: float
    x: Tensor
    denoised: Tensor

    @property
    def last(self) -> bool:
        """Whether x is the finished picture."""
        return self.next_sigma == 0


@dataclass(frozen=True)
class SamplerOptions:
    """What can be set of samplers; each reads what it knows (`SamplerInfo.reads`) and leaves the rest.

    Args:
        eta: share of fresh noise, from 0 (none, deterministic) to 1 (all that the reversed diffusion adds); `None`
            takes the sampler's own.
        coordinates: the variable in which slopes are averaged (see `rein.diffusion.frame`); take the schedule's
            `coordinates`.
        s_churn, s_tmin, s_tmax: noise added before a step at levels from `s_tmin` to `s_tmax`, as S_churn, S_tmin and
            S_tmax of Karras et al. 2022, algorithm 2; 0 adds none.
        s_noise: what all noise is multiplied by, S_noise there; 1 is the theory's.
        tolerance: relative error that DPM adaptive allows itself in a step.
        schedule: the one that the model was trained with; read by samplers that count in timesteps (TCD).

    Raises:
        InputError: a number out of its range.
    """

    eta: float | None = None
    coordinates: Coordinates = "sigma"
    s_churn: float = 0.0
    s_tmin: float = 0.0
    s_tmax: float = math.inf
    s_noise: float = 1.0
    tolerance: float = 0.05
    schedule: NoiseSchedule | None = None

    def __post_init__(self) -> None:
        if self.eta is not None and not (math.isfinite(self.eta) and 0 <= self.eta <= 1):
            raise InputError(f"eta is {self.eta}: it must be from 0 to 1")
        for name, highest in (("s_churn", _MOST_CHURN), ("s_noise", _MOST_NOISE)):
            value = getattr(self, name)
            if not 0 <= value <= highest:
                raise InputError(f"{name} is {value}: it must be from 0 to {highest:g}")
        if not 0 <= self.s_tmin <= self.s_tmax:
            raise InputError(
                f"s_tmin is {self.s_tmin} and s_tmax {self.s_tmax}: they must be noise levels, 0 <= s_tmin <= s_tmax"
            )
        if not 1e-6 <= self.tolerance <= 1:
            raise InputError(f"tolerance is {self.tolerance}: it must be from 1e-06 to 1")

    def eta_or(self, default: float) -> float:
        """eta as it is set, or the sampler's own."""
        return default if self.eta is None else self.eta


DEFAULTS = SamplerOptions()


class Sampler(Protocol):
    """A generator over the steps from x at `sigmas[0]` to a picture at sigma 0. It keeps nothing between two runs.

    Args:
        denoise: says the picture behind x at a noise level.
        x: latents (B, C, h, w) float32 at `sigmas[0]`; not changed.
        sigmas: levels (n + 1,), float32, strictly descending to 0; on the CPU, or every step waits for the device.
        noise: asked once for every step that adds noise (twice by DPM++ SDE), in order; never for the last step.

    A few samplers (`SamplerInfo.own_steps`) read only the first and the lowest level above 0 and choose those between
    themselves. Of every sampler the last step, and no other, has `next_sigma` 0.
    """

    def __call__(
        self, denoise: Denoiser, x: Tensor, sigmas: Tensor, noise: NoiseSource, options: SamplerOptions = DEFAULTS
    ) -> Iterator[Step]: ...


def falling(sigmas: Tensor) -> Iterator[tuple[int, float, float]]:
    """Index, noise level and next noise level of every step, as Python's numbers (so coefficients are float64)."""
    for index, (sigma, next_sigma) in enumerate(pairwise(sigmas.tolist())):
        yield index, sigma, next_sigma


def ancestral(sigma: float, next_sigma: float, eta: float) -> tuple[float, float]:
    """To which level a step goes down without noise, and the noise that brings it up to `next_sigma`.

    down² + up² = next_sigma², and up = eta * next_sigma * sqrt(1 - next_sigma² / sigma²): the deviation of the reversed
    diffusion for eta 1 (Song et al. 2021, eq. 16, in the coordinates x0 + sigma * noise; k-diffusion's ancestral step).
    """
    up = eta * next_sigma * math.sqrt(1.0 - (next_sigma / sigma) ** 2)
    return math.sqrt(next_sigma**2 - up**2), up


def churned(x: Tensor, sigma: float, steps: int, noise: NoiseSource, options: SamplerOptions) -> tuple[Tensor, float]:
    """x and its level after the noise of S_churn (Karras et al. 2022, algorithm 2, lines 4 to 6).

    Where there is none to add x comes back as it is and no noise is drawn.
    """
    gamma = min(options.s_churn / steps, _LARGEST_GAMMA) if options.s_tmin <= sigma <= options.s_tmax else 0.0
    if gamma == 0:
        return x, sigma
    higher = sigma * (1.0 + gamma)
    return x + noise(x) * (options.s_noise * math.sqrt(higher**2 - sigma**2)), higher
