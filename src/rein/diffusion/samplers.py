"""Samplers of one step's memory, and the table of all samplers.

Every sampler acts on each number of x by itself, with coefficients that depend on sigma alone, so a picture does
not depend on its batch. In the coordinates x = x0 + sigma * noise several classics are one formula: DDIM without
noise is Euler's method (Karras et al. 2022, section 3), and DDPM's posterior, DDIM with eta 1 and k-diffusion's
ancestral Euler step are the same step. They stay apart by name because people, papers and saved pictures ask for
them by name.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor

from rein.diffusion.multistep import dpmpp_2m, dpmpp_2m_sde
from rein.diffusion.noise import NoiseSource
from rein.diffusion.prediction import Denoiser
from rein.diffusion.schedule import Coordinates
from rein.diffusion.step import DEFAULTS, Sampler, SamplerOptions, Step, falling
from rein.errors import InputError, nearest, quoted

__all__ = [
    "SAMPLERS",
    "Sampler",
    "SamplerInfo",
    "SamplerOptions",
    "Step",
    "ddim",
    "ddpm",
    "dpmpp_2m",
    "dpmpp_2m_sde",
    "euler",
    "euler_ancestral",
    "find_sampler",
    "heun",
    "lcm",
]


def euler(
    denoise: Denoiser, x: Tensor, sigmas: Tensor, noise: NoiseSource, options: SamplerOptions = DEFAULTS
) -> Iterator[Step]:
    """Euler's method on dx/dsigma = (x - x0) / sigma (Karras et al. 2022, eq. 1, with sigma as the time)."""
    return _first_order(denoise, x, sigmas, noise, eta=0.0)


def ddim(
    denoise: Denoiser, x: Tensor, sigmas: Tensor, noise: NoiseSource, options: SamplerOptions = DEFAULTS
) -> Iterator[Step]:
    """DDIM (Song et al. 2021, eq. 12 and 16). Reads `eta`, 0 unless set."""
    return _first_order(denoise, x, sigmas, noise, options.eta_or(0.0))


def ddpm(
    denoise: Denoiser, x: Tensor, sigmas: Tensor, noise: NoiseSource, options: SamplerOptions = DEFAULTS
) -> Iterator[Step]:
    """DDPM (Ho et al. 2020, algorithm 2) with the posterior's variance, eq. 7 ("fixed small")."""
    return _first_order(denoise, x, sigmas, noise, eta=1.0)


def euler_ancestral(
    denoise: Denoiser, x: Tensor, sigmas: Tensor, noise: NoiseSource, options: SamplerOptions = DEFAULTS
) -> Iterator[Step]:
    """Euler's method to a level below the next one, then noise up to it (k-diffusion). Reads `eta`, 1 unless set."""
    return _first_order(denoise, x, sigmas, noise, options.eta_or(1.0))


def _first_order(denoise: Denoiser, x: Tensor, sigmas: Tensor, noise: NoiseSource, eta: float) -> Iterator[Step]:
    """Steps that hold x0: x' = x0 + down / sigma * (x - x0) + up * noise, with down² + up² = sigma'².

    up = eta * sigma' * sqrt(1 - sigma'² / sigma²) is DDIM's sigma_t (eq. 16) in these coordinates.
    """
    for index, sigma, next_sigma in falling(sigmas):
        denoised = denoise(x, sigmas[index])
        up = eta * next_sigma * math.sqrt(1.0 - (next_sigma / sigma) ** 2)
        down = math.sqrt(next_sigma**2 - up**2)
        x = denoised + (x - denoised) * (down / sigma)
        if up > 0:
            x = x + noise(x) * up
        yield Step(index, sigma, next_sigma, x, denoised)


