"""The samplers that diffusers lacks or does otherwise, written from their papers in other coordinates than ours.

DPM-Solver and DPM-Solver++ are in the papers' own terms: z = alpha x0 + sigma noise with alpha² + sigma² = 1 and
lambda = log(alpha / sigma). Everything is float64. `ask(z, lambda)` gives x0; levels are those of the code under test.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from rein.diffusion.prediction import Denoiser

Reference = Callable[..., list[Tensor]]
"""`(denoise, x, sigmas, noises, eta) -> x after every step`."""


@dataclass(frozen=True)
class Preserving:
    """Variance-preserving coordinates of a denoiser."""

    denoise: Denoiser

    @staticmethod
    def alpha(level: float) -> float:
        return 1 / math.sqrt(1 + math.exp(-2 * level))

    @classmethod
    def sigma(cls, level: float) -> float:
        return cls.alpha(level) * math.exp(-level)

    def picture(self, z: Tensor, level: float) -> Tensor:
        return self.denoise(z / self.alpha(level), torch.tensor(math.exp(-level), dtype=torch.float64))

    def noise(self, z: Tensor, level: float) -> Tensor:
        return (z - self.alpha(level) * self.picture(z, level)) / self.sigma(level)

    def solver_1(self, z: Tensor, s: float, t: float, eps: Tensor) -> Tensor:
        """DPM-Solver-1."""
        return self.alpha(t) / self.alpha(s) * z - self.sigma(t) * math.expm1(t - s) * eps

    def solver_2(self, z: Tensor, s: float, t: float, r1: float = 0.5) -> Tensor:
        """DPM-Solver-2 (Lu et al. 2022a, algorithm 4)."""
        eps = self.noise(z, s)
        middle = s + r1 * (t - s)
        inner = self.noise(self.solver_1(z, s, middle, eps), middle)
        return self.solver_1(z, s, t, eps) - self.sigma(t) / (2 * r1) * math.expm1(t - s) * (inner - eps)

    def solver_3(self, z: Tensor, s: float, t: float) -> Tensor:
        """DPM-Solver-3 with r1 1/3 and r2 2/3 (algorithm 5)."""
        h, r1, r2 = t - s, 1 / 3, 2 / 3
        eps = self.noise(z, s)
        s1, s2 = s + r1 * h, s + r2 * h
        first = self.noise(self.solver_1(z, s, s1, eps), s1) - eps
        bend = math.expm1(r2 * h) / (r2 * h) - 1
        u2 = self.solver_1(z, s, s2, eps) - self.sigma(s2) * r2 / r1 * bend * first
        second = self.noise(u2, s2) - eps
        return self.solver_1(z, s, t, eps) - self.sigma(t) / r2 * (math.expm1(h) / h - 1) * second

    def solver_pp_2s(self, z: Tensor, s: float, t: float) -> Tensor:
        """DPM-Solver++(2S) with r 1/2 (Lu et al. 2022b, algorithm 1)."""
        middle = (s + t) / 2
        inner = self.picture(self.held(z, s, middle, self.picture(z, s)), middle)
        return self.held(z, s, t, inner)

    def held(self, z: Tensor, s: float, t: float, picture: Tensor) -> Tensor:
        """The exact solution where x0 does not change."""
        return self.sigma(t) / self.sigma(s) * z - self.alpha(t) * math.expm1(s - t) * picture


def down_and_up(sigma: float, target: float, eta: float) -> tuple[float, float]:
    up = min(target, eta * math.sqrt(target**2 * (sigma**2 - target**2) / sigma**2))
    return math.sqrt(target**2 - up**2), up


def single_steps(solver: str) -> Reference:
    """A one-step solver of `Preserving` to a level below, then noise up; x0 itself in the last step."""

    def run(denoise: Denoiser, x: Tensor, sigmas: Tensor, noises: Iterator[Tensor], eta: float) -> list[Tensor]:
        world, x = Preserving(denoise), x.double()
        results: list[Tensor] = []
        for sigma, target in pairwise(sigmas.double().tolist()):
            down, up = down_and_up(sigma, target, eta)
            if down == 0:
                x = denoise(x, torch.tensor(sigma, dtype=torch.float64))
            else:
                s, t = -math.log(sigma), -math.log(down)
                x = getattr(world, solver)(world.alpha(s) * x, s, t) / world.alpha(t)
            if up > 0:
                x = x + up * next(noises).double()
            results.append(x)
        return results

    return run


def lms(denoise: Denoiser, x: Tensor, sigmas: Tensor, noises: Iterator[Tensor], eta: float) -> list[Tensor]:
    """Adams and Bashforth's method for uneven steps, its weights by integrating polynomials fitted to unit vectors."""
    levels = sigmas.double()
    slopes: list[Tensor] = []
    results: list[Tensor] = []
    for i, (sigma, target) in enumerate(pairwise(levels.tolist())):
        slopes = [*slopes, (x.double() - denoise(x.double(), levels[i])) / sigma][-4:]
        known = levels[i + 1 - len(slopes) : i + 1]
        powers = torch.stack([known**k for k in range(len(slopes))])
        integrals = [(target ** (k + 1) - sigma ** (k + 1)) / (k + 1) for k in range(len(slopes))]
        weights = torch.linalg.solve(powers, torch.tensor(integrals, dtype=torch.float64))
        x = x + torch.einsum("k,k...->...", weights, torch.stack(slopes))
        results.append(x)
    return results


