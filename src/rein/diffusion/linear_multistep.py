"""Linear multistep samplers: one evaluation a step, and the slopes of up to three steps before.

A polynomial through the last slopes is integrated over the step, in the coordinates of `rein.diffusion.frame`. They
differ in what the polynomial is of, and in how they begin:

| sampler | polynomial in | its weights                    | first step          | last step             |
|---------|---------------|--------------------------------|---------------------|-----------------------|
| lms     | v             | exact for the levels there are | Euler               | as all others         |
| deis    | log(v)        | exact, order 3                 | Euler               | Euler                 |
| ipndm   | step number   | Adams and Bashforth's          | Euler               | as all others         |
| plms    | step number   | Adams and Bashforth's          | mean of both slopes | as all others         |
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import cache

import numpy as np
from torch import Tensor

from rein.diffusion.frame import Frame
from rein.diffusion.noise import NoiseSource
from rein.diffusion.prediction import Denoiser
from rein.diffusion.step import DEFAULTS, SamplerOptions, Step, falling

Weights = Callable[[Sequence[float], float], Sequence[float]]
"""`(v of this step and of those before, newest first; v after the step) -> what each slope counts, newest first`."""

_ADAMS_BASHFORTH = ((1.0,), (3 / 2, -1 / 2), (23 / 12, -16 / 12, 5 / 12), (55 / 24, -59 / 24, 37 / 24, -9 / 24))
"""For even steps, by how many slopes are known (Liu et al. 2022, "Pseudo Numerical Methods", eq. 9)."""


def lms(
    denoise: Denoiser, x: Tensor, sigmas: Tensor, noise: NoiseSource, options: SamplerOptions = DEFAULTS
) -> Iterator[Step]:
    """LMS: Adams and Bashforth's method of order 4 for uneven steps (k-diffusion). No noise. Reads `coordinates`."""
    return _multistep(denoise, x, sigmas, options, _polynomial_weights, 4)


def deis(
    denoise: Denoiser, x: Tensor, sigmas: Tensor, noise: NoiseSource, options: SamplerOptions = DEFAULTS
) -> Iterator[Step]:
    """DEIS of order 3 in log(rho) (Zhang and Chen 2023, eq. 15, "tAB"; rho is sigma here). Deterministic. Reads
    `coordinates`.
    """
    return _multistep(denoise, x, sigmas, options, _logarithmic_weights, 3)


def ipndm(
    denoise: Denoiser, x: Tensor, sigmas: Tensor, noise: NoiseSource, options: SamplerOptions = DEFAULTS
) -> Iterator[Step]:
    """iPNDM (Zhang and Chen 2023, appendix H.2): order 4 for even steps, begun at lower orders. Deterministic. Reads
    `coordinates`.
    """
    return _multistep(denoise, x, sigmas, options, _even_weights, 4)


def _multistep(
    denoise: Denoiser, x: Tensor, sigmas: Tensor, options: SamplerOptions, weights: Weights, order: int
) -> Iterator[Step]:
    frame = Frame(options.coordinates)
    variables: list[float] = []
    slopes: list[Tensor] = []
    for index, sigma, next_sigma in falling(sigmas):
        denoised = denoise(x, sigmas[index])
        slopes = [frame.slope(x, denoised, sigma), *slopes][:order]
        variables = [frame.variable(sigma), *variables][:order]
        x = _weighted(x, slopes, weights(variables, frame.variable(next_sigma)), frame, (sigma, next_sigma))
        yield Step(index, sigma, next_sigma, x, denoised)


def plms(
    denoise: Denoiser, x: Tensor, sigmas: Tensor, noise: NoiseSource, options: SamplerOptions = DEFAULTS
) -> Iterator[Step]:
    """PLMS (Liu et al. 2022, eq. 9 and 11 without the Runge-Kutta beginning): order 4 for even steps. Deterministic.

    Its first step asks twice, so n steps take n + 1 evaluations. Reads `coordinates`.
    """
    frame = Frame(options.coordinates)
    slopes: list[Tensor] = []
    for index, sigma, next_sigma in falling(sigmas):
        denoised = denoise(x, sigmas[index])
        slopes = [frame.slope(x, denoised, sigma), *slopes][:4]
        if index == 0 and next_sigma > 0:
            guess = frame.moved(x, slopes[0], sigma, next_sigma)
            next_slope = frame.slope(guess, denoise(guess, sigmas[1]), next_sigma)
            x = frame.moved(x, (slopes[0] + next_slope) / 2, sigma, next_sigma)
        else:
            shares = _even_weights([frame.variable(sigma)] * len(slopes), frame.variable(next_sigma))
            x = _weighted(x, slopes, shares, frame, (sigma, next_sigma))
        yield Step(index, sigma, next_sigma, x, denoised)


def _weighted(
    x: Tensor, slopes: Sequence[Tensor], weights: Sequence[float], frame: Frame, levels: tuple[float, float]
) -> Tensor:
    """x at the second level: its state at the first plus the slopes, each times its weight."""
    state = x * frame.scale(levels[0])
    for slope, weight in zip(slopes, weights, strict=True):
        state = state + slope * weight
    return state / frame.scale(levels[1])


def _even_weights(variables: Sequence[float], end: float) -> Sequence[float]:
    return [share * (end - variables[0]) for share in _ADAMS_BASHFORTH[len(variables) - 1]]


def _polynomial_weights(variables: Sequence[float], end: float) -> Sequence[float]:
    """Integrals of Lagrange's polynomials through `variables`, from the newest of them to `end`."""
    places, shares = _quadrature(2)  # two points are exact up to degree 3
    start, span = variables[0], end - variables[0]
    return [
        span
        * sum(
            share * _lagrange(variables, which, start + span * place)
            for place, share in zip(places, shares, strict=True)
        )
        for which in range(len(variables))
    ]


def _logarithmic_weights(variables: Sequence[float], end: float) -> Sequence[float]:
    """Integrals over v of Lagrange's polynomials in log(v)."""
    if end == 0:
        return [-variables[0], *(0.0 for _ in variables[1:])]
    logarithms = [math.log(variable) for variable in variables]
    start, span = logarithms[0], math.log(end) - logarithms[0]
    places, shares = _quadrature(32)  # e^u over any step, to float64's last digits
    points = [start + span * place for place in places]
    return [
        span
        * sum(share * math.exp(u) * _lagrange(logarithms, which, u) for u, share in zip(points, shares, strict=True))
        for which in range(len(variables))
    ]


def _lagrange(points: Sequence[float], which: int, at: float) -> float:
    """At `at`, the polynomial that is 1 at `points[which]` and 0 at the others."""
    others = (point for place, point in enumerate(points) if place != which)
    return math.prod((at - other) / (points[which] - other) for other in others)


@cache
def _quadrature(count: int) -> tuple[list[float], list[float]]:
    """Places in [0, 1] and shares of Gauss and Legendre's rule, exact up to degree 2 * count - 1."""
    places, shares = np.polynomial.legendre.leggauss(count)
    return ((places + 1) / 2).tolist(), (shares / 2).tolist()
