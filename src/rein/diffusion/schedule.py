"""Noise schedules: which noise levels a model was trained on, and which timestep tells its network about each.

Everything outside a network lives in one system of coordinates, "variance exploding": x = x0 + sigma * noise, with
noise of unit variance. A schedule translates between sigma and the timestep that the network was trained with.

* `DiscreteSchedule`: a table of levels made from betas (DDPM, Stable Diffusion 1, 2, XL).
* `FlowSchedule`: rectified flow, x_t = (1 - t) x0 + t noise with t in (0, 1); then sigma = t / (1 - t).

Both have `sigma_min` and `sigma_max` (lowest level above 0 and highest level, finite), `timestep(sigma)` and its
inverse `sigma(timestep)` (float32 tensors of any shape; timesteps are fractional between trained levels), and
`coordinates`, the variable in which a sampler of higher order averages slopes safely (see
`rein.diffusion.samplers.heun`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, TypeVar

import torch
from torch import Tensor

from rein.errors import InputError, nearest, quoted

Coordinates = Literal["sigma", "time"]

_LARGEST_ORDINARY_SIGMA = 1000.0
"""Above this a first step falls by orders of magnitude, and slopes with respect to sigma cannot be averaged over it."""

_LEAST_SIGNAL = 2.0**-24
"""Signal (alpha-bar) left at the last step of a zero-terminal-SNR schedule, so that its sigma, 4096, is finite."""

_LARGEST_FLOW_TIME = 1.0 - 2.0**-20
"""Pure noise, t = 1, has an infinite sigma; this t is exact in float32 and gives sigma 2**20 - 1."""


@dataclass(frozen=True, eq=False)
class DiscreteSchedule:
    """Noise levels by number: `sigmas[i]` is that of timestep i, ascending, float32, (steps,).

    Between two levels log(sigma) is interpolated linearly; outside the table the nearest end is taken.
    """

    sigmas: Tensor = field(repr=False)

    @property
    def steps(self) -> int:
        """How many levels there are; timesteps run from 0 to `steps - 1`."""
        return self.sigmas.shape[0]

    @property
    def sigma_min(self) -> float:
        return float(self.sigmas[0])

    @property
    def sigma_max(self) -> float:
        return float(self.sigmas[-1])

    @property
    def coordinates(self) -> Coordinates:
        """ "sigma", or "time" for a schedule that ends in pure noise."""
        return "sigma" if self.sigma_max <= _LARGEST_ORDINARY_SIGMA else "time"

    def timestep(self, sigma: Tensor) -> Tensor:
        """Timestep of `sigma`: whole numbers, exactly, for levels of the table."""
        table = self.sigmas.to(sigma.device)
        inside = sigma.to(table.dtype).clamp(self.sigma_min, self.sigma_max)
        low = (torch.searchsorted(table, inside.contiguous(), right=True) - 1).clamp(0, self.steps - 2)
        # Logarithms of ratios, not differences of logarithms: log(1) is exactly 0 on a level of the table.
        return low + torch.log(inside / table[low]) / torch.log(table[low + 1] / table[low])

    def sigma(self, timestep: Tensor) -> Tensor:
        """Noise level of `timestep`: exactly the table's value for whole numbers."""
        table = self.sigmas.to(timestep.device)
        inside = timestep.to(table.dtype).clamp(0, self.steps - 1)
        low = inside.floor().long().clamp(0, self.steps - 2)
        part = inside - low
        between = table[low] * (table[low + 1] / table[low]) ** part
        return torch.where(part == 1, table[low + 1], between)


@dataclass(frozen=True)
class FlowSchedule:
    """Rectified flow (Liu et al. 2022; Esser et al. 2024, "Scaling Rectified Flow Transformers").

    Timesteps are t * `steps` with t = sigma / (1 + sigma). t = 1 has no finite sigma: the highest level is
    t = 1 - 2**-20 (sigma 1,048,575), a millionth of the picture away from pure noise.

    Args:
        shift: moves times towards noise, t -> shift t / (1 + (shift - 1) t) (Esser et al., eq. 23), where levels are
            chosen: by spacings and in training. 1 moves nothing. The network itself does not see it.
        steps: what t is multiplied by for the network; the lowest level used by a spacing is t = 1 / `steps`, shifted.
    """

    shift: float = 1.0
    steps: int = 1000

    @property
    def sigma_min(self) -> float:
        time = shifted_time(1.0 / self.steps, self.shift)
        return time / (1.0 - time)

    @property
    def sigma_max(self) -> float:
        return _LARGEST_FLOW_TIME / (1.0 - _LARGEST_FLOW_TIME)

    @property
    def coordinates(self) -> Coordinates:
        """Always "time": the path of a flow is straight in t."""
        return "time"

    def timestep(self, sigma: Tensor) -> Tensor:
        return sigma_to_time(sigma) * self.steps

    def sigma(self, timestep: Tensor) -> Tensor:
        return time_to_sigma(timestep / self.steps)


NoiseSchedule = DiscreteSchedule | FlowSchedule


_Time = TypeVar("_Time", float, Tensor)


def shifted_time(time: _Time, shift: float) -> _Time:
    """Flow time `time` in [0, 1] moved towards noise by `shift` > 0 (Esser et al. 2024, eq. 23)."""
    return shift * time / (1.0 + (shift - 1.0) * time)


