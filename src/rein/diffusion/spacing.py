"""Spacings: which noise levels a sampler visits, for a number of steps. A spacing and a sampler are free of each other.

Levels descend strictly and end in 0. Sources: Lin et al. 2023, table 2 (leading, trailing, linspace), Karras et al.
2022, eq. 5 (karras), AUTOMATIC1111's web UI and ComfyUI for the rest; papers in `rein.diffusion.levels_between`.

| name             | discrete schedule of T levels                      | flow, in its time t                      |
|------------------|----------------------------------------------------|------------------------------------------|
| leading, ddim    | every (T // n)-th timestep, from 1 up              | those timesteps / T, shifted             |
| trailing         | every (T / n)-th, rounded, from T - 1 down         | 1, 1 - 1/n, ..., 1/n, shifted            |
| simple           | every (T / n)-th, rounded up, from T - 1 down      | those timesteps + 1 / T, shifted         |
| linspace         | T - 1 to 0 evenly, sigma linear between levels     | 1 to the lowest time evenly, shifted     |
| uniform, normal  | T - 1 to 0 evenly, log(sigma) linear between       | as linspace                              |
| sgm_uniform      | one more of those, without the last                | one more of those, without the last      |
| karras           | even steps of sigma^(1/rho), rho 7                 | even steps of t^(1/rho), linspace's ends |
| exponential      | even steps of log(sigma)                           | even steps of log(t), linspace's ends    |
| polyexponential  | log(sigma) even to the power rho, 1                | log(t) likewise, linspace's ends         |
| kl_optimal       | even steps of arctan(sigma), without the last      | the same, in sigma                       |
| beta             | quantiles of Beta(0.6, 0.6) from end to end        | the same in t, linspace's ends           |
| align_your_steps | Stable Diffusion 1.5's table, log-linear between   | none                                     |
| ..._sdxl         | SDXL's table                                       | none                                     |
| lcm              | n of 50 even ones, from T - 1 down                 | those timesteps + 1 / T, shifted         |

leading, trailing, linspace, karras, exponential and beta equal the sigmas of diffusers' EulerDiscreteScheduler
(steps_offset 1) and FlowMatchEulerDiscreteScheduler. As there, a flow's lowest time for linspace is 1 / T shifted
twice: once as the schedule's lowest, once with the rest. One step always goes from the highest level.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from rein.diffusion import levels_between
from rein.diffusion.levels_between import evenly
from rein.diffusion.schedule import DiscreteSchedule, FlowSchedule, NoiseSchedule, shifted_time, time_to_sigma
from rein.errors import InputError, nearest, quoted

_MOST_STEPS = 10_000
"""More levels than this between two trained ones would begin to coincide in float32."""

_DISTILLED_LEVELS = 50
"""Levels that latent consistency models are distilled at (Luo et al. 2023, section 4.3)."""

AUTOMATIC = "automatic"
"""Not a spacing: the sampler's own is meant."""


@dataclass(frozen=True)
class SpacingOptions:
    """What can be set of spacings; asking it of one that does not read it is an error.

    Args:
        rho: curvature of karras (7 unless set) and polyexponential (1), above 0, at most 100.
        sigma_min, sigma_max: lowest and highest level; the model's own unless set. Read by those that go from end to
            end. Levels outside the trained ones are told to the network as the nearest trained one.
        discard_penultimate: visit one level more and leave out the lowest but 0, as AUTOMATIC1111's web UI does for the
            samplers whose `SamplerInfo.discards_penultimate` says so.

    Raises:
        InputError: a number out of its range.
    """

    rho: float | None = None
    sigma_min: float | None = None
    sigma_max: float | None = None
    discard_penultimate: bool = False

    def __post_init__(self) -> None:
        if self.rho is not None and not 0 < self.rho <= 100:
            raise InputError(f"rho is {self.rho}: it must be above 0 and at most 100")
        for name in ("sigma_min", "sigma_max"):
            value = getattr(self, name)
            if value is not None and not 0 < value <= 2.0**20:
                raise InputError(f"{name} is {value}: it must be a noise level above 0 and at most 2**20")