def dpmpp_sde(denoise: Denoiser, x: Tensor, sigmas: Tensor, noises: Iterator[Tensor], eta: float) -> list[Tensor]:
    """k-diffusion's DPM++ SDE with r 1/2, on a Brownian path W(sigma) whose increments over half steps are `noises`."""
    results = []
    for sigma, target in pairwise(sigmas.double().tolist()):
        picture = denoise(x, torch.tensor(sigma, dtype=torch.float64))
        if target == 0:
            results.append(picture)
            break
        middle = math.exp((math.log(sigma) + math.log(target)) / 2)
        none = torch.zeros_like(x)
        first, second = (next(noises), next(noises)) if eta else (none, none)
        half, rest = math.sqrt(sigma - middle) * first, math.sqrt(middle - target) * second
        down, up = down_and_up(sigma, middle, eta)
        inner = down / sigma * x + (1 - down / sigma) * picture + up * half / math.sqrt(sigma - middle)
        picture = denoise(inner, torch.tensor(middle, dtype=torch.float64))
        down, up = down_and_up(sigma, target, eta)
        x = down / sigma * x + (1 - down / sigma) * picture + up * (half + rest) / math.sqrt(sigma - target)
        results.append(x)
    return results


def exponential_2(denoise: Denoiser, x: Tensor, sigmas: Tensor, noises: Iterator[Tensor], eta: float) -> list[Tensor]:
    """The stochastic exponential integrator of order 2, by phi_1(-l) and phi_2(-l), l = (1 + eta) h."""
    results: list[Tensor] = []
    before: tuple[Tensor, float] | None = None
    for sigma, target in pairwise(sigmas.double().tolist()):
        picture = denoise(x, torch.tensor(sigma, dtype=torch.float64))
        if target == 0:
            return [*results, picture]
        h = math.log(sigma) - math.log(target)
        length = (1 + eta) * h
        phi_1 = -math.expm1(-length) / length
        phi_2 = (1 - phi_1) / length
        new = math.exp(-length) * x + length * phi_1 * picture
        if before is not None:
            new = new + length * phi_2 * (picture - before[0]) * h / before[1]
        if eta:
            new = new + target * math.sqrt(1 - math.exp(-2 * eta * h)) * next(noises)
        before, x = (picture, h), new
        results.append(x)
    return results


def dpmpp_3m_sde(denoise: Denoiser, x: Tensor, sigmas: Tensor, noises: Iterator[Tensor], eta: float) -> list[Tensor]:
    """Order 3: x0 as a parabola in lambda through three points, its Taylor terms weighed by phi functions."""
    results: list[Tensor] = []
    seen: list[tuple[float, Tensor]] = []
    for sigma, target in pairwise(sigmas.double().tolist()):
        picture = denoise(x, torch.tensor(sigma, dtype=torch.float64))
        if target == 0:
            return [*results, picture]
        here, h = -math.log(sigma), math.log(sigma / target)
        seen = [(here, picture), *seen][:3]
        places = torch.tensor([(place - here) / h for place, _ in seen], dtype=torch.float64)
        powers = torch.stack([places**k for k in range(len(seen))], dim=1)
        terms = torch.einsum("kj,j...->k...", torch.linalg.inv(powers), torch.stack([value for _, value in seen]))
        length = (1 + eta) * h
        weights = [-math.expm1(-length)]
        for k in range(1, len(seen)):  # integral of l e^(-l (1 - u)) u^k over the step
            weights.append(1 - k * weights[-1] / length)
        if len(seen) == 3:
            weights[2] /= 2  # as published: the solver's papers and code take the bend for the second derivative
        new = math.exp(-length) * x
        for weight, term in zip(weights, terms, strict=True):
            new = new + weight * term
        if eta:
            new = new + target * math.sqrt(1 - math.exp(-2 * eta * h)) * next(noises)
        x = new
        results.append(x)
    return results


