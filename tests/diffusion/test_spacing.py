"""Spacings beside the sigmas that diffusers' schedulers visit."""

from __future__ import annotations

import math
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
    LCMScheduler,
)
from diffusers.schedulers.scheduling_utils import AysSchedules
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from rein.diffusion.levels_between import beta_quantiles
from rein.diffusion.schedule import FlowSchedule, cosine, rescale_zero_terminal_snr, scaled_linear, sigma_to_time
from rein.diffusion.spacing import SPACINGS, SpacingOptions, find_spacing, spaced_sigmas
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
    "beta": {"use_beta_sigmas": True},
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
@pytest.mark.parametrize("name", OPTIONS)
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
@pytest.mark.parametrize("name", ["linspace", "karras", "exponential", "beta"])
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
    if SPACINGS[name].flow is None and isinstance(schedule, FlowSchedule):
        with pytest.raises(InputError, match="is a table for Stable Diffusion: this model is a flow; use 'linspace'"):
            spaced_sigmas(name, steps, schedule)
        return
    steps = min(steps, SPACINGS[name].most_steps(schedule.steps))
    sigmas = spaced_sigmas(name, steps, schedule)
    assert sigmas.dtype == torch.float32
    assert sigmas.shape == (steps + 1,)
    assert bool((sigmas.diff() < 0).all())
    assert float(sigmas[-1]) == 0
    if SPACINGS[name].flow is None:
        assert float(sigmas[0]) == pytest.approx(14.615)
    elif name in ("leading", "ddim") and steps < 1000:
        assert float(sigmas[0]) <= schedule.sigma_max
    else:
        assert float(sigmas[0]) == pytest.approx(schedule.sigma_max, rel=1e-6)


