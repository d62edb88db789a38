"""Noise schedules beside diffusers' tables and the published formulas."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from diffusers import EulerDiscreteScheduler, FlowMatchEulerDiscreteScheduler
from hypothesis import given
from hypothesis import strategies as st

from rein.diffusion.schedule import (
    SCHEDULES,
    DiscreteSchedule,
    FlowSchedule,
    cosine,
    linear,
    make_schedule,
    rescale_zero_terminal_snr,
    scaled_linear,
    shifted_time,
    sigma_to_time,
    time_to_sigma,
)
from rein.errors import InputError
from tests.diffusion.toy import worst

SD = {"beta_start": 0.00085, "beta_end": 0.012}


def peer_sigmas(**config: object) -> torch.Tensor:
    """The whole table of diffusers' Euler scheduler, ascending, made in float32."""
    sigmas: torch.Tensor = EulerDiscreteScheduler(**config).sigmas
    return sigmas[:-1].flip(0)


def agree(ours: torch.Tensor, theirs: torch.Tensor) -> bool:
    """Equal to the peer's own rounding: it takes 1 - alpha-bar in float32, which errs by 6e-8 of 1, and the products of
    1000 rounded factors err by up to 1e-5.
    """
    noise_share = ours.double() ** 2 / (1 + ours.double() ** 2)
    return bool(((ours / theirs - 1).abs() < 1e-5 + 6e-8 / noise_share).all())


@pytest.mark.parametrize(
    ("schedule", "betas", "config"),
    [
        (
            scaled_linear(),
            np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2,
            {"beta_schedule": "scaled_linear", **SD},
        ),
        (linear(), np.linspace(0.0001, 0.02, 1000), {"beta_schedule": "linear"}),
        (
            linear(500, 0.001, 0.03),
            np.linspace(0.001, 0.03, 500),
            {"num_train_timesteps": 500, "beta_start": 0.001, "beta_end": 0.03},
        ),
    ],
    ids=["scaled_linear", "linear", "linear-500"],
)
def test_sigmas_equal_the_formula_and_diffusers(
    schedule: DiscreteSchedule, betas: np.ndarray, config: dict[str, object]
) -> None:
    signal = torch.from_numpy(np.cumprod(1 - betas))
    assert float((schedule.sigmas / ((1 - signal) / signal).sqrt() - 1).abs().max()) < 1e-7
    assert agree(schedule.sigmas, peer_sigmas(**config))


def test_stable_diffusion_levels_are_the_published_ones() -> None:
    schedule = scaled_linear()
    assert (round(schedule.sigma_min, 4), round(schedule.sigma_max, 4)) == (0.0292, 14.6146)
    assert schedule.steps == 1000
    assert schedule.coordinates == "sigma"


def test_cosine_follows_its_formula() -> None:
    def signal(part: float) -> float:
        return math.cos((part + 0.008) / 1.008 * math.pi / 2) ** 2

    product, expected = 1.0, []
    for step in range(1000):
        product *= max(signal((step + 1) / 1000) / signal(step / 1000), 0.001)
        expected.append(math.sqrt((1 - product) / product))
    assert worst(cosine().sigmas, torch.tensor(expected)) < 1e-6
    assert agree(cosine().sigmas, peer_sigmas(beta_schedule="squaredcos_cap_v2"))


def test_zero_terminal_snr_equals_diffusers_and_ends_in_pure_noise() -> None:
    ours = rescale_zero_terminal_snr(scaled_linear())
    theirs = peer_sigmas(beta_schedule="scaled_linear", rescale_betas_zero_snr=True, **SD)
    # Near the end the signal is a difference of nearly equal float32 numbers in the peer.
    assert float((ours.sigmas / theirs - 1)[:-1].abs().max()) < 1e-4
    assert ours.sigma_max == float(theirs[-1])
    assert ours.sigma_max == pytest.approx(4096, rel=1e-6)
    assert ours.sigma_min == pytest.approx(scaled_linear().sigma_min, rel=1e-6)
    assert ours.coordinates == "time"


@pytest.mark.parametrize("schedule", [scaled_linear(), linear(), cosine(), rescale_zero_terminal_snr(scaled_linear())])
def test_trained_levels_have_whole_timesteps_exactly(schedule: DiscreteSchedule) -> None:
    whole = torch.arange(schedule.steps, dtype=torch.float32)
    assert torch.equal(schedule.timestep(schedule.sigmas), whole)
    assert torch.equal(schedule.sigma(whole), schedule.sigmas)
    assert torch.equal(torch.stack([schedule.timestep(sigma) for sigma in schedule.sigmas]), whole)
    assert bool((schedule.sigmas.diff() > 0).all())


