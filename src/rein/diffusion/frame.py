"""Slopes: the sampling equation as dy/dv = (y - x0) / v, in either of two pairs of coordinates.

| coordinates | state y          | variable v            | slope                      |
|-------------|------------------|-----------------------|----------------------------|
| "sigma"     | x                | sigma                 | the noise, (x - x0) / sigma |
| "time"      | (1 - t) x        | t = sigma / (1 + sigma) | noise - x0, a flow's velocity |

The equation has one form in both (x = x0 + sigma * noise, y = (1 - t) x0 + t noise), so a sampler that averages slopes
is written once. From near pure noise, where sigma is in the thousands and more, only "time" stays bounded: there a step
falls by orders of magnitude, and the slope dx/dsigma at one end says nothing about the other.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from rein.diffusion.prediction import Denoiser
from rein.diffusion.schedule import Coordinates


@dataclass(frozen=True)
class Frame:
    """One pair of coordinates. Noise levels are Python's numbers, so that coefficients are float64."""

    coordinates: Coordinates

    def scale(self, sigma: float) -> float:
        """What x is multiplied by to be the state."""
        return 1.0 if self.coordinates == "sigma" else 1.0 / (1.0 + sigma)

    def variable(self, sigma: float) -> float:
        """v of a noise level."""
        return sigma * self.scale(sigma)

    def sigma(self, variable: float) -> float:
        """The noise level of v."""
        return variable if self.coordinates == "sigma" else variable / (1.0 - variable)

    def slope(self, x: Tensor, denoised: Tensor, sigma: float) -> Tensor:
        """dy/dv at x, where the denoiser saw `denoised`."""
        return (x * self.scale(sigma) - denoised) / self.variable(sigma)

    def moved(self, x: Tensor, slope: Tensor, sigma: float, next_sigma: float) -> Tensor:
        """x at `next_sigma`, reached from x at `sigma` along a straight line of that slope."""
        state = x * self.scale(sigma) + slope * (self.variable(next_sigma) - self.variable(sigma))
        return state / self.scale(next_sigma)

    def between(self, sigma: float, next_sigma: float, share: float = 0.5) -> float:
        """The level at `share` of the way in log(v): for 0.5 the geometric mean of both variables."""
        return self.sigma(self.variable(sigma) ** (1.0 - share) * self.variable(next_sigma) ** share)


def asked(denoise: Denoiser, x: Tensor, sigma: float, sigmas: Tensor) -> Tensor:
    """The denoiser's answer at a level that is a plain number, in the number format and place of `sigmas`."""
    return denoise(x, sigmas.new_tensor(sigma))
