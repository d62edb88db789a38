"""Samplers of first order: one evaluation a step, no memory.

In the coordinates x = x0 + sigma * noise several classics are one formula: DDIM without noise is Euler's method (Karras
et al. 2022, section 3), and DDPM's posterior, DDIM with eta 1 and k-diffusion's ancestral Euler step are the same step.
They stay apart by name because people, papers and saved pictures ask for them by name.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from torch import Tensor

from rein.diffusion.frame import asked
from rein.diffusion.guidance import has_negative
from rein.diffusion.noise import NoiseSource
from rein.diffusion.prediction import Denoiser
from rein.diffusion.schedule import DiscreteSchedule, NoiseSchedule
from rein.diffusion.step import DEFAULTS, SamplerOptions, Step, ancestral, churned, falling
from rein.errors import InputError

CFGPP_SCALE = 12.5
"""What DDIM CFG++ divides the guidance scale by, so that the usual 1 to 12.5 become its lambda in (0, 1]."""


def euler(
    denoise: Denoiser, x: Tensor, sigmas: Tensor, noise: NoiseSource, options: SamplerOptions = DEFAULTS
) -> Iterator[Step]:
    """Euler's method on dx/dsigma = (x - x0) / sigma (Karras et al. 2022, eq. 1, with sigma as the time).

    Reads `s_churn`, `s_tmin`, `s_tmax` and `s_noise`: with churn it is algorithm 2 there without its correction.
    """
    for index, sigma, next_sigma in falling(sigmas):
        x, level = churned(x, sigma, len(sigmas) - 1, noise, options)
        denoised = denoise(x, sigmas[index]) if level == sigma else asked(denoise, x, level, sigmas)
        x = denoised + (x - denoised) * (next_sigma / level)
        yield Step(index, sigma, next_sigma, x, denoised)


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
    """Euler's method to a level below the next one, then noise up to it (k-diffusion). Reads `eta`, 1 unless set, and
    `s_noise`.
    """
    return _first_order(denoise, x, sigmas, noise, options.eta_or(1.0), options.s_noise)


def _first_order(
    denoise: Denoiser, x: Tensor, sigmas: Tensor, noise: NoiseSource, eta: float, s_noise: float = 1.0
) -> Iterator[Step]:
    """Steps that hold x0: x' = x0 + down / sigma * (x - x0) + up * noise, with down² + up² = sigma'²."""
    for index, sigma, next_sigma in falling(sigmas):
        denoised = denoise(x, sigmas[index])
        down, up = ancestral(sigma, next_sigma, eta)
        x = denoised + (x - denoised) * (down / sigma)
        if up > 0:
            x = x + noise(x) * (up * s_noise)
        yield Step(index, sigma, next_sigma, x, denoised)


def ddim_cfgpp(
    denoise: Denoiser, x: Tensor, sigmas: Tensor, noise: NoiseSource, options: SamplerOptions = DEFAULTS
) -> Iterator[Step]:
    """DDIM with CFG++ (Chung et al. 2024, algorithm 2): x0 is the guided one, the noise kept is the negative prompt's.

    Its lambda is the guidance scale over 12.5, as in AUTOMATIC1111's web UI. Reads `eta`, 0 unless set. Needs a
    denoiser that has both predictions (`rein.diffusion.guidance.NegativeDenoiser`), at no further evaluation.

    Raises:
        InputError: the denoiser has none, because guidance is off.
    """
    if not has_negative(denoise):
        raise InputError("DDIM CFG++ compares two prompts: set a guidance scale other than 1, or take sampler 'ddim'")
    eta = options.eta_or(0.0)
    for index, sigma, next_sigma in falling(sigmas):
        denoised, negative = denoise.with_negative(x, sigmas[index], 1.0 / CFGPP_SCALE)
        down, up = ancestral(sigma, next_sigma, eta)
        x = denoised + (x - negative) * (down / sigma)
        if up > 0:
            x = x + noise(x) * up
        yield Step(index, sigma, next_sigma, x, denoised)


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


def tcd(
    denoise: Denoiser, x: Tensor, sigmas: Tensor, noise: NoiseSource, options: SamplerOptions = DEFAULTS
) -> Iterator[Step]:
    """Strategic stochastic sampling (Zheng et al. 2024, "Trajectory Consistency Distillation", algorithm 4).

    A step goes along the trajectory past the next timestep t' to (1 - gamma) t', then noise brings it up to t'. Reads
    `eta`, which is gamma, 0.3 unless set, and `schedule`, which says the level of that timestep.

    Raises:
        InputError: no schedule in the options.
    """
    if options.schedule is None:
        raise InputError("TCD counts in timesteps: give it the model's schedule, SamplerOptions(schedule=...)")
    keep = 1.0 - options.eta_or(0.3)
    for index, sigma, next_sigma in falling(sigmas):
        denoised = denoise(x, sigmas[index])
        if next_sigma == 0:
            x = denoised
        else:
            down = (
                next_sigma if keep == 1 else min(next_sigma, _share_of_time(sigmas[index + 1], keep, options.schedule))
            )
            x = denoised + (x - denoised) * (down / sigma)
            if down < next_sigma:
                x = x + noise(x) * math.sqrt(next_sigma**2 - down**2)
        yield Step(index, sigma, next_sigma, x, denoised)


def _share_of_time(sigma: Tensor, share: float, schedule: NoiseSchedule) -> float:
    """The level at `share` of the timestep of `sigma`; a table's timesteps are whole, rounded down."""
    timestep = schedule.timestep(sigma) * share
    return float(schedule.sigma(timestep.floor() if isinstance(schedule, DiscreteSchedule) else timestep))
