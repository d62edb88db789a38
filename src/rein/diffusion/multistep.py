"""Samplers that remember the picture of the step before: second order for one evaluation a step.

Both work in lambda = -log(sigma), half the log of the signal-to-noise ratio, and fall back to first order in the
first step (no memory) and in the last (sigma 0 is an infinite lambda).
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from torch import Tensor

from rein.diffusion.noise import NoiseSource
from rein.diffusion.prediction import Denoiser
from rein.diffusion.step import DEFAULTS, SamplerOptions, Step, falling


def dpmpp_2m(
    denoise: Denoiser, x: Tensor, sigmas: Tensor, noise: NoiseSource, options: SamplerOptions = DEFAULTS
) -> Iterator[Step]:
    """DPM-Solver++(2M) (Lu et al. 2022b, algorithm 2). Deterministic."""
    return _second_order(denoise, x, sigmas, noise, eta=0.0)


def dpmpp_2m_sde(
    denoise: Denoiser, x: Tensor, sigmas: Tensor, noise: NoiseSource, options: SamplerOptions = DEFAULTS
) -> Iterator[Step]:
    """SDE-DPM-Solver++(2M), midpoint form (Lu et al. 2022b, on diffusion SDEs). Reads `eta`, 1 unless set.

    Every step draws its own noise and scales it by the standard deviation that the equation gives for that step. No
    Brownian tree ties the noise of different step counts together: with another number of steps a seed gives another
    picture.
    """
    return _second_order(denoise, x, sigmas, noise, options.eta_or(1.0))


def _second_order(denoise: Denoiser, x: Tensor, sigmas: Tensor, noise: NoiseSource, eta: float) -> Iterator[Step]:
    """x' = sigma'/sigma * e^(-eta h) * x + (1 - e^(-(1 + eta) h)) * D + sigma' * sqrt(1 - e^(-2 eta h)) * noise.

    h is the step of lambda; D is x0 carried on to the middle of the step along the last two predictions.
    """
    before: Tensor | None = None
    step_before = 0.0
    for index, sigma, next_sigma in falling(sigmas):
        denoised = denoise(x, sigmas[index])
        if next_sigma == 0:
            x = denoised
        else:
            step = math.log(sigma / next_sigma)
            ahead = denoised if before is None else denoised + (denoised - before) * (step / (2 * step_before))
            x = x * (next_sigma / sigma * math.exp(-eta * step)) - ahead * math.expm1(-(1 + eta) * step)
            if eta > 0:
                x = x + noise(x) * (next_sigma * math.sqrt(-math.expm1(-2 * eta * step)))
            before, step_before = denoised, step
        yield Step(index, sigma, next_sigma, x, denoised)
