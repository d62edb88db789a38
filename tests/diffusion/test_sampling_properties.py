"""What must hold of samplers whatever the peers do: orders of convergence, right distributions, no memory, no batch.

The toy world of the first half is x0 ~ N(MEAN, DEVIATION²), number by number. There the best denoiser, the exact
solution of the sampling equation and the distribution at every noise level are known in closed form.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from rein.diffusion.guidance import guided
from rein.diffusion.noise import PictureNoise
from rein.diffusion.prediction import PREDICTIONS, Denoiser, NetworkDenoiser
from rein.diffusion.samplers import SAMPLERS, SamplerOptions
from rein.diffusion.schedule import Coordinates, FlowSchedule, scaled_linear
from rein.diffusion.spacing import spaced_sigmas
from tests.diffusion.toy import listed, network, no_noise, unit_noise, worst

MEAN, DEVIATION = 0.7, 0.5
STOCHASTIC = [("ddim", 0.6), ("ddpm", None), ("euler_ancestral", None), ("dpmpp_2m_sde", None), ("dpmpp_2m_sde", 0.5)]


def best(x: Tensor, sigma: Tensor) -> Tensor:
    """E[x0 | x] of the toy world."""
    return (DEVIATION**2 * x + sigma**2 * MEAN) / (DEVIATION**2 + sigma**2)


def ladder(first: float, last: float, steps: int) -> Tensor:
    """Exponentially spaced levels, float64, that do not end in 0, so that no step is special."""
    return torch.linspace(math.log(first), math.log(last), steps + 1, dtype=torch.float64).exp()


def order(name: str, first: float, coordinates: Coordinates) -> float:
    """The measured order: log2 of how the error falls when the number of steps doubles."""
    start = torch.tensor([[[[3.0, -2.0]]]], dtype=torch.float64) * math.sqrt(DEVIATION**2 + first**2)
    options = SamplerOptions(coordinates=coordinates)
    errors = []
    for steps in (128, 256):
        sigmas = ladder(first, 0.1, steps)
        *_, last = SAMPLERS[name].function(best, start, sigmas, no_noise, options)
        exact = MEAN + (start - MEAN) * math.sqrt((DEVIATION**2 + 0.1**2) / (DEVIATION**2 + first**2))
        errors.append(float((last.x - exact).abs().max()))
    return math.log2(errors[0] / errors[1])


@pytest.mark.parametrize(("name", "expected"), [("euler", 1.0), ("ddim", 1.0), ("heun", 2.0), ("dpmpp_2m", 2.0)])
def test_deterministic_samplers_converge_at_their_order(name: str, expected: float) -> None:
    assert order(name, 10.0, "sigma") == pytest.approx(expected, abs=0.15)


def test_heun_is_second_order_in_time_too() -> None:
    assert order("heun", 10.0, "time") == pytest.approx(2.0, abs=0.15)


def test_heun_from_pure_noise_needs_time() -> None:
    """From sigma 2**20 slopes with respect to sigma say nothing about the next level; a flow's velocities do."""
    sigmas = spaced_sigmas("trailing", 20, FlowSchedule()).double()
    start = unit_noise(0).double() * sigmas[0]
    exact = MEAN + (start - MEAN) * DEVIATION / torch.sqrt(DEVIATION**2 + sigmas[0] ** 2)
    found = {}
    for coordinates in ("sigma", "time"):
        *_, last = SAMPLERS["heun"].function(best, start, sigmas, no_noise, SamplerOptions(coordinates=coordinates))
        found[coordinates] = float((last.x - exact).abs().max())
    assert found["time"] < 0.01
    assert found["sigma"] > 1.0


