"""Spacings beside the sigmas that diffusers' schedulers visit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    HeunDiscreteScheduler,
)
from hypothesis import given
from hypothesis import strategies as st

from rein.diffusion.schedule import FlowSchedule, cosine, rescale_zero_terminal_snr, scaled_linear, sigma_to_time
from rein.diffusion.spacing import SPACINGS, spaced_sigmas
from rein.errors import InputError

# NumPy 2 warns where diffusers makes an array of a tensor.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

SD = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
SIGNAL = torch.from_numpy(np.cumprod(1 - np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2))
"""alpha-bar of Stable Diffusion in float64. The peers compute with it instead of their float32 table (see `exact`)."""

OPTIONS: dict[str, dict[str, object]] = {
    "leading": {"timestep_spacing": "leading", "steps_offset": 1},
    "trailing": {"timestep_spacing": "trailing"},
    "linspace": {"timestep_spacing": "linspace"},
    "karras": {"use_karras_sigmas": True},
    "exponential": {"use_exponential_sigmas": True},
}
COUNTS = [2, 4, 7, 20, 30, 50, 333]


def exact(peer: Any) -> Any:
    """A diffusers scheduler with alpha-bar in float64: its own rounding is up to 8e-5 of the lowest sigmas."""
    assert torch.allclose(peer.alphas_cumprod, SIGNAL.float(), rtol=1e-5)
    peer.alphas_cumprod = SIGNAL
    return peer


def ratio(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    """The largest relative difference of single levels; both must end in 0."""
    assert ours.shape == theirs.shape
    assert float(ours[-1]) == float(theirs[-1]) == 0
    return float((ours[:-1].double() / theirs[:-1].double() - 1).abs().max())


@pytest.mark.parametrize("steps", COUNTS)
@pytest.mark.parametrize("name", SPACINGS)
def test_sigmas_equal_diffusers_euler_and_heun(name: str, steps: int) -> None:
    ours = spaced_sigmas(name, steps, scaled_linear())
    euler = exact(EulerDiscreteScheduler(**SD, **OPTIONS[name]))
    euler.set_timesteps(steps)
    heun = exact(HeunDiscreteScheduler(**SD, **OPTIONS[name]))
    heun.set_timesteps(steps)
    assert ratio(ours, euler.sigmas) < 1e-6
    assert ratio(ours, torch.cat([heun.sigmas[:1], heun.sigmas[1::2]])) < 1e-6


@pytest.mark.parametrize("name", ["trailing", "karras", "exponential"])
def test_sigmas_equal_diffusers_dpm_solver(name: str) -> None:
    """Its leading and linspace leave out the lowest level, unlike every other scheduler's, and are not followed."""
    for steps in COUNTS:
        peer = exact(DPMSolverMultistepScheduler(**SD, **OPTIONS[name]))
        peer.set_timesteps(steps)
        assert ratio(spaced_sigmas(name, steps, scaled_linear()), peer.sigmas) < 1e-6


@pytest.mark.parametrize("name", ["leading", "trailing"])
def test_timesteps_equal_diffusers_ddim(name: str) -> None:
    for steps in COUNTS:
        peer = DDIMScheduler(**SD, **OPTIONS[name])
        peer.set_timesteps(steps)
        timesteps = scaled_linear().timestep(spaced_sigmas(name, steps, scaled_linear())[:-1])
        assert timesteps.tolist() == peer.timesteps.tolist()


@pytest.mark.parametrize("name", ["trailing", "karras"])
def test_zero_terminal_snr_sigmas_equal_diffusers(name: str) -> None:
    peer = EulerDiscreteScheduler(rescale_betas_zero_snr=True, **SD, **OPTIONS[name])
    peer.set_timesteps(20)
    ours = spaced_sigmas(name, 20, rescale_zero_terminal_snr(scaled_linear()))
    # The peer's float32 table is exact to 1e-4 near pure noise (see test_schedule).
    assert ratio(ours, peer.sigmas) < 1e-4
    assert float(ours[0]) == float(peer.sigmas[0])


@pytest.mark.parametrize("shift", [1.0, 3.0])
@pytest.mark.parametrize("name", ["linspace", "karras", "exponential"])
def test_flow_times_equal_diffusers(name: str, shift: float) -> None:
    options = OPTIONS[name] if name != "linspace" else {}
    for steps in COUNTS:
        peer = FlowMatchEulerDiscreteScheduler(shift=shift, **options)
        peer.set_timesteps(steps)
        ours = sigma_to_time(spaced_sigmas(name, steps, FlowSchedule(shift)))
        assert ratio(ours, peer.sigmas) < 1e-5


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_flow_trailing_equals_the_times_of_flux(shift: float) -> None:
    for steps in COUNTS:
        peer = FlowMatchEulerDiscreteScheduler(shift=shift)
        peer.set_timesteps(sigmas=torch.linspace(1, 1 / steps, steps).tolist())
        assert ratio(sigma_to_time(spaced_sigmas("trailing", steps, FlowSchedule(shift))), peer.sigmas) < 1e-5


def test_flow_leading_visits_the_timesteps_of_leading() -> None:
    timesteps = FlowSchedule().timestep(spaced_sigmas("leading", 4, FlowSchedule())[:-1])
    assert timesteps.tolist() == pytest.approx([751, 501, 251, 1], rel=1e-6)


@pytest.mark.parametrize(
    "schedule", [scaled_linear(), cosine(), FlowSchedule(), FlowSchedule(3.0)], ids=["sd", "cosine", "flow", "flow-3"]
)
@pytest.mark.parametrize("name", SPACINGS)
@given(steps=st.integers(1, 1000))
def test_levels_fall_strictly_from_the_top_to_zero(name: str, schedule: FlowSchedule, steps: int) -> None:
    sigmas = spaced_sigmas(name, steps, schedule)
    assert sigmas.dtype == torch.float32
    assert sigmas.shape == (steps + 1,)
    assert bool((sigmas.diff() < 0).all())
    assert float(sigmas[-1]) == 0
    assert float(sigmas[0]) <= schedule.sigma_max
    if name != "leading" or steps == 1000:
        assert float(sigmas[0]) == pytest.approx(schedule.sigma_max, rel=1e-6)


@pytest.mark.parametrize(
    ("name", "steps", "words"),
    [
        ("karas", 20, "unknown spacing 'karas': did you mean 'karras'"),
        ("karras", 0, "steps is 0: with karras spacing it must be from 1 to 10000"),
        ("linspace", -3, "steps is -3"),
        ("trailing", 1001, "steps is 1001: with trailing spacing it must be from 1 to 1000"),
        ("leading", 1001, "from 1 to 1000"),
        ("karras", 10_001, "from 1 to 10000"),
    ],
)
def test_what_cannot_be_spaced_is_refused(name: str, steps: int, words: str) -> None:
    with pytest.raises(InputError, match=words):
        spaced_sigmas(name, steps, scaled_linear())
