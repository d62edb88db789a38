"""UniPC: a predictor of order 3 whose every step is corrected by the evaluation that the next one makes anyway.

Source: Zhao et al. 2023, "UniPC", algorithms 5 to 8 (multistep, data prediction), in lambda = -log(sigma).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from rein.diffusion.noise import NoiseSource
from rein.diffusion.prediction import Denoiser
from rein.diffusion.step import DEFAULTS, SamplerOptions, Step, falling

_ORDER = 3


def unipc(
    denoise: Denoiser, x: Tensor, sigmas: Tensor, noise: NoiseSource, options: SamplerOptions = DEFAULTS
) -> Iterator[Step]:
    """UniPC-3 with B(h) = h ("bh1"), the choice of AUTOMATIC1111's web UI. Deterministic."""
    return _unipc(denoise, x, sigmas, bh2=False)


def unipc_bh2(
    denoise: Denoiser, x: Tensor, sigmas: Tensor, noise: NoiseSource, options: SamplerOptions = DEFAULTS
) -> Iterator[Step]:
    """UniPC-3 with B(h) = e^h - 1 ("bh2"), the choice of diffusers. Deterministic."""
    return _unipc(denoise, x, sigmas, bh2=True)


@dataclass(frozen=True, eq=False)
class _Known:
    """A picture that the denoiser saw, and where."""

    picture: Tensor
    sigma: float


def _unipc(denoise: Denoiser, x: Tensor, sigmas: Tensor, bh2: bool) -> Iterator[Step]:
    """The order rises with what is known, and falls towards the last step, which is the picture itself.

    x of a step is the predictor's: where the denoiser is asked next. The corrector then moves the start of the
    following step, not x.
    """
    known: list[_Known] = []
    start, order = x, 0
    steps = len(sigmas) - 1
    for index, sigma, next_sigma in falling(sigmas):
        denoised = denoise(x, sigmas[index])
        if known:
            start = _advanced(start, known[:order], sigma, denoised, bh2)
        known = [_Known(denoised, sigma), *known][:_ORDER]
        order = min(len(known), steps - index)
        x = denoised if next_sigma == 0 else _advanced(start, known[:order], next_sigma, None, bh2)
        yield Step(index, sigma, next_sigma, x, denoised)


def _advanced(x: Tensor, known: Sequence[_Known], target: float, seen: Tensor | None, bh2: bool) -> Tensor:
    """x at `target` from x at the newest of `known`; `seen`, what the denoiser saw at `target`, corrects it.

    x' = sigma'/sigma * x + (1 - e^-h) * D0 - B * sum of rho_k * (D_k - D0) / r_k, with r_k the place of D_k in units of
    the step h, and r 1 for `seen` (eq. 3 and 9).
    """
    newest = known[0]
    step = math.log(newest.sigma / target)
    places = [math.log(newest.sigma / other.sigma) / step for other in known[1:]]
    differences = [(other.picture - newest.picture) / place for other, place in zip(known[1:], places, strict=True)]
    if seen is not None:
        places, differences = [*places, 1.0], [*differences, seen - newest.picture]
    result = x * (target / newest.sigma) - newest.picture * math.expm1(-step)
    factor = math.expm1(-step) if bh2 else -step
    for share, difference in zip(_shares(places, step, factor), differences, strict=True):
        result = result - difference * (factor * share)
    return result


def _shares(places: Sequence[float], step: float, factor: float) -> Sequence[float]:
    """rho: what each difference counts, so that polynomials up to their number are met exactly (theorem 3.1).

    A single one counts a half whatever the step is, as in the paper's code: for order 2, which that keeps.
    """
    if len(places) < 2:
        return [0.5] * len(places)
    function = math.expm1(-step) / -step - 1.0
    wanted = []
    for power in range(1, len(places) + 1):
        wanted.append(function * math.factorial(power) / factor)
        function = function / -step - 1.0 / math.factorial(power + 1)
    powers = torch.tensor(places, dtype=torch.float64) ** torch.arange(len(places), dtype=torch.float64)[:, None]
    solved: list[float] = torch.linalg.solve(powers, torch.tensor(wanted, dtype=torch.float64)).tolist()
    return solved