def dpm_fast(denoise: Denoiser, x: Tensor, sigmas: Tensor, noises: Iterator[Tensor], eta: float) -> list[Tensor]:
    """Lu et al. 2022a, section 3.4, from the highest to the lowest level, with ancestral noise; then x0."""
    world, count = Preserving(denoise), len(sigmas) - 1
    start, end = -math.log(float(sigmas[0])), -math.log(float(sigmas[-2]))
    plan = [3] * (count // 3 - 1) + [2, 1] if count % 3 == 0 else [3] * (count // 3) + [count % 3]
    results = []
    for i, order in enumerate(plan):
        s, t = (start + (end - start) * k / len(plan) for k in (i, i + 1))
        down = min(end, -math.log(down_and_up(math.exp(-s), math.exp(-t), eta)[0]))
        z = world.alpha(s) * x
        if order == 1:
            z = world.solver_1(z, s, down, world.noise(z, s))
        else:
            z = world.solver_2(z, s, down) if order == 2 else world.solver_3(z, s, down)
        x = z / world.alpha(down)
        if eta and down > t:
            x = x + math.sqrt(math.exp(-2 * t) - math.exp(-2 * down)) * next(noises)
        results.append(x)
    return [*results, denoise(x, sigmas[-2].double())]


def dpm_adaptive(denoise: Denoiser, x: Tensor, sigmas: Tensor, noises: Iterator[Tensor], eta: float) -> list[Tensor]:
    """k-diffusion's adaptive solver of orders 2 and 3: accepted steps, then x0."""
    world, results = Preserving(denoise), []
    s, end = -math.log(float(sigmas[0])), -math.log(float(sigmas[-2]))
    h, previous = 0.05, x
    while s < end - 1e-5:
        t = min(end, s + h)
        down = min(end, -math.log(down_and_up(math.exp(-s), math.exp(-t), eta)[0])) if eta else t
        low = world.solver_2(world.alpha(s) * x, s, down, 1 / 3) / world.alpha(down)
        high = world.solver_3(world.alpha(s) * x, s, down) / world.alpha(down)
        allowed = torch.maximum(torch.tensor(0.0078), 0.05 * torch.maximum(low.abs(), previous.abs()))
        error = float(torch.linalg.norm((low - high) / allowed)) / math.sqrt(x.numel())
        factor = 1 + math.atan((1 / (error + 1e-8)) ** (1 / (1.5 if eta else 3)) - 1)
        h *= factor
        if factor >= 0.81:
            previous, x = low, high
            if eta and down > t:
                x = x + math.sqrt(math.exp(-2 * t) - math.exp(-2 * down)) * next(noises)
            s = t
            results.append(x)
    return [*results, denoise(x, torch.tensor(math.exp(-s), dtype=torch.float64))]


def heun_between(denoise: Denoiser, x: Tensor, levels: Sequence[float]) -> Iterator[Tensor]:
    """Heun's method along a list of levels; x0 at 0."""
    for sigma, target in pairwise(levels):
        slope = (x - denoise(x, torch.tensor(sigma, dtype=torch.float64))) / sigma
        guess = x + (target - sigma) * slope
        if target > 0:
            again = (guess - denoise(guess, torch.tensor(target, dtype=torch.float64))) / target
            guess = x + (target - sigma) * 0.5 * (slope + again)
        x = guess
        yield x


def restart(denoise: Denoiser, x: Tensor, sigmas: Tensor, noises: Iterator[Tensor], eta: float) -> list[Tensor]:
    """Xu et al. 2023, algorithm 1 Heun's steps, the web UI's settings for 20 to 35 steps: one way back of 9."""
    highest, lowest, count = float(sigmas[0]), float(sigmas[-2]), len(sigmas) - 1
    assert 20 <= count < 36

    def spread(top: float, bottom: float, number: int) -> list[float]:
        roots = torch.linspace(top ** (1 / 7), bottom ** (1 / 7), number, dtype=torch.float64)
        return (roots**7).tolist()

    main = spread(highest, lowest, count - 9)
    low = min(range(len(main)), key=lambda i: abs(main[i] - 0.1))
    high = min(range(len(main)), key=lambda i: abs(main[i] - 2))
    results = list(heun_between(denoise, x, main[: low + 1]))
    back = results[-1] + math.sqrt(main[high] ** 2 - main[low] ** 2) * next(noises)
    results += heun_between(denoise, back, spread(main[high], main[low], 10))
    return [*results, *heun_between(denoise, results[-1], [*main[low:], 0.0])]


def ddim_cfgpp(
    pair: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]], x: Tensor, sigmas: Tensor, scale: float
) -> list[Tensor]:
    """Chung et al. 2024, algorithm 2, in z = alpha x0 + sigma noise; lambda is scale / 12.5."""
    results = []
    for sigma, target in pairwise(sigmas.double().tolist()):
        alpha, next_alpha = 1 / math.sqrt(1 + sigma**2), 1 / math.sqrt(1 + target**2)
        z = alpha * x
        wanted, unwanted = (
            (z - alpha * picture) / (alpha * sigma) for picture in pair(x, torch.tensor(sigma, dtype=torch.float64))
        )
        guided = unwanted + scale / 12.5 * (wanted - unwanted)
        picture = (z - alpha * sigma * guided) / alpha
        x = (next_alpha * picture + next_alpha * target * unwanted) / next_alpha
        results.append(x)
    return results
