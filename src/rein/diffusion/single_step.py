"""DPM-Solver++ in two stages a step: x0 is asked again halfway in lambda = -log(sigma), and nothing is remembered."""

from __future__ import annotations

import math
from collections.abc import Iterator

from torch import Tensor

from rein.diffusion.frame import asked
from rein.diffusion.noise import NoiseSource
from rein.diffusion.prediction import Denoiser
from rein.diffusion.step import DEFAULTS, SamplerOptions, Step, ancestral, falling


def dpmpp_2s_ancestral(
    denoise: Denoiser, x: Tensor, sigmas: Tensor, noise: NoiseSource, options: SamplerOptions = DEFAULTS
) -> Iterator[Step]:
    """DPM-Solver++(2S) (Lu et al. 2022b, algorithm 1) to a level below the next one, then noise up to it (k-diffusion).

    Two evaluations a step, one in the last. Reads `s_noise` and `eta`, 1 unless set; 0 is the solver itself.
    """
    eta = options.eta_or(1.0)
    for index, sigma, next_sigma in falling(sigmas):
        denoised = denoise(x, sigmas[index])
        down, up = ancestral(sigma, next_sigma, eta)
        if down == 0:
            x = denoised
        else:
            middle = math.sqrt(sigma * down)
            halfway = _towards(x, denoised, middle / sigma)
            x = _towards(x, asked(denoise, halfway, middle, sigmas), down / sigma)
        if up > 0:
            x = x + noise(x) * (up * options.s_noise)
        yield Step(index, sigma, next_sigma, x, denoised)


def dpmpp_sde(
    denoise: Denoiser, x: Tensor, sigmas: Tensor, noise: NoiseSource, options: SamplerOptions = DEFAULTS
) -> Iterator[Step]:
    """DPM++ SDE: a stage halfway and the whole step, each an ancestral step with x0 held (k-diffusion, after Lu et al.
    2022b).

    Two evaluations a step, one in the last. Reads `s_noise` and `eta`, 1 unless set.

    Noise: the half and the whole step share a Brownian path in sigma. k-diffusion takes it from torchsde's tree. Here
    each half of a step draws its own increment from the picture's generator, and the whole step's is their sum. The
    joint law of all increments is the same, and so is each step for the same path; the numbers of a seed differ, and
    they belong to the number of steps.
    """
    eta = options.eta_or(1.0)
    for index, sigma, next_sigma in falling(sigmas):
        denoised = denoise(x, sigmas[index])
        if next_sigma == 0:
            x = denoised
        else:
            middle = math.sqrt(sigma * next_sigma)
            down, up = ancestral(sigma, middle, eta)
            halfway = _towards(x, denoised, down / sigma)
            first: Tensor | None = None
            if up > 0:
                first = noise(x)
                halfway = halfway + first * (up * options.s_noise)
            down, up = ancestral(sigma, next_sigma, eta)
            x = _towards(x, asked(denoise, halfway, middle, sigmas), down / sigma)
            if first is not None:
                x = x + _whole(first, noise(x), (sigma, middle, next_sigma)) * (up * options.s_noise)
        yield Step(index, sigma, next_sigma, x, denoised)


def _towards(x: Tensor, picture: Tensor, ratio: float) -> Tensor:
    """x carried from a noise level to `ratio` times that level, with x0 held at `picture`."""
    return picture + (x - picture) * ratio


def _whole(first: Tensor, second: Tensor, levels: tuple[float, float, float]) -> Tensor:
    """Unit noise of a whole step, from that of its two halves in sigma."""
    start, middle, end = levels
    share = (start - middle) / (start - end)
    return first * math.sqrt(share) + second * math.sqrt(1.0 - share)
