"""What must hold of samplers whatever the peers do: orders of convergence, right distributions, no memory, no batch.

The first half plays in the world of `gaussian`, where every answer is known.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from rein.diffusion.guidance import guided
from rein.diffusion.noise import NoiseSource, PictureNoise
from rein.diffusion.prediction import PREDICTIONS, Denoiser, NetworkDenoiser
from rein.diffusion.samplers import SAMPLERS, SamplerOptions, Step
from rein.diffusion.schedule import FlowSchedule, scaled_linear
from rein.diffusion.spacing import SpacingOptions, spaced_sigmas
from rein.errors import InputError, NonFiniteError
from tests.diffusion.gaussian import COURSES, DEVIATION, MEAN, best, error, exact, ladder, measured_order
from tests.diffusion.toy import listed, network, no_noise, unit_noise, worst

STOCHASTIC = [
    *(("ddim", 0.6), ("ddpm", None), ("euler_ancestral", None), ("dpmpp_2m_sde", None), ("dpmpp_2m_sde", 0.5)),
    *(("dpmpp_2m_sde_heun", None), ("dpmpp_3m_sde", None), ("dpm_2_ancestral", None), ("dpmpp_2s_ancestral", None)),
    *(("dpmpp_sde", None), ("dpmpp_sde", 0.5)),
]


@pytest.mark.parametrize("name", COURSES)
def test_samplers_converge_at_their_order(name: str) -> None:
    assert measured_order(name) == pytest.approx(COURSES[name].order, abs=0.2)


def test_every_sampler_without_noise_has_its_order_measured() -> None:
    random = {"ddpm", "lcm", "tcd", "restart"}
    assert COURSES.keys() | random | {"dpm_adaptive", "ddim_cfgpp"} == SAMPLERS.keys()
    # DEIS, LMS and UniPC end or begin with lower orders; what counts there is the order between.
    assert all(COURSES[name].order in (SAMPLERS[name].order, SAMPLERS[name].order + 1) for name in COURSES)


@pytest.mark.parametrize("name", ["heun", "dpm_2", "lms", "deis"])
def test_orders_hold_in_time_too(name: str) -> None:
    course = replace(COURSES[name], coordinates="time", first=1000.0)
    found = math.log2(error(name, 128, course) / error(name, 256, course))
    assert found == pytest.approx(course.order, abs=0.2)


def test_dpm_adaptive_follows_its_tolerance() -> None:
    sigmas, start = torch.cat([ladder(80.0, 0.05, 2), torch.zeros(1)]), unit_noise(0)[:1].double() * 80
    errors: list[float] = []
    counts: list[int] = []
    for tolerance in (0.1, 0.01, 0.001):
        options = SamplerOptions(tolerance=tolerance)
        steps = list(SAMPLERS["dpm_adaptive"].function(best, start, sigmas, no_noise, options))
        errors.append(float((steps[-2].x - exact(start, 80.0, 0.05)).abs().max()))
        counts.append(len(steps))
    assert counts[0] < counts[1] < counts[2]
    assert errors[2] < errors[1] / 4 < errors[0] / 16
    assert errors[2] < 0.01


def test_restart_forgets_a_part_of_its_error() -> None:
    """A start that is off ends nearer to the truth than Heun's method takes it: fresh noise replaces part of it."""
    sigmas = torch.cat([ladder(10.0, 0.02, 35), torch.zeros(1)])
    start = unit_noise(0, 2, 4, 32, 32).double() * 14  # not 10: the deviation is wrong
    spread = {}
    for name in ("heun", "restart"):
        *_, last = SAMPLERS[name].function(best, start, sigmas, PictureNoise([1, 2]))
        spread[name] = abs(float(last.x.std()) - DEVIATION)
    assert spread["restart"] < 0.7 * spread["heun"]


def test_heun_from_pure_noise_needs_time() -> None:
    """From sigma 2**20 slopes with respect to sigma say nothing about the next level; a flow's velocities do."""
    sigmas = spaced_sigmas("trailing", 20, FlowSchedule()).double()
    start = unit_noise(0).double() * sigmas[0]
    truth = exact(start, float(sigmas[0]), 0.0)
    found = {}
    for coordinates in ("sigma", "time"):
        *_, last = SAMPLERS["heun"].function(best, start, sigmas, no_noise, SamplerOptions(coordinates=coordinates))
        found[coordinates] = float((last.x - truth).abs().max())
    assert found["time"] < 0.01
    assert found["sigma"] > 1.0