def sigma_to_time(sigma: Tensor) -> Tensor:
    """Flow time t in [0, 1) of a noise level: the share of noise in (1 - t) x0 + t noise."""
    return sigma / (1.0 + sigma)


def time_to_sigma(time: Tensor) -> Tensor:
    """Noise level of flow time t; times above 1 - 2**-20 are taken as that, so the answer is finite."""
    inside = time.clamp(0.0, _LARGEST_FLOW_TIME)
    return inside / (1.0 - inside)


def linear(steps: int = 1000, beta_start: float = 0.0001, beta_end: float = 0.02) -> DiscreteSchedule:
    """Betas that rise linearly (Ho et al. 2020, section 4)."""
    return from_betas(torch.linspace(beta_start, beta_end, steps, dtype=torch.float64))


def scaled_linear(steps: int = 1000, beta_start: float = 0.00085, beta_end: float = 0.012) -> DiscreteSchedule:
    """Betas whose square roots rise linearly, as in all Stable Diffusion models (Rombach et al. 2022)."""
    return from_betas(torch.linspace(math.sqrt(beta_start), math.sqrt(beta_end), steps, dtype=torch.float64) ** 2)


def cosine(steps: int = 1000, largest_beta: float = 0.999) -> DiscreteSchedule:
    """Signal that falls as a squared cosine, betas capped (Nichol and Dhariwal 2021, eq. 17, with s = 0.008)."""
    offset = 0.008
    times = torch.arange(steps + 1, dtype=torch.float64) / steps
    signal = torch.cos((times + offset) / (1 + offset) * math.pi / 2) ** 2
    return from_betas((1 - signal[1:] / signal[:-1]).clamp(max=largest_beta))


def from_betas(betas: Tensor) -> DiscreteSchedule:
    """The schedule of DDPM's betas, (steps,) in (0, 1): sigma² = (1 - a) / a with a, alpha-bar, = prod(1 - beta)."""
    return _from_signal(torch.cumprod(1.0 - betas.to(torch.float64), dim=0))


def rescale_zero_terminal_snr(schedule: DiscreteSchedule) -> DiscreteSchedule:
    """The schedule with a last level of pure noise: sqrt(alpha-bar) moved to end in 0, stretched to begin as before.

    Source: Lin et al. 2023, "Common Diffusion Noise Schedules and Sample Steps are Flawed", algorithm 1.

    Pure noise has an infinite sigma; as diffusers' Euler scheduler does, the last alpha-bar is set to 2**-24
    instead, which is sigma 4096. Such a schedule needs a prediction that works without signal: v, x0 or flow, not
    epsilon.
    """
    root = (1.0 / (1.0 + schedule.sigmas.to(torch.float64) ** 2)).sqrt()
    signal = ((root - root[-1]) * root[0] / (root[0] - root[-1])) ** 2
    signal[-1] = _LEAST_SIGNAL
    return _from_signal(signal)


def _from_signal(signal: Tensor) -> DiscreteSchedule:
    """From alpha-bar, float64, descending in (0, 1)."""
    return DiscreteSchedule(((1.0 - signal) / signal).sqrt().to(torch.float32))


ScheduleKind = Literal["scaled_linear", "linear", "cosine", "flow"]

_FROM_BETAS: dict[str, Callable[[int, float, float], DiscreteSchedule]] = {
    "scaled_linear": scaled_linear,
    "linear": linear,
    "cosine": lambda steps, beta_start, beta_end: cosine(steps),
}

SCHEDULES: tuple[str, ...] = (*_FROM_BETAS, "flow")
"""Names that `make_schedule` knows."""


def make_schedule(
    kind: str,
    steps: int = 1000,
    beta_start: float = 0.00085,
    beta_end: float = 0.012,
    zero_terminal_snr: bool = False,
    shift: float = 1.0,
) -> NoiseSchedule:
    """A schedule by name and numbers, those of a model's configuration.

    Args:
        kind: "scaled_linear", "linear", "cosine" or "flow".
        steps: trained levels, 2 or more.
        beta_start, beta_end: first and last beta, 0 < start <= end < 1; read by the two linear kinds.
        zero_terminal_snr: make the last level pure noise; not for "flow", which ends there anyway.
        shift: read by "flow", > 0.

    Raises:
        InputError: an unknown kind, a number out of its range.
    """
    if kind not in SCHEDULES:
        raise InputError(f"unknown noise schedule {quoted(kind)}: {nearest(kind, SCHEDULES)}")
    if steps < 2:
        raise InputError(f"schedule steps is {steps}: it must be 2 or more")
    if kind == "flow":
        if not (math.isfinite(shift) and shift > 0):
            raise InputError(f"schedule shift is {shift}: it must be a number above 0")
        return FlowSchedule(shift, steps)
    if not 0 < beta_start <= beta_end < 1:
        raise InputError(f"betas run from {beta_start} to {beta_end}: they must rise, both between 0 and 1")
    schedule = _FROM_BETAS[kind](steps, beta_start, beta_end)
    return rescale_zero_terminal_snr(schedule) if zero_terminal_snr else schedule