PLAIN = SpacingOptions()


@dataclass(frozen=True)
class Span:
    """What a spacing goes between: ends in its own variable (sigma, or the time of a flow), and its curvature."""

    highest: float
    lowest: float
    rho: float


@dataclass(frozen=True)
class Spacing:
    """A way to choose n levels above 0, in float64 and descending: sigmas of a discrete schedule, times of a flow."""

    name: str
    label: str
    discrete: Callable[[int, DiscreteSchedule, Span], Tensor]
    flow: Callable[[int, FlowSchedule, Span], Tensor] | None
    most_steps: Callable[[int], int] = field(default=lambda levels: _MOST_STEPS)
    """Steps that there are levels for, by the trained levels."""
    reads: tuple[str, ...] = ()
    """Names of the fields of `SpacingOptions` that it reads."""
    rho: float = 1.0


def spaced_sigmas(name: str, steps: int, schedule: NoiseSchedule, options: SpacingOptions = PLAIN) -> Tensor:
    """The noise levels that a sampler visits: (steps + 1,), float32 on the CPU, strictly descending, the last one 0.

    Raises:
        InputError: an unknown spacing, or one that this kind of schedule has not; an option that it does not read;
            fewer steps than 1, or more than there are levels to visit.
    """
    spacing = find_spacing(name)
    for option in ("rho", "sigma_min", "sigma_max"):
        if getattr(options, option) is not None and option not in spacing.reads:
            readers = ", ".join(row.name for row in SPACINGS.values() if option in row.reads)
            raise InputError(f"{option} is set: spacing {spacing.name!r} has none; leave it out, or use {readers}")
    visited = steps + options.discard_penultimate
    most = spacing.most_steps(schedule.steps)
    if not 1 <= steps <= visited <= most:
        raise InputError(f"steps is {steps}: with {name} spacing it must be from 1 to {most - visited + steps}")
    levels = _levels(spacing, visited, schedule, options)
    if options.discard_penultimate:
        levels = levels[:-1]
    sigmas = torch.cat([levels, levels.new_zeros(1)]).to(torch.float32)
    if not bool((sigmas.diff() < 0).all()):
        raise InputError(f"steps is {steps}: with {name} spacing levels coincide between these ends; take fewer")
    return sigmas


def find_spacing(name: str) -> Spacing:
    """The spacing called `name`: its name or its label, in any case ("SGM Uniform").

    Raises:
        InputError: there is none of that name; the message gives the nearest one.
    """
    wanted = plain_spacing(name)
    for spacing in SPACINGS.values():
        if wanted in (spacing.name, plain_spacing(spacing.label)):
            return spacing
    if wanted in _OTHER_NAMES:
        return SPACINGS[_OTHER_NAMES[wanted]]
    raise InputError(f"unknown spacing {quoted(name)}: {nearest(wanted, SPACINGS)}")


def plain_spacing(name: str) -> str:
    """ "SGM Uniform" -> "sgm_uniform"."""
    return name.strip().lower().replace(" ", "_").replace("-", "_")


def _levels(spacing: Spacing, count: int, schedule: NoiseSchedule, options: SpacingOptions) -> Tensor:
    """Sigmas above 0, float64."""
    rho = spacing.rho if options.rho is None else options.rho
    if isinstance(schedule, DiscreteSchedule):
        span = _with_ends(Span(schedule.sigma_max, schedule.sigma_min, rho), options, lambda sigma: sigma)
        return spacing.discrete(count, schedule, span)
    if spacing.flow is None:
        raise InputError(
            f"spacing {spacing.name!r} is a table for Stable Diffusion: this model is a flow; use 'linspace'"
        )
    first, last = _linspace_times(2, schedule).tolist()
    span = _with_ends(Span(first, last, rho), options, lambda sigma: sigma / (1.0 + sigma))
    return time_to_sigma(spacing.flow(count, schedule, span))


