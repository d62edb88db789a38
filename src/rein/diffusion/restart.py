"""Restart sampling: down to a low noise level, back up with fresh noise, down again (Xu et al. 2023, algorithm 1).

Steps are Heun's. Going back up forgets part of the error that the way down has gathered.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise

from torch import Tensor

from rein.diffusion.frame import Frame
from rein.diffusion.levels_between import karras
from rein.diffusion.noise import NoiseSource
from rein.diffusion.prediction import Denoiser
from rein.diffusion.second_order import heun_step
from rein.diffusion.step import DEFAULTS, SamplerOptions, Step

_LOW, _HIGH = 0.1, 2.0
"""From which level it goes back up, and to which: the nearest that are visited."""

_FEWEST_STEPS = 20
"""With fewer it does not go back: it is Heun's method at the levels it was given."""


def restart(
    denoise: Denoiser, x: Tensor, sigmas: Tensor, noise: NoiseSource, options: SamplerOptions = DEFAULTS
) -> Iterator[Step]:
    """Restart sampling with the settings of AUTOMATIC1111's web UI: once for 20 steps or more, twice for 36 or more.

    The steps down and those of the way back together are as many as `sigmas` has. From 20 steps on it spaces both as
    Karras et al. do, from the highest to the lowest of `sigmas`. The step after going back up starts at a higher sigma
    than the one before it reached. Reads `coordinates` and `s_noise`.
    """
    frame = Frame(options.coordinates)
    reached: float | None = None
    for index, (start, end) in enumerate(_plan(sigmas, frame)):
        sigma, next_sigma = float(start), float(end)
        if reached is not None and reached < sigma:
            x = x + noise(x) * (options.s_noise * math.sqrt(sigma**2 - reached**2))
        denoised = denoise(x, start)
        x = denoised if next_sigma == 0 else heun_step(denoise, frame, (x, denoised), sigma, end)
        reached = next_sigma
        yield Step(index, sigma, next_sigma, x, denoised)


def _plan(sigmas: Tensor, frame: Frame) -> Sequence[tuple[Tensor, Tensor]]:
    """Start and end, (), of every step."""
    steps = len(sigmas) - 1
    if steps < _FEWEST_STEPS:
        return list(pairwise(sigmas))
    back, times = (steps // 4, 2) if steps >= 36 else (9, 1)
    levels = _spaced(float(sigmas[0]), float(sigmas[-2]), steps - back * times, frame)
    low, high = _nearest(levels, _LOW), _nearest(levels, _HIGH)
    if low <= high:
        return list(pairwise(sigmas))
    way_back = _spaced(levels[high], levels[low], back + 1, frame)
    numbers = [*levels[: low + 1], *way_back * times, *levels[low + 1 :], 0.0]
    as_tensors = [sigmas.new_tensor(number) for number in numbers]
    return [(start, end) for start, end in pairwise(as_tensors) if start > end]


def _spaced(highest: float, lowest: float, count: int, frame: Frame) -> list[float]:
    """Levels spaced as Karras et al. do in the frame's variable; the ends are exact."""
    inner = karras(frame.variable(highest), frame.variable(lowest), count).tolist()[1:-1]
    return [highest, *(frame.sigma(variable) for variable in inner), lowest]


def _nearest(levels: Sequence[float], wanted: float) -> int:
    """Which level is nearest to `wanted`."""
    return min(range(len(levels)), key=lambda place: abs(levels[place] - wanted))
