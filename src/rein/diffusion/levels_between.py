"""Falling sequences of numbers between two ends, and the table of Align Your Steps: what spacings are made of.

All are float64 and include both ends, unless they say otherwise. A spacing takes them as sigmas, timesteps or times.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

ALIGNED_SD = (14.615, 6.475, 3.861, 2.697, 1.886, 1.396, 0.963, 0.652, 0.399, 0.152, 0.029)
ALIGNED_SDXL = (14.615, 6.315, 3.771, 2.181, 1.342, 0.862, 0.555, 0.380, 0.234, 0.113, 0.029)
"""Levels for 10 steps of Stable Diffusion 1.5 and XL, the last one being the lowest (Sabour et al. 2024, table of the
project's page).
"""

_BETA = 0.6
"""Both parameters of the beta distribution (Lee et al. 2024, "Beta Sampling is All You Need")."""

_TERMS, _HALVINGS = 60, 60


def evenly(first: float, last: float, count: int) -> Tensor:
    """Even steps; `first` alone for one."""
    return torch.linspace(first, last, count, dtype=torch.float64)


def karras(highest: float, lowest: float, count: int, rho: float = 7.0) -> Tensor:
    """Even steps of the rho-th root (Karras et al. 2022, eq. 5): small steps at low noise."""
    return evenly(highest ** (1 / rho), lowest ** (1 / rho), count) ** rho


def polyexponential(highest: float, lowest: float, count: int, rho: float = 1.0) -> Tensor:
    """Steps of the logarithm that are even to the power `rho` (k-diffusion); for rho 1 each divides by one number."""
    ramp = evenly(1.0, 0.0, count) ** rho
    return (ramp * math.log(highest) + (1 - ramp) * math.log(lowest)).exp()


def kl_optimal(highest: float, lowest: float, count: int) -> Tensor:
    """The first `count` of `count + 1` even steps of the arctangent (Sabour et al. 2024, eq. 15): without `lowest`."""
    return evenly(math.atan(highest), math.atan(lowest), count + 1)[:-1].tan()


def beta(highest: float, lowest: float, count: int) -> Tensor:
    """Quantiles of the beta distribution: dense at both ends (Lee et al. 2024)."""
    return lowest + (highest - lowest) * beta_quantiles(evenly(1.0, 0.0, count))


def aligned(table: Sequence[float], count: int) -> Tensor:
    """`count` levels of a table, log-linear between its rows."""
    logarithms = torch.tensor(table, dtype=torch.float64).log()
    places = evenly(0.0, len(table) - 1.0, count)
    low = places.floor().long().clamp(max=len(table) - 2)
    return torch.lerp(logarithms[low], logarithms[low + 1], places - low).exp()


def beta_quantiles(shares: Tensor, parameter: float = _BETA) -> Tensor:
    """Where the symmetric beta distribution has `shares` of its mass below; float64, each in [0, 1].

    By bisection of its distribution function up to the middle, whose power series (Abramowitz and Stegun, 26.5.4)
    converges there; the upper half is its mirror.
    """
    lower = torch.minimum(shares, 1.0 - shares)
    power = torch.arange(_TERMS, dtype=torch.float64)
    # (1 - a)(2 - a)...(k - a) / k!, and the integral of t^(a - 1 + k) beside it
    rising = torch.cat([torch.ones(1, dtype=torch.float64), ((power[1:] - parameter) / power[1:]).cumprod(0)])
    weights = rising / (parameter + power)
    scale = math.exp(math.lgamma(2 * parameter) - 2 * math.lgamma(parameter))
    low, high = torch.zeros_like(lower), torch.full_like(lower, 0.5)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        below = scale * middle**parameter * ((middle[..., None] ** power) @ weights)
        low, high = torch.where(below < lower, middle, low), torch.where(below < lower, high, middle)
    found = torch.where(lower == 0, torch.zeros_like(low), (low + high) / 2)
    return torch.where(shares > 0.5, 1.0 - found, found)
