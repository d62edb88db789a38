"""DPM adaptive: steps as long as their estimated error allows (Lu et al. 2022a, appendix C; k-diffusion)."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from rein.diffusion.dpm_solver import begin, stepping_down
from rein.diffusion.frame import Frame, asked
from rein.diffusion.noise import NoiseSource
from rein.diffusion.prediction import Denoiser
from rein.diffusion.step import DEFAULTS, SamplerOptions, Step
from rein.errors import InputError, NonFiniteError

_FIRST_STEP = 0.05
_LEAST_SHARE = 0.0078 / 0.05
"""Absolute over relative tolerance."""
_ACCEPTED = 0.81
"""A step counts where the next one may be at least this part of it."""
_ARRIVED = 1e-5
_SMALLEST_ERROR = 1e-8
_MOST_TRIES = 20_000


def dpm_adaptive(
    denoise: Denoiser, x: Tensor, sigmas: Tensor, noise: NoiseSource, options: SamplerOptions = DEFAULTS
) -> Iterator[Step]:
    """DPM-Solver-3 whose step of -log(v) follows the difference to DPM-Solver-2, three evaluations a try.

    It reads the first and the lowest level of `sigmas` and goes between them in steps of its own, of which only those
    that counted are yielded. One more evaluation takes it to sigma 0. The steps belong to one picture, so it takes one
    at a time: in a batch each would follow the others. Reads `coordinates`, `tolerance`, `s_noise` and `eta`, 0 unless
    set (AUTOMATIC1111's web UI sets 1).

    Raises:
        InputError: more than one picture; a tolerance that the number format cannot meet.
        NonFiniteError: the denoiser gave NaN or infinity.
    """
    if x.shape[0] != 1:
        raise InputError(
            f"DPM adaptive got {x.shape[0]} pictures: it takes one at a time, its steps follow the picture"
        )
    frame, eta = Frame(options.coordinates), options.eta_or(0.0)
    sigma, lowest = float(sigmas[0]), float(sigmas[-2])
    place, end = -math.log(frame.variable(sigma)), -math.log(frame.variable(lowest))
    controller = _Controller(1.0 / (1.5 if eta > 0 else 3.0), options.tolerance)
    before, index = x * frame.scale(sigma), 0
    while place < end - _ARRIVED:
        denoised = asked(denoise, x, sigma, sigmas)
        stages = begin(denoise, frame, (x, denoised), sigma, sigmas)
        accepted = False
        while not accepted:  # a refused try is made again, shorter, from the same first slope
            target = min(end, place + controller.step)
            next_sigma = lowest if target == end else frame.sigma(math.exp(-target))
            down, up = stepping_down(sigma, next_sigma, lowest, eta)
            inner = stages.slope_within(down, 1 / 3)
            low = stages.second_order(down, 1 / 3, inner) * frame.scale(down)
            high = stages.third_order(down, inner)
            accepted = controller.accepts(low, high * frame.scale(down), before)
        before = low
        x = high + noise(high) * (up * options.s_noise) if up > 0 else high
        yield Step(index, sigma, next_sigma, x, denoised)
        place, sigma, index = target, next_sigma, index + 1
    denoised = asked(denoise, x, sigma, sigmas)
    yield Step(index, sigma, 0.0, denoised, denoised)


class _Controller:
    """The length of steps of -log(v), from the error of each try: k-diffusion's controller with its integral part."""

    def __init__(self, exponent: float, tolerance: float) -> None:
        self.step = _FIRST_STEP
        self._exponent = exponent
        self._tolerance = tolerance
        self._tries = 0

    def accepts(self, low: Tensor, high: Tensor, before: Tensor) -> bool:
        """Whether a try counts, by its states of second and third order and that of the step before; sets `step`."""
        self._tries += 1
        if self._tries > _MOST_TRIES:
            raise InputError(f"DPM adaptive is not done after {_MOST_TRIES:,} tries: take a larger tolerance")
        allowed = (torch.maximum(low.abs(), before.abs()) * self._tolerance).clamp(min=self._tolerance * _LEAST_SHARE)
        error = float(((low - high) / allowed).square().mean().sqrt())
        if not math.isfinite(error):
            raise NonFiniteError("the denoiser of DPM adaptive gave NaN or infinity")
        factor = 1.0 + math.atan((1.0 / (error + _SMALLEST_ERROR)) ** self._exponent - 1.0)
        self.step *= factor
        return factor >= _ACCEPTED
