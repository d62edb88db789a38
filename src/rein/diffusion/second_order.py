"""Samplers of second order that ask twice a step and remember nothing: Heun's and the midpoint rule.

Both average slopes in the coordinates of `rein.diffusion.frame`; noise, where there is any, is always added to x.
"""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from rein.diffusion.frame import Frame, asked
from rein.diffusion.noise import NoiseSource
from rein.diffusion.prediction import Denoiser
from rein.diffusion.step import DEFAULTS, SamplerOptions, Step, ancestral, churned, falling


def heun(
    denoise: Denoiser, x: Tensor, sigmas: Tensor, noise: NoiseSource, options: SamplerOptions = DEFAULTS
) -> Iterator[Step]:
    """Heun's method: the mean of the slopes at both ends of a step (Karras et al. 2022, algorithms 1 and 2).

    Two evaluations a step, one in the last. Reads `coordinates`, and `s_churn`, `s_tmin`, `s_tmax` and `s_noise`.
    """
    frame = Frame(options.coordinates)
    for index, sigma, next_sigma in falling(sigmas):
        x, level = churned(x, sigma, len(sigmas) - 1, noise, options)
        denoised = denoise(x, sigmas[index]) if level == sigma else asked(denoise, x, level, sigmas)
        x = denoised if next_sigma == 0 else heun_step(denoise, frame, (x, denoised), level, sigmas[index + 1])
        yield Step(index, sigma, next_sigma, x, denoised)


def heun_step(denoise: Denoiser, frame: Frame, now: tuple[Tensor, Tensor], sigma: float, target: Tensor) -> Tensor:
    """x at the level `target` () above 0, from `now`, which is x at `sigma` and the picture seen there."""
    x, denoised = now
    next_sigma = float(target)
    slope = frame.slope(x, denoised, sigma)
    guess = frame.moved(x, slope, sigma, next_sigma)
    next_slope = frame.slope(guess, denoise(guess, target), next_sigma)
    return frame.moved(x, (slope + next_slope) / 2, sigma, next_sigma)


def dpm_2(
    denoise: Denoiser, x: Tensor, sigmas: Tensor, noise: NoiseSource, options: SamplerOptions = DEFAULTS
) -> Iterator[Step]:
    """DPM2: the slope halfway, at the geometric mean of both levels, carries the whole step (k-diffusion, after Lu et
    al. 2022a, algorithm 1, and Karras et al. 2022, algorithm 2).

    Two evaluations a step, one in the last. Reads `coordinates`, and `s_churn`, `s_tmin`, `s_tmax` and `s_noise`.
    """
    frame = Frame(options.coordinates)
    for index, sigma, next_sigma in falling(sigmas):
        x, level = churned(x, sigma, len(sigmas) - 1, noise, options)
        denoised = denoise(x, sigmas[index]) if level == sigma else asked(denoise, x, level, sigmas)
        x = _midpoint_step(denoise, frame, (x, denoised), (level, next_sigma), sigmas)
        yield Step(index, sigma, next_sigma, x, denoised)


def dpm_2_ancestral(
    denoise: Denoiser, x: Tensor, sigmas: Tensor, noise: NoiseSource, options: SamplerOptions = DEFAULTS
) -> Iterator[Step]:
    """DPM2's step to a level below the next one, then noise up to it (k-diffusion). Reads `coordinates`, `s_noise` and
    `eta`, 1 unless set.
    """
    frame, eta = Frame(options.coordinates), options.eta_or(1.0)
    for index, sigma, next_sigma in falling(sigmas):
        denoised = denoise(x, sigmas[index])
        down, up = ancestral(sigma, next_sigma, eta)
        x = _midpoint_step(denoise, frame, (x, denoised), (sigma, down), sigmas)
        if up > 0:
            x = x + noise(x) * (up * options.s_noise)
        yield Step(index, sigma, next_sigma, x, denoised)


def _midpoint_step(
    denoise: Denoiser, frame: Frame, now: tuple[Tensor, Tensor], levels: tuple[float, float], sigmas: Tensor
) -> Tensor:
    """x at the second of two levels, from x at the first and the picture seen there; to 0 it is that picture."""
    x, denoised = now
    sigma, next_sigma = levels
    if next_sigma == 0:
        return denoised
    middle = frame.between(sigma, next_sigma)
    halfway = frame.moved(x, frame.slope(x, denoised, sigma), sigma, middle)
    slope = frame.slope(halfway, asked(denoise, halfway, middle, sigmas), middle)
    return frame.moved(x, slope, sigma, next_sigma)
