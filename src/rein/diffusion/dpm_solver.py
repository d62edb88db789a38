"""DPM-Solver in one to three stages a step (Lu et al. 2022a), and the plan of stages called DPM fast.

It holds the slope of `rein.diffusion.frame` (the noise, where the variable v is sigma) and is exact in v where that
slope does not change; stages lie evenly in -log(v). With h the step of -log(v), every stage is
y(v') = y - v' * (e^h - 1) * slope + corrections by differences of slopes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from torch import Tensor

from rein.diffusion.frame import Frame, asked
from rein.diffusion.noise import NoiseSource
from rein.diffusion.prediction import Denoiser
from rein.diffusion.step import DEFAULTS, SamplerOptions, Step, ancestral


@dataclass(frozen=True, eq=False)
class Stages:
    """The stages of one step: state and slope at its start, and how to ask between."""

    denoise: Denoiser
    frame: Frame
    sigmas: Tensor
    """Only its number format and place are read."""
    x: Tensor
    sigma: float
    slope: Tensor

    def first_order(self, target: float) -> Tensor:
        """x at the level `target` (DPM-Solver-1, eq. 3.7)."""
        return self.frame.moved(self.x, self.slope, self.sigma, target)

    def asked_at(self, x: Tensor, sigma: float) -> Tensor:
        """The slope at x."""
        return self.frame.slope(x, asked(self.denoise, x, sigma, self.sigmas), sigma)

    def slope_within(self, target: float, share: float) -> Tensor:
        """The slope at `share` of the way to `target`, reached by one stage."""
        sigma = self.frame.between(self.sigma, target, share)
        return self.asked_at(self.first_order(sigma), sigma)

    def second_order(self, target: float, share: float, inner: Tensor) -> Tensor:
        """x at `target` (DPM-Solver-2, algorithm 1); `inner` is `slope_within(target, share)`."""
        return self.frame.moved(self.x, self.slope + (inner - self.slope) / (2 * share), self.sigma, target)

    def third_order(self, target: float, inner: Tensor) -> Tensor:
        """x at `target` (DPM-Solver-3, algorithm 2); `inner` is `slope_within(target, 1 / 3)`."""
        two_thirds = self.frame.between(self.sigma, target, 2 / 3)
        guess = self._bent(two_thirds, (inner - self.slope) * 2)
        outer = self.asked_at(guess, two_thirds)
        return self._bent(target, (outer - self.slope) * 1.5)

    def _bent(self, target: float, difference: Tensor) -> Tensor:
        """x at `target`, with a slope that changes by `difference` over the way."""
        start, end = self.frame.variable(self.sigma), self.frame.variable(target)
        step = math.log(start / end)
        bend = difference * (end * (math.expm1(step) / step - 1.0))
        return self.first_order(target) - bend / self.frame.scale(target)


def begin(denoise: Denoiser, frame: Frame, now: tuple[Tensor, Tensor], sigma: float, sigmas: Tensor) -> Stages:
    """The stages of a step from `now`: x at `sigma`, and the picture seen there."""
    x, denoised = now
    return Stages(denoise, frame, sigmas, x, sigma, frame.slope(x, denoised, sigma))


def dpm_fast(
    denoise: Denoiser, x: Tensor, sigmas: Tensor, noise: NoiseSource, options: SamplerOptions = DEFAULTS
) -> Iterator[Step]:
    """DPM fast: n evaluations in steps of three stages as far as they go (Lu et al. 2022a, section 3.4; k-diffusion).

    It reads the first and the lowest level of `sigmas` and their number, n + 1, and spaces its own n // 3 + 1 steps
    evenly in -log(v). One more evaluation takes it to sigma 0, where k-diffusion leaves the lowest level's noise in.
    Reads `coordinates`, `s_noise` and `eta`, 0 unless set (AUTOMATIC1111's web UI sets 1).
    """
    frame, eta = Frame(options.coordinates), options.eta_or(0.0)
    highest, lowest = float(sigmas[0]), float(sigmas[-2])
    orders = stage_counts(len(sigmas) - 1) if lowest < highest else []
    levels = [frame.between(highest, lowest, place / max(len(orders), 1)) for place in range(1, len(orders))]
    levels = [highest, *levels, lowest] if orders else [highest]
    for index, order in enumerate(orders):
        sigma, next_sigma = levels[index], levels[index + 1]
        denoised = asked(denoise, x, sigma, sigmas)
        down, up = stepping_down(sigma, next_sigma, lowest, eta)
        x = _staged(begin(denoise, frame, (x, denoised), sigma, sigmas), down, order)
        if up > 0:
            x = x + noise(x) * (up * options.s_noise)
        yield Step(index, sigma, next_sigma, x, denoised)
    denoised = asked(denoise, x, lowest, sigmas)
    yield Step(len(orders), lowest, 0.0, denoised, denoised)


def stage_counts(evaluations: int) -> Sequence[int]:
    """How many stages each step of DPM fast has, together `evaluations` (Lu et al. 2022a, section 3.4)."""
    threes, rest = divmod(evaluations, 3)
    return [3] * threes + [rest] if rest else [*[3] * (threes - 1), 2, 1]


def stepping_down(sigma: float, next_sigma: float, lowest: float, eta: float) -> tuple[float, float]:
    """`ancestral`, but never to below `lowest`: where down and the noise after it then go."""
    if eta == 0:
        return next_sigma, 0.0
    down = max(lowest, ancestral(sigma, next_sigma, eta)[0])
    return down, math.sqrt(max(next_sigma**2 - down**2, 0.0))


def _staged(stages: Stages, target: float, order: int) -> Tensor:
    if order == 1:
        return stages.first_order(target)
    if order == 2:
        return stages.second_order(target, 1 / 2, stages.slope_within(target, 1 / 2))
    return stages.third_order(target, stages.slope_within(target, 1 / 3))
