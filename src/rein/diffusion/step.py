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
from rein.diffusion.schedule import Coordinates
from rein.errors import InputError


@dataclass(frozen=True, eq=False)
class Step:
    """One step of a sampler, finished.

    `x` (B, C, h, w) are the latents after it, at `next_sigma`; `denoised` (B, C, h, w) is the picture that the
    denoiser saw at `sigma`, before it. Of the last step x is the result.
    """

    index: int
    sigma: float
    next_sigma: float
    x: Tensor
    denoised: Tensor


@dataclass(frozen=True)
class SamplerOptions:
    """What can be set of samplers; each reads what it knows and leaves the rest.

    Args:
        eta: share of fresh noise, from 0 (none, deterministic) to 1 (all that the reversed diffusion adds); `None`
            takes the sampler's own.
        coordinates: the variable in which Heun's rule averages slopes; take the schedule's `coordinates`.

    Raises:
        InputError: eta out of its range.
    """

    eta: float | None = None
    coordinates: Coordinates = "sigma"

    def __post_init__(self) -> None:
        if self.eta is not None and not (math.isfinite(self.eta) and 0 <= self.eta <= 1):
            raise InputError(f"eta is {self.eta}: it must be from 0 to 1")

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
        noise: asked once for every step that adds noise, in order; never for the last step.
    """

    def __call__(
        self, denoise: Denoiser, x: Tensor, sigmas: Tensor, noise: NoiseSource, options: SamplerOptions = DEFAULTS
    ) -> Iterator[Step]: ...


def falling(sigmas: Tensor) -> Iterator[tuple[int, float, float]]:
    """Index, noise level and next noise level of every step, as Python's numbers (so coefficients are float64)."""
    for index, (sigma, next_sigma) in enumerate(pairwise(sigmas.tolist())):
        yield index, sigma, next_sigma