def _with_ends(span: Span, options: SpacingOptions, variable: Callable[[float], float]) -> Span:
    if options.sigma_max is not None:
        span = replace(span, highest=variable(options.sigma_max))
    if options.sigma_min is not None:
        span = replace(span, lowest=variable(options.sigma_min))
    if not span.lowest < span.highest:
        raise InputError(
            f"noise levels would rise from {span.highest:g} to {span.lowest:g}: sigma_min must be below sigma_max"
        )
    return span


def _leading_timesteps(count: int, levels: int) -> Tensor:
    """Multiples of `levels // count`, moved up by the 1 that Stable Diffusion adds."""
    return torch.arange(count - 1, -1, -1, dtype=torch.float64) * (levels // count) + 1


def _leading_sigmas(count: int, schedule: DiscreteSchedule, span: Span) -> Tensor:
    """With as many steps as levels there is no level left to move up to."""
    timesteps = _leading_timesteps(count, schedule.steps)
    return _at_timesteps(timesteps - 1 if count == schedule.steps else timesteps, schedule)


def _leading_times(count: int, schedule: FlowSchedule, span: Span) -> Tensor:
    return shifted_time(_leading_timesteps(count, schedule.steps) / schedule.steps, schedule.shift)


def _trailing_timesteps(count: int, levels: int) -> Tensor:
    return (levels - torch.arange(count, dtype=torch.float64) * (levels / count)).round() - 1


def _simple_timesteps(count: int, levels: int) -> Tensor:
    return levels - 1 - (torch.arange(count, dtype=torch.float64) * (levels / count)).floor()


def _distilled_timesteps(count: int, levels: int) -> Tensor:
    """`count` of the levels that a latent consistency model is distilled at, as diffusers chooses them."""
    known = min(_DISTILLED_LEVELS, levels)
    chosen = (torch.arange(count, dtype=torch.float64) * (known / count)).floor()
    return (known - chosen) * (levels // known) - 1


def _at_timesteps(timesteps: Tensor, schedule: DiscreteSchedule) -> Tensor:
    """Sigmas of timesteps, linear between neighbours as in diffusers' Euler (the schedule's own rule is log-linear)."""
    table = schedule.sigmas.to(torch.float64)
    low = timesteps.floor().long().clamp(0, schedule.steps - 2)
    return torch.lerp(table[low], table[low + 1], timesteps - low)


def _log_linear(timesteps: Tensor, schedule: DiscreteSchedule) -> Tensor:
    """Sigmas of timesteps, log(sigma) linear between neighbours: the rule of k-diffusion."""
    table = schedule.sigmas.to(torch.float64).log()
    low = timesteps.floor().long().clamp(0, schedule.steps - 2)
    return torch.lerp(table[low], table[low + 1], timesteps - low).exp()


def _linspace_times(count: int, schedule: FlowSchedule, more: int = 0) -> Tensor:
    """The first `count` of `count + more` even times."""
    times = evenly(1.0, shifted_time(1.0 / schedule.steps, schedule.shift), count + more)[:count]
    return shifted_time(times, schedule.shift)


def _uniform(name: str, label: str, more: int = 0) -> Spacing:
    """Even timesteps from highest to lowest; with `more`, that many further ones that are left out."""
    return Spacing(
        name,
        label,
        lambda count, schedule, span: _log_linear(evenly(schedule.steps - 1, 0, count + more)[:count], schedule),
        lambda count, schedule, span: _linspace_times(count, schedule, more),
    )


def _between(
    name: str, label: str, rule: Callable[[int, Span], Tensor], reads: tuple[str, ...], rho: float = 1.0
) -> Spacing:
    """One rule from end to end, of sigmas or of times."""
    return Spacing(
        name,
        label,
        lambda count, schedule, span: rule(count, span),
        lambda count, schedule, span: rule(count, span),
        reads=reads,
        rho=rho,
    )


def _whole(name: str, label: str, rule: Callable[[int, int], Tensor], most: int | None = None) -> Spacing:
    """Trained timesteps, chosen by their number and that of all; a flow's times are one timestep later."""
    return Spacing(
        name,
        label,
        lambda count, schedule, span: _at_timesteps(rule(count, schedule.steps), schedule),
        lambda count, schedule, span: shifted_time((rule(count, schedule.steps) + 1) / schedule.steps, schedule.shift),
        most_steps=lambda levels: levels if most is None else min(levels, most),
    )


def _tabled(name: str, label: str, table: tuple[float, ...]) -> Spacing:
    return Spacing(name, label, lambda count, schedule, span: levels_between.aligned(table, count), None)


def _kl_times(count: int, schedule: FlowSchedule, span: Span) -> Tensor:
    highest, lowest = (
        float(time_to_sigma(torch.tensor(time, dtype=torch.float64))) for time in (span.highest, span.lowest)
    )
    sigmas = levels_between.kl_optimal(highest, lowest, count)
    return sigmas / (1.0 + sigmas)


_ENDS = ("sigma_min", "sigma_max")
_ROWS = (
    Spacing("leading", "Leading", _leading_sigmas, _leading_times, most_steps=lambda levels: levels),
    replace(
        _whole("trailing", "Trailing", _trailing_timesteps),
        flow=lambda count, schedule, span: shifted_time(evenly(1.0, 1.0 / count, count), schedule.shift),
    ),
    Spacing(
        "linspace",
        "Linspace",
        lambda count, schedule, span: _at_timesteps(evenly(schedule.steps - 1, 0, count), schedule),
        lambda count, schedule, span: _linspace_times(count, schedule),
    ),
    _uniform("uniform", "Uniform"),
    _between(
        "karras",
        "Karras",
        lambda count, span: levels_between.karras(span.highest, span.lowest, count, span.rho),
        ("rho", *_ENDS),
        rho=7.0,
    ),
    _between(
        "exponential",
        "Exponential",
        lambda count, span: levels_between.polyexponential(span.highest, span.lowest, count),
        _ENDS,
    ),
    _between(
        "polyexponential",
        "Polyexponential",
        lambda count, span: levels_between.polyexponential(span.highest, span.lowest, count, span.rho),
        ("rho", *_ENDS),
    ),
    _uniform("sgm_uniform", "SGM Uniform", more=1),
    Spacing(
        "kl_optimal",
        "KL Optimal",
        lambda count, schedule, span: levels_between.kl_optimal(span.highest, span.lowest, count),
        _kl_times,
        reads=_ENDS,
    ),
    _tabled("align_your_steps", "Align Your Steps", levels_between.ALIGNED_SD),
    _tabled("align_your_steps_sdxl", "Align Your Steps SDXL", levels_between.ALIGNED_SDXL),
    _whole("simple", "Simple", _simple_timesteps),
    _uniform("normal", "Normal"),
    Spacing("ddim", "DDIM", _leading_sigmas, _leading_times, most_steps=lambda levels: levels),
    replace(
        _between("beta", "Beta", lambda count, span: levels_between.beta(span.highest, span.lowest, count), _ENDS),
        most_steps=lambda levels: levels,
    ),
    _whole("lcm", "LCM", _distilled_timesteps, _DISTILLED_LEVELS),
)

SPACINGS: dict[str, Spacing] = {row.name: row for row in _ROWS}
"""Every spacing by name."""

_OTHER_NAMES = {
    "sgmuniform": "sgm_uniform",
    "ddim_uniform": "ddim",
    "ays": "align_your_steps",
    "ays_sdxl": "align_your_steps_sdxl",
    "poly_exponential": "polyexponential",
    "linear": "linspace",
}
"""ComfyUI's and diffusers' names."""
