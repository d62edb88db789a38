"""Samplers that remember the pictures of the steps before: second or third order for one evaluation a step.

They work in lambda = -log(sigma), half the log of the signal-to-noise ratio, hold x0 rather than a slope, and begin at
first order. In the last step (sigma 0 is an infinite lambda) x is the picture itself.

Noise: k-diffusion draws that of its SDE samplers from a Brownian tree, so that the noise of two step counts belongs to
one path. Here every step draws its own from the picture's generator. The law of all noise of a run is the same, and so
is each step for the same noise; with another number of steps a seed gives another picture.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Literal

from torch import Tensor

from rein.diffusion.noise import NoiseSource
from rein.diffusion.prediction import Denoiser
from rein.diffusion.step import DEFAULTS, SamplerOptions, Step, falling

Correction = Literal["midpoint", "exact"]
"""What the slope of x0 counts: taken at the middle of the step, or integrated exactly ("heun" in k-diffusion)."""


def dpmpp_2m(
    denoise: Denoiser, x: Tensor, sigmas: Tensor, noise: NoiseSource, options: SamplerOptions = DEFAULTS
) -> Iterator[Step]:
    """DPM-Solver++(2M) (Lu et al. 2022b, algorithm 2). Deterministic."""
    return _second_order(denoise, x, sigmas, noise, SamplerOptions(eta=0.0))


def dpmpp_2m_sde(
    denoise: Denoiser, x: Tensor, sigmas: Tensor, noise: NoiseSource, options: SamplerOptions = DEFAULTS
) -> Iterator[Step]:
    """SDE-DPM-Solver++(2M), midpoint form (Lu et al. 2022b, on diffusion SDEs). Reads `s_noise` and `eta`, 1 unless
    set.
    """
    return _second_order(denoise, x, sigmas, noise, options)


def dpmpp_2m_sde_heun(
    denoise: Denoiser, x: Tensor, sigmas: Tensor, noise: NoiseSource, options: SamplerOptions = DEFAULTS
) -> Iterator[Step]:
    """SDE-DPM-Solver++(2M) with the slope of x0 integrated exactly. Reads `s_noise` and `eta`, 1 unless set."""
    return _second_order(denoise, x, sigmas, noise, options, "exact")


def res_multistep(
    denoise: Denoiser, x: Tensor, sigmas: Tensor, noise: NoiseSource, options: SamplerOptions = DEFAULTS
) -> Iterator[Step]:
    """The exponential Adams-Bashforth method of order 2 ("RES", Zhang et al. 2023, eq. 8, multistep). Deterministic.

    It is DPM++ 2M SDE Heun without noise.
    """
    return _second_order(denoise, x, sigmas, noise, SamplerOptions(eta=0.0), "exact")


def _second_order(
    denoise: Denoiser,
    x: Tensor,
    sigmas: Tensor,
    noise: NoiseSource,
    options: SamplerOptions,
    correction: Correction = "midpoint",
) -> Iterator[Step]:
    """x' = sigma'/sigma * e^(-eta h) * x + (1 - e^(-(1 + eta) h)) * D + sigma' * sqrt(1 - e^(-2 eta h)) * noise.

    h is the step of lambda; D is x0 carried on along the last two predictions, to the middle of the step or weighed
    over it. `eta` is 1 unless set.
    """
    eta = options.eta_or(1.0)
    before: Tensor | None = None
    step_before = 0.0
    for index, sigma, next_sigma in falling(sigmas):
        denoised = denoise(x, sigmas[index])
        if next_sigma == 0:
            x = denoised
        else:
            step = math.log(sigma / next_sigma)
            share = 0.5 if correction == "midpoint" else _mean_place((1 + eta) * step)
            ahead = denoised if before is None else denoised + (denoised - before) * (share * step / step_before)
            x = x * (next_sigma / sigma * math.exp(-eta * step)) - ahead * math.expm1(-(1 + eta) * step)
            x = _with_noise(x, noise, eta, step, next_sigma * options.s_noise)
            before, step_before = denoised, step
        yield Step(index, sigma, next_sigma, x, denoised)


def dpmpp_3m_sde(
    denoise: Denoiser, x: Tensor, sigmas: Tensor, noise: NoiseSource, options: SamplerOptions = DEFAULTS
) -> Iterator[Step]:
    """SDE-DPM-Solver++(3M): x0 is carried on along the last three predictions (k-diffusion, after Lu et al. 2022b).

    As published it counts half of x0's bend, so without noise it converges at order 2, with smaller errors than 2M.
    Reads `s_noise` and `eta`, 1 unless set.
    """
    eta = options.eta_or(1.0)
    known: list[tuple[Tensor, float]] = []  # (picture, lambda), newest first
    for index, sigma, next_sigma in falling(sigmas):
        denoised = denoise(x, sigmas[index])
        if next_sigma == 0:
            x = denoised
        else:
            step = math.log(sigma / next_sigma)
            known = [(denoised, -math.log(sigma)), *known][:3]
            x = x * (next_sigma / sigma * math.exp(-eta * step)) - denoised * math.expm1(-(1 + eta) * step)
            x = _with_slopes(x, known, step, eta)
            x = _with_noise(x, noise, eta, step, next_sigma * options.s_noise)
        yield Step(index, sigma, next_sigma, x, denoised)


def _with_slopes(x: Tensor, known: list[tuple[Tensor, float]], step: float, eta: float) -> Tensor:
    """x with what first and second divided differences of x0 add over a step of lambda, as far as they are known."""
    if len(known) == 1:
        return x
    (newest, here), (second, there) = known[:2]
    length = (1 + eta) * step
    linear = math.expm1(-length) / length + 1.0
    slope = (newest - second) / ((here - there) / step)
    if len(known) == 2:
        return x + slope * linear
    third, far = known[2]
    bend = (slope - (second - third) / ((there - far) / step)) / ((here - far) / step)
    slope = slope + bend * ((here - there) / step)
    return x + slope * linear - bend * (linear / length - 0.5)


def _with_noise(x: Tensor, noise: NoiseSource, eta: float, step: float, level: float) -> Tensor:
    """x with the noise that the equation adds over a step; none is drawn where eta is 0."""
    return x + noise(x) * (level * math.sqrt(-math.expm1(-2 * eta * step))) if eta > 0 else x


def _mean_place(length: float) -> float:
    """Where in a step of lambda, from 0 to 1, the x0 stands that counts on average: the integral's weights rise with
    e^lambda. A half for a short step, 1 for an endless one.
    """
    return 1.0 / -math.expm1(-length) - 1.0 / length