def moments(name: str, eta: float | None, steps: int) -> tuple[float, float]:
    """Mean and deviation, exactly, of what a stochastic sampler makes in the toy world.

    Everything is linear there, so the result is a constant plus weights times independent unit normals: the start and
    the noise of each step. The batch holds one run without any of them and one run with each of them alone set to 1.
    """
    sigmas = ladder(10.0, 0.05, steps)
    marginal = math.sqrt(DEVIATION**2 + float(sigmas[0]) ** 2)
    draws = steps * (2 if name == "dpmpp_sde" else 1)
    impulses = torch.eye(draws + 2, dtype=torch.float64)[:, :, None, None, None]
    start = MEAN + marginal * impulses[:, 1]
    noise = listed(impulses[:, index + 2] for index in range(draws))
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
    for name in ("ddim", "euler_ancestral", "dpmpp_2m_sde", "dpm_2_ancestral", "dpmpp_2s_ancestral", "dpmpp_3m_sde"):
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


TOGETHER = [name for name, info in SAMPLERS.items() if not info.one_at_a_time]


def stepped(
    name: str,
    start: Tensor,
    sigmas: Tensor,
    noise: NoiseSource,
    options: SamplerOptions | None = None,
    denoise: Denoiser = best,
) -> Iterator[Step]:
    """A sampler in the toy world, with what some need: one picture, a schedule, a negative prompt that agrees."""
    options = options or SamplerOptions(schedule=scaled_linear())
    if SAMPLERS[name].one_at_a_time:
        start = start[:1]
    if SAMPLERS[name].needs_negative:
        denoise = guided(lambda x, sigma: (best(x, sigma), best(x, sigma)), best, 2.0)
    return SAMPLERS[name].function(denoise, start, sigmas, noise, options)


def picture(seeds: list[int], name: str, scheduled: str = "epsilon") -> Tensor:
    """Pictures made from seeds alone: start, guidance with rescale, sampler, noise."""
    schedule = FlowSchedule() if scheduled == "flow" else scaled_linear()
    count = 21 if name == "restart" else 8
    sigmas = spaced_sigmas("karras" if scheduled != "flow" else "trailing", count, schedule)
    prediction = PREDICTIONS[scheduled]
    denoise = NetworkDenoiser(network, schedule, prediction)
    other = NetworkDenoiser(lambda x, t: network(x.roll(1, dims=-1), t), schedule, prediction)
    model = guided(lambda x, s: (denoise(x, s), other(x, s)), denoise, 5.0, rescale=0.7, interval=(0.1, 10.0))
    noise = PictureNoise(seeds)
    start = prediction.start(noise.draw((4, 16, 16)), sigmas[0])
    options = SamplerOptions(coordinates=schedule.coordinates, schedule=schedule)
    *_, last = SAMPLERS[name].function(model, start, sigmas, noise, options)
    return last.x


@pytest.mark.parametrize("scheduled", ["epsilon", "v", "flow"])
@pytest.mark.parametrize("name", TOGETHER)
def test_a_batch_of_four_is_four_singles_bit_for_bit(name: str, scheduled: str) -> None:
    seeds = [0, 7, 2**63 - 1, 3]
    together = picture(seeds, name, scheduled)
    assert bool(torch.isfinite(together).all())
    assert torch.equal(together, torch.cat([picture([seed], name, scheduled) for seed in seeds]))
    assert torch.equal(together.flip(0), picture(seeds[::-1], name, scheduled))


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_run_leaves_nothing_behind(name: str) -> None:
    seeds = [11] if SAMPLERS[name].one_at_a_time else [11, 12]
    first = picture(seeds, name)
    abandoned = stepped(name, unit_noise(1), ladder(9.0, 0.1, 5).float(), PictureNoise([1, 2][: len(seeds)]))
    next(abandoned)
    torch.rand(3)
    assert torch.equal(picture(seeds, name), first)


@pytest.mark.parametrize("name", SAMPLERS)
def test_the_start_is_not_changed(name: str) -> None:
    start = unit_noise(4) * 9
    kept = start.clone()
    seeds = [1] if SAMPLERS[name].one_at_a_time else [1, 2]
    list(stepped(name, start, ladder(9.0, 0.1, 5).float(), PictureNoise(seeds)))
    assert torch.equal(start, kept)