@given(st.floats(0.03, 14.6))
def test_timesteps_between_levels_equal_diffusers(sigma: float) -> None:
    schedule = scaled_linear()
    peer = EulerDiscreteScheduler(beta_schedule="scaled_linear", **SD)
    theirs = peer._sigma_to_t(np.array([sigma]), np.log(schedule.sigmas.double().numpy())).item()
    ours = schedule.timestep(torch.tensor(sigma))
    assert float(ours) == pytest.approx(theirs, abs=1e-3)
    assert float(schedule.sigma(ours)) == pytest.approx(sigma, rel=1e-5)


def test_outside_the_table_the_nearest_level_is_taken() -> None:
    schedule = scaled_linear()
    assert schedule.timestep(torch.tensor([1e-6, 1e6])).tolist() == [0.0, 999.0]
    assert torch.equal(schedule.sigma(torch.tensor([-5.0, 2000.0])), schedule.sigmas[[0, -1]])


def test_timesteps_keep_the_shape_of_sigma() -> None:
    for schedule in (scaled_linear(), FlowSchedule()):
        for shape in ((), (3,), (2, 3)):
            assert schedule.timestep(torch.ones(shape)).shape == shape
            assert schedule.sigma(torch.full(shape, 500.0)).shape == shape


@given(st.floats(1e-4, 0.9999))
def test_flow_times_and_sigmas_are_inverse(time: float) -> None:
    sigma = time_to_sigma(torch.tensor(time))
    assert float(sigma) == pytest.approx(time / (1 - time), rel=2e-3 if time > 0.999 else 1e-4)
    assert float(sigma_to_time(sigma)) == pytest.approx(time, rel=1e-6)
    schedule = FlowSchedule()
    assert float(schedule.timestep(sigma)) == pytest.approx(1000 * time, rel=1e-6)
    assert float(schedule.timestep(schedule.sigma(torch.tensor(1000 * time)))) == pytest.approx(1000 * time, rel=1e-6)


def test_flow_is_finite_at_pure_noise() -> None:
    schedule = FlowSchedule()
    assert float(schedule.sigma(torch.tensor(1000.0))) == schedule.sigma_max == 2**20 - 1
    assert float(schedule.timestep(torch.tensor(schedule.sigma_max))) == pytest.approx(1000, abs=1e-3)
    assert schedule.coordinates == "time"


@pytest.mark.parametrize("shift", [0.5, 1.0, 3.0])
def test_shift_equals_diffusers(shift: float) -> None:
    theirs = FlowMatchEulerDiscreteScheduler(shift=shift).sigmas
    ours = shifted_time(torch.arange(1000, 0, -1, dtype=torch.float64) / 1000, shift)
    assert worst(ours, theirs) < 1e-6
    lowest = FlowSchedule(shift).sigma_min
    assert lowest / (1 + lowest) == pytest.approx(float(theirs[-1]), rel=1e-6)


def test_make_schedule_reads_every_number() -> None:
    plain = make_schedule("scaled_linear")
    assert isinstance(plain, DiscreteSchedule)
    assert torch.equal(plain.sigmas, scaled_linear().sigmas)
    for option in ({"steps": 500}, {"beta_start": 0.001}, {"beta_end": 0.02}, {"zero_terminal_snr": True}):
        other = make_schedule("scaled_linear", **option)
        assert isinstance(other, DiscreteSchedule)
        assert not torch.equal(other.sigmas[:100], plain.sigmas[:100])
    assert make_schedule("flow", steps=500, shift=3.0) == FlowSchedule(3.0, 500)
    assert {type(make_schedule(kind)) for kind in SCHEDULES} == {DiscreteSchedule, FlowSchedule}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"kind": "scaled_linaer"}, "did you mean 'scaled_linear'"),
        ({"kind": "linear", "steps": 1}, "steps is 1"),
        ({"kind": "linear", "beta_start": 0.0}, "betas run from 0.0"),
        ({"kind": "linear", "beta_end": float("nan")}, "to nan"),
        ({"kind": "flow", "shift": 0.0}, "shift is 0.0"),
        ({"kind": "flow", "shift": float("inf")}, "shift is inf"),
    ],
)
def test_wrong_numbers_are_named(arguments: dict[str, object], words: str) -> None:
    with pytest.raises(InputError, match=words):
        make_schedule(**arguments)  # type: ignore[arg-type]
