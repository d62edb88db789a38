"""Training levels, pairs and weights beside the published distributions and formulas."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from diffusers import DDPMScheduler
from diffusers.training_utils import compute_snr
from torch import Generator, Tensor

from rein.diffusion.levels import logit_normal_sigmas, min_snr_weight, training_pair, uniform_sigmas
from rein.diffusion.prediction import PREDICTIONS, NetworkDenoiser
from rein.diffusion.schedule import FlowSchedule, scaled_linear, shifted_time, sigma_to_time, time_to_sigma
from tests.diffusion.toy import network, unit_noise, worst

COUNT = 20_000


def generator(seed: int = 0) -> Generator:
    return Generator().manual_seed(seed)


def test_uniform_levels_are_all_trained_levels_equally_often() -> None:
    schedule = scaled_linear()
    sigmas = uniform_sigmas(schedule, COUNT, generator())
    timesteps = schedule.timestep(sigmas)
    assert torch.equal(timesteps, timesteps.round())
    counts = torch.bincount(timesteps.long(), minlength=1000)
    assert counts.shape == (1000,)
    # Chi-squared with 999 degrees of freedom: mean 999, deviation 45.
    assert float(((counts - COUNT / 1000) ** 2 / (COUNT / 1000)).sum()) == pytest.approx(999, abs=200)


def test_stratified_levels_are_one_from_each_part() -> None:
    schedule = scaled_linear()
    drawn = schedule.timestep(uniform_sigmas(schedule, 50, generator(), stratified=True))
    assert (drawn // 20).tolist() == list(range(50))
    assert len(set((drawn % 20).tolist())) > 5
    times = sigma_to_time(logit_normal_sigmas(FlowSchedule(), 64, generator(), stratified=True))
    uniform = torch.special.ndtr(torch.logit(times.double()))
    assert torch.floor(uniform * 64).tolist() == list(range(64))


@pytest.mark.parametrize(("mean", "deviation", "shift"), [(0.0, 1.0, 1.0), (-0.5, 0.8, 1.0), (0.0, 1.0, 3.0)])
def test_flow_times_are_logit_normal_then_shifted(mean: float, deviation: float, shift: float) -> None:
    sigmas = logit_normal_sigmas(FlowSchedule(shift), COUNT, generator(1), mean, deviation)
    assert sigmas.shape == (COUNT,)
    assert sigmas.dtype == torch.float32
    times = sigma_to_time(sigmas).double()
    assert float(times.min()) > 0
    assert float(times.max()) < 1
    # Without the shift, t / (1 - t) = e^(mean + deviation z); the shift multiplies it.
    logits = torch.logit(times) - torch.tensor(shift, dtype=torch.float64).log()
    for part in (0.02, 0.16, 0.5, 0.84, 0.98):
        expected = mean + deviation * float(torch.special.ndtri(torch.tensor(part, dtype=torch.float64)))
        assert float(torch.quantile(logits, part)) == pytest.approx(expected, abs=0.05)


def test_levels_come_from_the_generator_alone() -> None:
    draws: list[Callable[[Generator], Tensor]] = [
        lambda g: uniform_sigmas(scaled_linear(), 8, g),
        lambda g: logit_normal_sigmas(FlowSchedule(), 8, g),
    ]
    for draw in draws:
        assert torch.equal(draw(generator(5)), draw(generator(5)))
        assert not torch.equal(draw(generator(5)), draw(generator(6)))
        moving = generator(5)
        assert not torch.equal(draw(moving), draw(moving))


def test_far_ends_of_the_normal_are_finite() -> None:
    sigmas = logit_normal_sigmas(FlowSchedule(), COUNT, generator(), deviation=50.0)
    assert bool(torch.isfinite(sigmas).all())
    assert float(sigmas.min()) > 0


def test_a_flow_pair_is_the_straight_line_and_its_direction() -> None:
    pictures, noise, times = unit_noise(1), unit_noise(2), torch.tensor([0.2, 0.7])
    pair = training_pair(PREDICTIONS["flow"], pictures, noise, time_to_sigma(times))
    share = times.reshape(2, 1, 1, 1)
    assert worst(pair.network_input, (1 - share) * pictures + share * noise) < 1e-6
    assert torch.equal(pair.target, noise - pictures)


@pytest.mark.parametrize("name", PREDICTIONS)
def test_a_network_without_error_denoises_perfectly(name: str) -> None:
    """Training and sampling speak of the same coordinates: the target put out at the input gives the picture back."""
    schedule = FlowSchedule() if name == "flow" else scaled_linear()
    pictures, noise, sigma = unit_noise(1), unit_noise(2), schedule.sigma(torch.tensor(400.0))
    pair = training_pair(PREDICTIONS[name], pictures, noise, sigma)

    def perfect(x: Tensor, timestep: Tensor) -> Tensor:
        assert torch.equal(x, pair.network_input)
        assert timestep.tolist() == pytest.approx([400.0, 400.0])
        return pair.target

    denoise = NetworkDenoiser(perfect, schedule, PREDICTIONS[name])
    assert worst(denoise(pictures + sigma * noise, sigma), pictures) < 1e-6


def test_min_snr_weights_equal_the_published_ones() -> None:
    timesteps = torch.tensor([0, 30, 200, 500, 999])
    snr = compute_snr(DDPMScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012), timesteps)
    sigma = scaled_linear().sigmas[timesteps]
    capped = snr.clamp(max=5.0)
    for name, expected in {"epsilon": capped / snr, "v": capped / (snr + 1), "x0": capped}.items():
        assert torch.allclose(min_snr_weight(PREDICTIONS[name], sigma), expected, rtol=1e-4)
    assert not torch.allclose(min_snr_weight(PREDICTIONS["x0"], sigma, limit=1.0), capped)


@pytest.mark.parametrize("name", PREDICTIONS)
def test_min_snr_weighs_the_error_of_x0_alike_whatever_is_predicted(name: str) -> None:
    prediction, sigma = PREDICTIONS[name], torch.tensor([0.2, 3.0])
    x, output = unit_noise(1), network(unit_noise(2), torch.tensor(9.0))
    error = prediction.x0(output + 0.01, x, sigma) - prediction.x0(output, x, sigma)
    expected = error[:, 0, 0, 0].double() ** 2 * torch.tensor([5.0, 1 / 9], dtype=torch.float64)
    assert (min_snr_weight(prediction, sigma) * 0.01**2).tolist() == pytest.approx(expected.tolist(), rel=1e-3)


def test_shift_trains_more_at_high_noise() -> None:
    plain, moved = (sigma_to_time(logit_normal_sigmas(FlowSchedule(s), 100, generator())) for s in (1.0, 3.0))
    assert torch.allclose(moved, shifted_time(plain, 3.0), atol=1e-6)
    assert bool((moved > plain).all())