ONE_A_STEP = [name for name, info in SAMPLERS.items() if info.stochastic and name not in ("dpmpp_sde", "restart")]


def draws_of(name: str, steps: int) -> int:
    """How often a sampler asks for noise."""
    asked: list[int] = []

    def count(like: Tensor) -> Tensor:
        assert like.shape == (2, 4, 8, 8)
        asked.append(1)
        return torch.zeros_like(like)

    list(stepped(name, unit_noise(4), spaced_sigmas("lcm", steps, scaled_linear()), count))
    return len(asked)


@pytest.mark.parametrize("name", ONE_A_STEP)
def test_noise_is_asked_once_a_step_but_for_the_last(name: str) -> None:
    assert draws_of(name, 9) == 8


def test_noise_of_half_steps_and_of_ways_back() -> None:
    assert draws_of("dpmpp_sde", 9) == 16
    assert (draws_of("restart", 9), draws_of("restart", 20), draws_of("restart", 40)) == (0, 1, 2)


def test_churn_draws_noise_within_its_levels_only() -> None:
    sigmas = spaced_sigmas("karras", 12, scaled_linear())
    asked: list[int] = []

    def count(like: Tensor) -> Tensor:
        asked.append(1)
        return torch.zeros_like(like)

    for name in ("euler", "heun", "dpm_2"):
        asked.clear()
        options = SamplerOptions(s_churn=10, s_tmin=0.1, s_tmax=5.0)
        list(SAMPLERS[name].function(best, unit_noise(4) * 14, sigmas, count, options))
        assert len(asked) == sum(0.1 <= sigma <= 5.0 for sigma in sigmas.tolist())


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_flow_from_pure_noise_comes_near_the_truth(name: str) -> None:
    """Every sampler stays bounded from sigma 2**20, and ends at a picture of the toy world."""
    schedule = FlowSchedule()
    # The lowest level but 0 of linspace is far from its neighbours: 3M would carry x0 on over five steps there.
    spacing = SpacingOptions(discard_penultimate=SAMPLERS[name].discards_penultimate)
    sigmas = spaced_sigmas("lcm" if name == "tcd" else "linspace", 40, schedule, spacing).double()
    seeds = [1] if SAMPLERS[name].one_at_a_time else [1, 2]
    start = PictureNoise(seeds).draw((4, 32, 32)).double() * float(sigmas[0])
    options = SamplerOptions(coordinates="time", schedule=schedule)
    *_, last = stepped(name, start, sigmas, PictureNoise([seed + 7 for seed in seeds]), options)
    assert last.last
    wrong = 0.5 if name in ("lcm", "tcd", "dpm_fast") else 0.12  # one jump says the mean alone; stages span decades
    assert float(last.x.mean()) == pytest.approx(MEAN, abs=0.1)
    assert float(last.x.std()) == pytest.approx(DEVIATION, abs=wrong)


def test_dpm_adaptive_takes_one_picture_at_a_time() -> None:
    with pytest.raises(InputError, match="DPM adaptive got 2 pictures: it takes one at a time"):
        next(SAMPLERS["dpm_adaptive"].function(best, unit_noise(0), ladder(9.0, 0.1, 5), no_noise))


def test_cfgpp_without_guidance_and_tcd_without_schedule_say_so() -> None:
    sigmas = spaced_sigmas("leading", 4, scaled_linear())
    with pytest.raises(InputError, match=r"DDIM CFG\+\+ compares two prompts: set a guidance scale other than 1"):
        next(SAMPLERS["ddim_cfgpp"].function(best, unit_noise(0), sigmas, no_noise))
    with pytest.raises(InputError, match="TCD counts in timesteps"):
        next(SAMPLERS["tcd"].function(best, unit_noise(0), sigmas, no_noise))


def test_a_denoiser_that_breaks_is_named_by_dpm_adaptive() -> None:
    sigmas = spaced_sigmas("leading", 4, scaled_linear())
    with pytest.raises(NonFiniteError, match="NaN or infinity"):
        list(stepped("dpm_adaptive", unit_noise(0)[:1], sigmas, no_noise, denoise=lambda x, s: x * math.nan))
