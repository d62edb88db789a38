"""A world where everything is known: x0 ~ N(MEAN, DEVIATION²), number by number.

There the best denoiser, the exact solution of the sampling equation and the distribution at every noise level have
closed forms, so a sampler's error is known, and how it falls with the number of steps.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from rein.diffusion.samplers import SAMPLERS, SamplerOptions
from rein.diffusion.schedule import Coordinates

MEAN, DEVIATION = 0.7, 0.5
LOWEST = 0.1
"""Errors are taken at this level, not at 0, so that no step is special."""


def best(x: Tensor, sigma: Tensor) -> Tensor:
    """E[x0 | x]."""
    return (DEVIATION**2 * x + sigma**2 * MEAN) / (DEVIATION**2 + sigma**2)


def exact(start: Tensor, first: float, last: float) -> Tensor:
    """Where the sampling equation takes x from the level `first` to `last`."""
    return MEAN + (start - MEAN) * math.sqrt((DEVIATION**2 + last**2) / (DEVIATION**2 + first**2))


def ladder(first: float, last: float, steps: int) -> Tensor:
    """Exponentially spaced levels, float64."""
    return torch.linspace(math.log(first), math.log(last), steps + 1, dtype=torch.float64).exp()


@dataclass(frozen=True)
class Course:
    """On what levels a sampler shows its order: methods for even steps need them even, and those that begin at first
    order must begin where the equation is all but linear, far up.
    """

    order: int
    first: float = 10.0
    last: float = LOWEST
    even: bool = False
    coordinates: Coordinates = "sigma"
    steps: tuple[int, int] = (128, 256)


_FAR: Course = Course(3, first=1000.0, coordinates="time")
COURSES: dict[str, Course] = {
    "euler": Course(1),
    "euler_ancestral": Course(1),
    "ddim": Course(1),
    "heun": Course(2),
    "dpm_2": Course(2),
    "dpm_2_ancestral": Course(2),
    "dpmpp_2s_ancestral": Course(2),
    "dpmpp_sde": Course(2),
    "dpmpp_2m": Course(2),
    "dpmpp_2m_sde": Course(2),
    "dpmpp_2m_sde_heun": Course(2),
    "res_multistep": Course(2),
    "dpmpp_3m_sde": Course(2),
    "dpm_fast": Course(3, 1000.0, coordinates="time", steps=(121, 241)),
    "deis": _FAR,
    "lms": Course(4, 1000.0, coordinates="time"),
    "plms": Course(4, 100.0, last=4.0, even=True, steps=(1024, 2048)),
    "ipndm": Course(4, 100.0, last=4.0, even=True, steps=(1024, 2048)),
    "unipc": Course(4, 1000.0),
    "unipc_bh2": Course(4, 1000.0),
}
"""Without noise (eta 0). UniPC's corrector adds one to its predictor's order 3 (Zhao et al. 2023, theorem 3.1)."""


def error(name: str, steps: int, course: Course) -> float:
    """The largest error of two numbers at the course's last level, after so many steps without noise."""
    info = SAMPLERS[name]
    if course.even:
        sigmas = torch.linspace(course.first, course.last, steps + 1, dtype=torch.float64)
    else:
        sigmas = ladder(course.first, course.last, steps)
    # Levels beyond the last: UniPC's order falls over the last steps, DPM fast wants an end above 0.
    beyond = sigmas.new_zeros(1) if info.own_steps else sigmas[-1] * torch.tensor([0.9, 0.8, 0.7, 0.6])
    start = torch.tensor([[[[3.0, -2.0]]]], dtype=torch.float64) * math.sqrt(DEVIATION**2 + course.first**2)
    options = SamplerOptions(eta=0.0 if info.reads_eta else None, coordinates=course.coordinates)
    for step in info.function(best, start, torch.cat([sigmas, beyond]), torch.zeros_like, options):
        if math.isclose(step.next_sigma, course.last, rel_tol=1e-9):
            return float((step.x - exact(start, course.first, course.last)).abs().max())
    raise AssertionError(f"{name} did not come by {course.last}")


def measured_order(name: str) -> float:
    """How often the error halves when the number of steps doubles."""
    course = COURSES[name]
    few, many = course.steps
    return math.log(error(name, few, course) / error(name, many, course)) / math.log(many / few)