def web_ui(name: str, count: int) -> list[float]:
    """The spacings of AUTOMATIC1111's web UI that diffusers has not, from their definitions, with numpy and scipy."""
    table = ((1 - SIGNAL) / SIGNAL).sqrt().numpy()
    lowest, highest = float(table[0]), float(table[-1])

    def at(timesteps: Any) -> Any:
        return np.exp(np.interp(timesteps, np.arange(1000), np.log(table)))

    rows = {"align_your_steps": "StableDiffusionSigmas", "align_your_steps_sdxl": "StableDiffusionXLSigmas"}
    if name in rows:
        known = np.log([*AysSchedules[rows[name]][:-1], 0.029])
        return list(np.exp(np.interp(np.linspace(0, 10, count), np.arange(11), known)))
    shares = np.arange(count) / count
    found: dict[str, Any] = {
        "uniform": lambda: at(np.linspace(999, 0, count)),
        "normal": lambda: at(np.linspace(999, 0, count)),
        "sgm_uniform": lambda: at(np.linspace(999, 0, count + 1)[:-1]),
        "simple": lambda: table[[-(1 + int(i * (1000 / count))) for i in range(count)]],
        "ddim": lambda: table[1 :: 1000 // count][:count][::-1],
        "polyexponential": lambda: np.exp(np.linspace(math.log(highest), math.log(lowest), count)),
        "kl_optimal": lambda: np.tan(shares * math.atan(lowest) + (1 - shares) * math.atan(highest)),
        "beta": lambda: lowest + stats.beta.ppf(1 - np.linspace(0, 1, count), 0.6, 0.6) * (highest - lowest),
    }
    return list(found[name]())


WEB_UI = [
    *("uniform", "normal", "sgm_uniform", "simple", "ddim", "polyexponential", "kl_optimal", "beta"),
    *("align_your_steps", "align_your_steps_sdxl"),
]


@pytest.mark.parametrize("steps", [2, 10, 11, 20, 25, 50, 100])
@pytest.mark.parametrize("name", WEB_UI)
def test_sigmas_equal_the_web_uis(name: str, steps: int) -> None:
    ours = spaced_sigmas(name, steps, scaled_linear())
    assert ours[:-1].tolist() == pytest.approx(web_ui(name, steps), rel=2e-6)


@pytest.mark.parametrize("steps", [1, 2, 4, 7, 8, 50])
def test_lcm_levels_are_those_of_diffusers(steps: int) -> None:
    peer = LCMScheduler(**SD)
    peer.set_timesteps(steps)
    ours = scaled_linear().timestep(spaced_sigmas("lcm", steps, scaled_linear())[:-1])
    assert ours.tolist() == peer.timesteps.tolist()


@pytest.mark.parametrize("parameter", [0.3, 0.6, 1.0, 2.5])
def test_beta_quantiles_equal_scipys(parameter: float) -> None:
    shares = torch.linspace(0, 1, 501, dtype=torch.float64)
    expected = stats.beta.ppf(shares.numpy(), parameter, parameter)
    assert beta_quantiles(shares, parameter).tolist() == pytest.approx(expected.tolist(), rel=1e-9, abs=1e-15)


def test_rho_and_ends_are_those_of_k_diffusion() -> None:
    options = SpacingOptions(rho=5.0, sigma_min=0.1, sigma_max=10.0)
    ramp = np.linspace(0, 1, 12)
    expected = (10 ** (1 / 5) + ramp * (0.1 ** (1 / 5) - 10 ** (1 / 5))) ** 5
    assert spaced_sigmas("karras", 12, scaled_linear(), options)[:-1].tolist() == pytest.approx(
        expected.tolist(), rel=1e-6
    )
    expected = np.exp(np.linspace(1, 0, 12) ** 5 * math.log(100) + math.log(0.1))
    found = spaced_sigmas("polyexponential", 12, scaled_linear(), options)
    assert found[:-1].tolist() == pytest.approx(expected.tolist(), rel=1e-6)
    for name, row in SPACINGS.items():
        if "sigma_min" in row.reads:
            for schedule in (scaled_linear(), FlowSchedule()):
                ends = spaced_sigmas(name, 6, schedule, SpacingOptions(sigma_min=0.1, sigma_max=10.0))
                assert float(ends[0]) == pytest.approx(10.0, rel=1e-5)
                assert name == "kl_optimal" or float(ends[-2]) == pytest.approx(0.1, rel=1e-5)


def test_the_penultimate_level_is_left_out_of_one_more() -> None:
    with_it = spaced_sigmas("karras", 11, scaled_linear())
    without = spaced_sigmas("karras", 10, scaled_linear(), SpacingOptions(discard_penultimate=True))
    assert torch.equal(without, torch.cat([with_it[:10], with_it[11:]]))


def test_spacings_are_found_by_name_and_label() -> None:
    for name, row in SPACINGS.items():
        assert find_spacing(name) is find_spacing(row.label) is find_spacing(f" {row.label.upper()} ") is row
    assert find_spacing("SGMUniform") is SPACINGS["sgm_uniform"]
    assert find_spacing("ddim_uniform") is SPACINGS["ddim"]


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("simple", {"rho": 5.0}, "rho is set: spacing 'simple' has none; leave it out, or use karras, polyexponential"),
        ("leading", {"sigma_max": 5.0}, "sigma_max is set: spacing 'leading' has none"),
        ("karras", {"rho": 0.0}, "rho is 0.0: it must be above 0 and at most 100"),
        ("karras", {"sigma_min": -1.0}, "sigma_min is -1.0: it must be a noise level"),
        ("karras", {"sigma_min": float("nan")}, "sigma_min is nan"),
        ("karras", {"sigma_min": 20.0}, "noise levels would rise from 14.6146 to 20"),
        ("karras", {"sigma_min": 9.99999, "sigma_max": 10.0}, "levels coincide between these ends; take fewer"),
    ],
)
def test_wrong_options_of_spacings_are_refused(name: str, options: dict[str, float], words: str) -> None:
    with pytest.raises(InputError, match=words):
        spaced_sigmas(name, 100, scaled_linear(), SpacingOptions(**options))  # type: ignore[arg-type]


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