def heun(
    denoise: Denoiser, x: Tensor, sigmas: Tensor, noise: NoiseSource, options: SamplerOptions = DEFAULTS
) -> Iterator[Step]:
    """Heun's method: the mean of the slopes at both ends of a step (Karras et al. 2022, algorithm 1). Second order.

    Two evaluations a step, one in the last. Reads `coordinates`. In "sigma" the state is x and the slope dx/dsigma;
    in "time" it is y = (1 - t) x with t = sigma / (1 + sigma), and the slope is dy/dt, a flow's velocity. Both
    slopes are (state - x0) / variable. From near pure noise (sigma in the thousands and more) only the second stays
    bounded.
    """
    for index, sigma, next_sigma in falling(sigmas):
        denoised = denoise(x, sigmas[index])
        if next_sigma == 0:
            x = denoised
        else:
            scale, next_scale = _scale(sigma, options.coordinates), _scale(next_sigma, options.coordinates)
            span = next_sigma * next_scale - sigma * scale
            state = x * scale
            slope = (state - denoised) / (sigma * scale)
            guess = state + slope * span
            again = denoise(guess / next_scale, sigmas[index + 1])
            next_slope = (guess - again) / (next_sigma * next_scale)
            x = (state + (slope + next_slope) * (span / 2)) / next_scale
        yield Step(index, sigma, next_sigma, x, denoised)


def _scale(sigma: float, coordinates: Coordinates) -> float:
    """What x is multiplied by to be the state in these coordinates; the variable itself is sigma times it."""
    return 1.0 if coordinates == "sigma" else 1.0 / (1.0 + sigma)


def lcm(
    denoise: Denoiser, x: Tensor, sigmas: Tensor, noise: NoiseSource, options: SamplerOptions = DEFAULTS
) -> Iterator[Step]:
    """Latent consistency sampling: jump to the picture, add noise of the next level (Luo et al. 2023).

    For networks distilled to do so, in 1 to 8 steps. Their boundary condition at timestep 0 (c_skip, c_out, eq. 9)
    moves x0 by less than 1e-5 of x at every timestep above 16, where such networks are asked, and is left out.
    """
    for index, sigma, next_sigma in falling(sigmas):
        denoised = denoise(x, sigmas[index])
        x = denoised + noise(x) * next_sigma if next_sigma > 0 else denoised
        yield Step(index, sigma, next_sigma, x, denoised)


@dataclass(frozen=True)
class SamplerInfo:
    """A sampler and what a person or a program wants to know before choosing it."""

    name: str
    label: str
    function: Sampler
    stochastic: bool
    """Adds noise on the way, unless eta is set to 0."""
    default_spacing: str
    evaluations_per_step: int = 1
    reads_eta: bool = False
    aliases: tuple[str, ...] = ()


SAMPLERS: dict[str, SamplerInfo] = {
    row.name: row
    for row in (
        SamplerInfo("ddpm", "DDPM", ddpm, True, "leading"),
        SamplerInfo("ddim", "DDIM", ddim, False, "leading", reads_eta=True),
        SamplerInfo("euler", "Euler", euler, False, "linspace", aliases=("k_euler",)),
        SamplerInfo(
            "euler_ancestral",
            "Euler a",
            euler_ancestral,
            True,
            "linspace",
            reads_eta=True,
            aliases=("k_euler_a", "k_euler_ancestral"),
        ),
        SamplerInfo("heun", "Heun", heun, False, "karras", evaluations_per_step=2, aliases=("k_heun",)),
        SamplerInfo("dpmpp_2m", "DPM++ 2M", dpmpp_2m, False, "karras", aliases=("k_dpmpp_2m",)),
        SamplerInfo("dpmpp_2m_sde", "DPM++ 2M SDE", dpmpp_2m_sde, True, "karras", reads_eta=True),
        SamplerInfo("lcm", "LCM", lcm, True, "trailing"),
    )
}
"""Every sampler by name."""


def find_sampler(name: str) -> SamplerInfo:
    """The sampler called `name`: its name, its label ("Euler a", "DPM++ 2M") or an alias, in any case.

    Raises:
        InputError: there is none of that name; the message gives the nearest one.
    """
    wanted = _plain(name)
    for info in SAMPLERS.values():
        if wanted in {info.name, _plain(info.label), *info.aliases}:
            return info
    raise InputError(f"unknown sampler {quoted(name)}: {nearest(wanted, SAMPLERS)}")


def _plain(name: str) -> str:
    """ "DPM++ 2M" -> "dpmpp_2m"."""
    return name.strip().lower().replace("++", "pp").replace(" ", "_").replace("-", "_")