def moments(name: str, eta: float | None, steps: int) -> tuple[float, float]:
    """Mean and deviation, exactly, of what a stochastic sampler makes in the toy world.

    Everything is linear there, so the result is a constant plus weights times independent unit normals: the start and
    the noise of each step. The batch holds one run without any of them and one run with each of them alone set to 1.
    """
    sigmas = ladder(10.0, 0.05, steps)
    marginal = math.sqrt(DEVIATION**2 + float(sigmas[0]) ** 2)
    impulses = torch.eye(steps + 2, dtype=torch.float64)[:, :, None, None, None]
    start = MEAN + marginal * impulses[:, 1]
    noise = listed(impulses[:, index + 2] for index in range(steps))
    *_, last = SAMPLERS[name].function(best, start, sigmas, noise, SamplerOptions(eta=eta))
    constant, *runs = last.x.flatten().tolist()
    return constant, math.sqrt(sum((run - constant) ** 2 for run in runs))


@pytest.mark.parametrize(("name", "eta"), STOCHASTIC)
def test_stochastic_samplers_reach_the_right_distribution(name: str, eta: float | None) -> None:
    target = math.sqrt(DEVIATION**2 + 0.05**2)
    (mean, deviation), (finer_mean, finer_deviation) = moments(name, eta, 100), moments(name, eta, 200)
    assert finer_mean == pytest.approx(MEAN, abs=1e-9)
    assert mean == pytest.approx(MEAN, abs=1e-9)
    assert finer_deviation == pytest.approx(target, rel=0.02)
    # At least first order: half the step, half the error.
    assert abs(finer_deviation - target) < 0.55 * abs(deviation - target)


@given(eta=st.floats(0, 1), high=st.floats(0.5, 20), fall=st.floats(0.05, 0.99))
def test_a_step_keeps_the_noise_level_it_claims(eta: float, high: float, fall: float) -> None:
    """Where the picture is known, x0 + sigma * n becomes x0 + sigma' * n' with n' of unit variance, for every eta."""
    sigmas = torch.tensor([high, high * fall], dtype=torch.float64)
    picture = torch.full((2, 1, 1, 1), 0.3, dtype=torch.float64)
    start = picture + sigmas[0] * torch.tensor([1.0, 0.0], dtype=torch.float64).reshape(2, 1, 1, 1)
    fresh = torch.tensor([0.0, 1.0], dtype=torch.float64).reshape(2, 1, 1, 1)
    for name in ("ddim", "euler_ancestral", "dpmpp_2m_sde"):
        (step,) = SAMPLERS[name].function(
            lambda x, sigma: picture, start, sigmas, lambda like: fresh, SamplerOptions(eta=eta)
        )
        old, new = (step.x - picture).flatten().tolist()
        assert math.hypot(old, new) == pytest.approx(float(sigmas[1]), rel=1e-9)
        assert abs(new) < 1e-14 if eta == 0 else new > 0 or eta < 1e-6  # subtracting the picture rounds in float64


def k_diffusion_ancestral(denoise: Denoiser, x: Tensor, sigmas: Tensor, eta: float, noises: list[Tensor]) -> Tensor:
    """The published ancestral Euler step: variance up, the rest down, a slope between (float64)."""
    for i in range(len(sigmas) - 1):
        now, then = sigmas[i].double(), sigmas[i + 1].double()
        up = torch.minimum(then, eta * (then**2 * (now**2 - then**2) / now**2).sqrt())
        down = (then**2 - up**2).sqrt()
        slope = (x - denoise(x, sigmas[i])) / now
        x = x + slope * (down - now) + noises[i].double() * up
    return x


def k_diffusion_2m_sde(denoise: Denoiser, x: Tensor, sigmas: Tensor, eta: float, noises: list[Tensor]) -> Tensor:
    """The published DPM++ 2M SDE with its midpoint solver, in t = -log(sigma) (float64)."""
    old, h_last = None, None
    for i in range(len(sigmas) - 1):
        denoised = denoise(x, sigmas[i])
        if sigmas[i + 1] == 0:
            return denoised
        t, s = -sigmas[i].double().log(), -sigmas[i + 1].double().log()
        h = s - t
        eta_h = eta * h
        x = sigmas[i + 1].double() / sigmas[i].double() * (-eta_h).exp() * x + (-h - eta_h).expm1().neg() * denoised
        if old is not None and h_last is not None:
            r = h_last / h
            x = x + 0.5 * (-h - eta_h).expm1().neg() * (1 / r) * (denoised - old)
        x = x + noises[i].double() * sigmas[i + 1].double() * (-2 * eta_h).expm1().neg().sqrt()
        old, h_last = denoised, h
    return x


