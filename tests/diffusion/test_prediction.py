"""Predictions beside the textbook forms that diffusers computes, for one level and for one level a picture."""

from __future__ import annotations

import pytest
import torch
from diffusers import DDPMScheduler, FlowMatchEulerDiscreteScheduler
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from rein.diffusion.prediction import PREDICTIONS, NetworkDenoiser, find_prediction, per_picture
from rein.diffusion.schedule import FlowSchedule, scaled_linear, time_to_sigma
from rein.errors import InputError
from tests.diffusion.toy import SHAPE, network, unit_noise, worst

TIMESTEPS = torch.tensor([7, 640])
PICTURES, NOISE = unit_noise(1), unit_noise(2)


def peer() -> DDPMScheduler:
    return DDPMScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012)


@pytest.mark.parametrize("name", ["epsilon", "v", "x0"])
def test_network_input_and_target_are_those_of_diffusers(name: str) -> None:
    sigma = scaled_linear().sigmas[TIMESTEPS]
    prediction = find_prediction(name)
    target = {"epsilon": NOISE, "v": peer().get_velocity(PICTURES, NOISE, TIMESTEPS), "x0": PICTURES}[name]
    x = PICTURES + per_picture(sigma, PICTURES) * NOISE
    assert worst(prediction.network_input(x, sigma), peer().add_noise(PICTURES, NOISE, TIMESTEPS)) < 2e-6
    assert worst(prediction.target(PICTURES, NOISE, sigma), target) < 2e-6


def test_flow_input_and_target_are_the_straight_line() -> None:
    times = torch.tensor([0.25, 0.9])
    sigma, prediction = time_to_sigma(times), find_prediction("flow")
    scheduler = FlowMatchEulerDiscreteScheduler()
    scheduler.sigmas = scheduler.timesteps / 1000
    theirs = torch.cat(
        [
            scheduler.scale_noise(PICTURES[i : i + 1], scheduler.timesteps[[round(1000 - 1000 * t)]], NOISE[i : i + 1])
            for i, t in enumerate(times.tolist())
        ]
    )
    assert worst(prediction.network_input(PICTURES + per_picture(sigma, PICTURES) * NOISE, sigma), theirs) < 1e-6
    assert torch.equal(prediction.target(PICTURES, NOISE, sigma), NOISE - PICTURES)


@pytest.mark.parametrize("name", PREDICTIONS)
@given(level=st.floats(0.03, 200.0))
def test_the_target_says_the_picture(name: str, level: float) -> None:
    sigma, prediction = torch.tensor(level), PREDICTIONS[name]
    x = PICTURES + sigma * NOISE
    target = prediction.target(PICTURES, NOISE, sigma)
    # x holds the picture to float32's precision of sigma.
    assert worst(prediction.x0(target, x, sigma), PICTURES) < 1e-6 * (1 + level)
    assert worst(prediction.output(PICTURES, x, sigma), target) < 1e-6 * (1 + 1 / level)


@pytest.mark.parametrize("name", PREDICTIONS)
def test_a_level_for_each_picture_is_that_level_alone(name: str) -> None:
    prediction, sigmas = PREDICTIONS[name], torch.tensor([0.1, 9.0])

    def everything(picture: Tensor, noise: Tensor, sigma: Tensor) -> list[Tensor]:
        output = network(picture, torch.tensor(3.0))
        return [
            prediction.network_input(picture, sigma),
            prediction.x0(output, picture, sigma),
            prediction.target(picture, noise, sigma),
            prediction.output(output, picture, sigma),
            prediction.start(noise, sigma),
        ]

    together = everything(PICTURES, NOISE, sigmas)
    for index, sigma in enumerate(sigmas):
        one = slice(index, index + 1)
        alone = everything(PICTURES[one], NOISE[one], sigma)
        assert all(torch.equal(a[one], b) for a, b in zip(together, alone, strict=True))


@pytest.mark.parametrize("name", PREDICTIONS)
def test_a_start_is_seen_as_the_noise_itself(name: str) -> None:
    sigma, prediction = torch.tensor(14.6), PREDICTIONS[name]
    assert worst(prediction.network_input(prediction.start(NOISE, sigma), sigma), NOISE) < 1e-6


def test_the_network_gets_one_timestep_a_picture_and_answers_in_any_float() -> None:
    seen: list[tuple[Tensor, Tensor]] = []

    def half(x: Tensor, timestep: Tensor) -> Tensor:
        seen.append((x, timestep))
        return network(x, timestep).to(torch.bfloat16)

    schedule = scaled_linear()
    denoise = NetworkDenoiser(half, schedule, PREDICTIONS["epsilon"])
    x0 = denoise(PICTURES, schedule.sigmas[500])
    x, timestep = seen[0]
    assert timestep.tolist() == [500.0, 500.0]
    assert x.dtype == x0.dtype == torch.float32
    assert x0.shape == SHAPE
    several = NetworkDenoiser(network, schedule, PREDICTIONS["epsilon"])(PICTURES, schedule.sigmas[[500, 3]])
    alone = NetworkDenoiser(network, schedule, PREDICTIONS["epsilon"])(PICTURES[1:], schedule.sigmas[3])
    assert torch.equal(several[1:], alone)


def test_flow_networks_hear_a_thousand_times_t() -> None:
    heard: list[Tensor] = []

    def listen(x: Tensor, timestep: Tensor) -> Tensor:
        heard.append(timestep)
        return x

    NetworkDenoiser(listen, FlowSchedule(shift=3.0), PREDICTIONS["flow"])(PICTURES, torch.tensor(3.0))
    assert heard[0].tolist() == [750.0, 750.0]


def test_an_unknown_prediction_is_named() -> None:
    with pytest.raises(InputError, match="unknown prediction 'epsilom': did you mean 'epsilon'"):
        find_prediction("epsilom")
