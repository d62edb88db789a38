"""Spacings: which noise levels a sampler visits, for a number of steps. A spacing and a sampler are free of each other.

Levels descend strictly and end in 0. Sources: Lin et al. 2023, table 2 (leading,
trailing, linspace), Karras et al. 2022, eq. 5 with rho = 7 (karras).

| name        | discrete schedule of T levels                      | flow, in its time t                      |
|-------------|----------------------------------------------------|------------------------------------------|
| leading     | every (T // n)-th timestep, from 1 up              | those timesteps / T, shifted             |
| trailing    | every (T / n)-th, rounded, from T - 1 down         | 1, 1 - 1/n, ..., 1/n, shifted            |
| linspace    | T - 1 to 0 evenly, between levels by interpolation | 1 to the lowest time evenly, shifted     |
| karras      | even steps of sigma^(1/7), highest to lowest       | even steps of t^(1/7), linspace's ends   |
| exponential | even steps of log(sigma), highest to lowest        | even steps of log(t), linspace's ends    |

They equal the sigmas of diffusers' EulerDiscreteScheduler (steps_offset 1) and FlowMatchEulerDiscreteScheduler. As
there, a flow's lowest time for linspace is 1 / T shifted twice: once as the schedule's lowest, once with the rest.
One step always goes from the highest level.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from rein.diffusion.schedule import DiscreteSchedule, FlowSchedule, NoiseSchedule, shifted_time, time_to_sigma
from rein.errors import InputError, nearest, quoted

_KARRAS_RHO = 7.0

_MOST_STEPS = 10_000
"""More levels than this between two trained ones would begin to coincide in float32."""


@dataclass(frozen=True)
class Spacing:
    """A way to choose n levels above 0, in float64 and descending: sigmas of a discrete schedule, times of a flow."""

    name: str
    label: str
    discrete: Callable[[int, DiscreteSchedule], Tensor]
    flow: Callable[[int, FlowSchedule], Tensor]
    whole_timesteps: bool = False
    """Visits trained levels only, so there can be no more steps than the schedule has levels."""


def spaced_sigmas(name: str, steps: int, schedule: NoiseSchedule) -> Tensor:
    """The noise levels that a sampler visits: (steps + 1,), float32 on the CPU, strictly descending, the last one 0.

    Raises:
        InputError: an unknown spacing; fewer steps than 1, or more than there are levels to visit.
    """
    if name not in SPACINGS:
        raise InputError(f"unknown spacing {quoted(name)}: {nearest(name, SPACINGS)}")
    spacing = SPACINGS[name]
    most = schedule.steps if spacing.whole_timesteps else _MOST_STEPS
    if not 1 <= steps <= most:
        raise InputError(f"steps is {steps}: with {name} spacing it must be from 1 to {most}")
    if isinstance(schedule, FlowSchedule):
        levels = time_to_sigma(spacing.flow(steps, schedule))
    else:
        levels = spacing.discrete(steps, schedule)
    return torch.cat([levels, levels.new_zeros(1)]).to(torch.float32)


def _evenly(first: float, last: float, count: int) -> Tensor:
    """`count` numbers from `first` to `last`, both included; `first` alone for one."""
    return torch.linspace(first, last, count, dtype=torch.float64)


def _karras(highest: float, lowest: float, count: int) -> Tensor:
    """Karras et al. 2022, eq. 5: small steps at low noise."""
    return _evenly(highest ** (1 / _KARRAS_RHO), lowest ** (1 / _KARRAS_RHO), count) ** _KARRAS_RHO


def _exponential(highest: float, lowest: float, count: int) -> Tensor:
    """Every step divides the level by the same number."""
    return _evenly(math.log(highest), math.log(lowest), count).exp()


def _leading_timesteps(count: int, levels: int) -> Tensor:
    """Multiples of `levels // count`, moved up by the 1 that Stable Diffusion adds."""
    return torch.arange(count - 1, -1, -1, dtype=torch.float64) * (levels // count) + 1


def _leading_sigmas(count: int, schedule: DiscreteSchedule) -> Tensor:
    """With as many steps as levels there is no level left to move up to."""
    timesteps = _leading_timesteps(count, schedule.steps)
    return _at_timesteps(timesteps - 1 if count == schedule.steps else timesteps, schedule)


def _trailing_timesteps(count: int, levels: int) -> Tensor:
    return (levels - torch.arange(count, dtype=torch.float64) * (levels / count)).round() - 1


def _at_timesteps(timesteps: Tensor, schedule: DiscreteSchedule) -> Tensor:
    """Sigmas of timesteps, linear between neighbours as in diffusers' Euler (the schedule's own rule is log-linear)."""
    table = schedule.sigmas.to(torch.float64)
    low = timesteps.floor().long().clamp(0, schedule.steps - 2)
    return torch.lerp(table[low], table[low + 1], timesteps - low)


def _linspace_times(count: int, schedule: FlowSchedule) -> Tensor:
    times = _evenly(1.0, shifted_time(1.0 / schedule.steps, schedule.shift), count)
    return shifted_time(times, schedule.shift)


def _flow_ends(schedule: FlowSchedule) -> tuple[float, float]:
    """Highest and lowest time of linspace."""
    first, last = _linspace_times(2, schedule).tolist()
    return first, last


SPACINGS: dict[str, Spacing] = {
    row.name: row
    for row in (
        Spacing(
            "leading",
            "Leading",
            _leading_sigmas,
            lambda count, schedule: shifted_time(
                _leading_timesteps(count, schedule.steps) / schedule.steps, schedule.shift
            ),
            whole_timesteps=True,
        ),
        Spacing(
            "trailing",
            "Trailing",
            lambda count, schedule: _at_timesteps(_trailing_timesteps(count, schedule.steps), schedule),
            lambda count, schedule: shifted_time(_evenly(1.0, 1.0 / count, count), schedule.shift),
            whole_timesteps=True,
        ),
        Spacing(
            "linspace",
            "Linspace",
            lambda count, schedule: _at_timesteps(_evenly(schedule.steps - 1, 0, count), schedule),
            _linspace_times,
        ),
        Spacing(
            "karras",
            "Karras",
            lambda count, schedule: _karras(schedule.sigma_max, schedule.sigma_min, count),
            lambda count, schedule: _karras(*_flow_ends(schedule), count),
        ),
        Spacing(
            "exponential",
            "Exponential",
            lambda count, schedule: _exponential(schedule.sigma_max, schedule.sigma_min, count),
            lambda count, schedule: _exponential(*_flow_ends(schedule), count),
        ),
    )
}
"""Every spacing by name."""