@pytest.mark.parametrize("eta", [0.3, 1.0])
@pytest.mark.parametrize(
    ("name", "published"), [("euler_ancestral", k_diffusion_ancestral), ("dpmpp_2m_sde", k_diffusion_2m_sde)]
)
def test_eta_is_that_of_k_diffusion(name: str, published: Callable[..., Tensor], eta: float) -> None:
    sigmas = spaced_sigmas("karras", 15, scaled_linear())
    noises = [unit_noise(50 + index) for index in range(15)]
    start = unit_noise(0).double() * sigmas[0]
    denoise = NetworkDenoiser(network, scaled_linear(), PREDICTIONS["epsilon"])
    *_, ours = SAMPLERS[name].function(denoise, start, sigmas, listed(noises), SamplerOptions(eta=eta))
    assert worst(ours.x, published(denoise, start, sigmas, eta, noises)) < 1e-10


def picture(seeds: list[int], name: str, scheduled: str = "epsilon") -> Tensor:
    """Pictures made from seeds alone: start, guidance with rescale, sampler, noise."""
    schedule = FlowSchedule() if scheduled == "flow" else scaled_linear()
    sigmas = spaced_sigmas("karras" if scheduled != "flow" else "trailing", 8, schedule)
    prediction = PREDICTIONS[scheduled]
    denoise = NetworkDenoiser(network, schedule, prediction)
    other = NetworkDenoiser(lambda x, t: network(x.roll(1, dims=-1), t), schedule, prediction)
    model = guided(lambda x, s: (denoise(x, s), other(x, s)), denoise, 5.0, rescale=0.7, interval=(0.1, 10.0))
    noise = PictureNoise(seeds)
    start = prediction.start(noise.draw((4, 16, 16)), sigmas[0])
    *_, last = SAMPLERS[name].function(model, start, sigmas, noise, SamplerOptions(coordinates=schedule.coordinates))
    return last.x


@pytest.mark.parametrize("scheduled", ["epsilon", "v", "flow"])
@pytest.mark.parametrize("name", SAMPLERS)
def test_a_batch_of_four_is_four_singles_bit_for_bit(name: str, scheduled: str) -> None:
    seeds = [0, 7, 2**63 - 1, 3]
    together = picture(seeds, name, scheduled)
    assert bool(torch.isfinite(together).all())
    assert torch.equal(together, torch.cat([picture([seed], name, scheduled) for seed in seeds]))
    assert torch.equal(together.flip(0), picture(seeds[::-1], name, scheduled))


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_run_leaves_nothing_behind(name: str) -> None:
    first = picture([11, 12], name)
    abandoned = SAMPLERS[name].function(best, unit_noise(1), ladder(9.0, 0.1, 5).float(), PictureNoise([1, 2]))
    next(abandoned)
    torch.rand(3)
    assert torch.equal(picture([11, 12], name), first)


@pytest.mark.parametrize("name", SAMPLERS)
def test_the_start_is_not_changed(name: str) -> None:
    start = unit_noise(4) * 9
    kept = start.clone()
    list(SAMPLERS[name].function(best, start, ladder(9.0, 0.1, 5).float(), PictureNoise([1, 2])))
    assert torch.equal(start, kept)


@pytest.mark.parametrize("name", [name for name, info in SAMPLERS.items() if info.stochastic])
def test_noise_is_asked_once_a_step_but_for_the_last(name: str) -> None:
    asked = []

    def count(like: Tensor) -> Tensor:
        asked.append(like.shape)
        return torch.zeros_like(like)

    sigmas = spaced_sigmas("karras", 9, scaled_linear())
    list(SAMPLERS[name].function(best, unit_noise(4), sigmas, count))
    assert asked == [(2, 4, 8, 8)] * 8
