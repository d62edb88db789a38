"""Every sampler beside diffusers' scheduler of the same method, step by step, on a nonlinear toy network.

The bound is 3e-6 relative error (largest difference over largest value) after every step, in float32.
"""

from __future__ import annotations

from typing import Any

import diffusers
import pytest
import torch

from rein.diffusion.prediction import PREDICTIONS, NetworkDenoiser
from rein.diffusion.samplers import SAMPLERS, SamplerOptions, Step, find_sampler
from rein.diffusion.schedule import (
    FlowSchedule,
    NoiseSchedule,
    rescale_zero_terminal_snr,
    scaled_linear,
    sigma_to_time,
    time_to_sigma,
)
from rein.diffusion.spacing import spaced_sigmas
from rein.errors import InputError
from tests.diffusion.peers import SD, SIGNAL, WORDS, compare, inject, run_peer
from tests.diffusion.toy import listed, network, no_noise, unit_noise

# NumPy 2 warns where diffusers makes an array of a tensor.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

BOUND = 3e-6
LEADING: dict[str, Any] = {"timestep_spacing": "leading", "steps_offset": 1}
TRAILING: dict[str, Any] = {"timestep_spacing": "trailing"}
START = unit_noise(0)
NOISES = [unit_noise(100 + index) for index in range(50)]


def run(name: str, prediction: str, schedule: NoiseSchedule, sigmas: torch.Tensor, **options: Any) -> list[Step]:
    """All steps of a sampler from `START`, with `NOISES` if it is to add noise."""
    denoise = NetworkDenoiser(network, schedule, PREDICTIONS[prediction])
    info = find_sampler(name)
    adds_noise = info.stochastic if options.get("eta") is None else options["eta"] > 0
    x = PREDICTIONS[prediction].start(START, sigmas[0])
    source = listed(NOISES) if adds_noise else no_noise
    return list(info.function(denoise, x, sigmas, source, SamplerOptions(**options)))


def peer(kind: str, prediction: str, **config: Any) -> Any:
    """A diffusers scheduler for Stable Diffusion's levels, its table in float64."""
    scheduler = getattr(diffusers, kind)(prediction_type=WORDS[prediction], **SD, **config)
    scheduler.alphas_cumprod = SIGNAL.clone()
    return scheduler


@pytest.mark.parametrize("spacing", ["leading", "trailing"])
@pytest.mark.parametrize("prediction", ["epsilon", "v", "x0"])
def test_ddpm(prediction: str, spacing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    scheduler = peer(
        "DDPMScheduler", prediction, clip_sample=False, **{"leading": LEADING, "trailing": TRAILING}[spacing]
    )
    scheduler.set_timesteps(20)
    inject(monkeypatch, scheduler, NOISES)
    sigmas = spaced_sigmas(spacing, 20, scaled_linear())
    theirs = run_peer(scheduler, START.double(), sigmas, "preserving")
    assert compare(run("ddpm", prediction, scaled_linear(), sigmas), theirs) < BOUND


@pytest.mark.parametrize("eta", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("prediction", ["epsilon", "v", "x0"])
def test_ddim(prediction: str, eta: float, monkeypatch: pytest.MonkeyPatch) -> None:
    scheduler = peer("DDIMScheduler", prediction, clip_sample=False, **LEADING)
    scheduler.set_timesteps(20)
    inject(monkeypatch, scheduler, NOISES)
    step = scheduler.step
    monkeypatch.setattr(scheduler, "step", lambda *args, **kwargs: step(*args, eta=eta, **kwargs))
    sigmas = spaced_sigmas("leading", 20, scaled_linear())
    theirs = run_peer(scheduler, START.double(), sigmas, "preserving")
    assert compare(run("ddim", prediction, scaled_linear(), sigmas, eta=eta), theirs) < BOUND


def test_ddim_adds_no_noise_unless_asked() -> None:
    sigmas = spaced_sigmas("leading", 10, scaled_linear())
    unset, none = (run("ddim", "epsilon", scaled_linear(), sigmas, eta=eta) for eta in (None, 0.0))
    assert torch.equal(unset[-1].x, none[-1].x)


CONFIGS: dict[str, dict[str, Any]] = {
    "leading": LEADING,
    "trailing": TRAILING,
    "linspace": {"timestep_spacing": "linspace"},
    "karras": {"use_karras_sigmas": True},
    "exponential": {"use_exponential_sigmas": True},
}


@pytest.mark.parametrize("spacing", CONFIGS)
@pytest.mark.parametrize("prediction", ["epsilon", "v"])
def test_euler(prediction: str, spacing: str) -> None:
    scheduler = peer("EulerDiscreteScheduler", prediction, **CONFIGS[spacing])
    scheduler.set_timesteps(20)
    sigmas = spaced_sigmas(spacing, 20, scaled_linear())
    theirs = run_peer(scheduler, PREDICTIONS[prediction].start(START, sigmas[0]), sigmas, "exploding")
    assert compare(run("euler", prediction, scaled_linear(), sigmas), theirs) < BOUND


@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
@pytest.mark.parametrize("prediction", ["epsilon", "v"])
def test_euler_ancestral(prediction: str, spacing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    scheduler = peer("EulerAncestralDiscreteScheduler", prediction, **CONFIGS[spacing])
    scheduler.set_timesteps(20)
    inject(monkeypatch, scheduler, NOISES)
    sigmas = spaced_sigmas(spacing, 20, scaled_linear())
    theirs = run_peer(scheduler, PREDICTIONS[prediction].start(START, sigmas[0]), sigmas, "exploding")
    assert compare(run("euler_ancestral", prediction, scaled_linear(), sigmas), theirs) < BOUND


@pytest.mark.parametrize("spacing", ["leading", "karras"])
@pytest.mark.parametrize("prediction", ["epsilon", "v", "x0"])
def test_heun(prediction: str, spacing: str) -> None:
    scheduler = peer("HeunDiscreteScheduler", prediction, **CONFIGS[spacing])
    scheduler.set_timesteps(12)
    sigmas = spaced_sigmas(spacing, 12, scaled_linear())
    theirs = run_peer(scheduler, PREDICTIONS[prediction].start(START, sigmas[0]), sigmas, "exploding")
    assert compare(run("heun", prediction, scaled_linear(), sigmas), theirs) < BOUND


@pytest.mark.parametrize("steps", [1, 2, 8, 25])
@pytest.mark.parametrize("prediction", ["epsilon", "v", "x0"])
@pytest.mark.parametrize(("name", "algorithm"), [("dpmpp_2m", "dpmsolver++"), ("dpmpp_2m_sde", "sde-dpmsolver++")])
def test_dpmpp_2m(name: str, algorithm: str, prediction: str, steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    scheduler = peer("DPMSolverMultistepScheduler", prediction, algorithm_type=algorithm, **TRAILING)
    scheduler.set_timesteps(steps)
    inject(monkeypatch, scheduler, NOISES)
    sigmas = spaced_sigmas("trailing", steps, scaled_linear())
    theirs = run_peer(scheduler, START, sigmas, "preserving")
    assert compare(run(name, prediction, scaled_linear(), sigmas), theirs) < BOUND


@pytest.mark.parametrize("steps", [1, 4, 8])
@pytest.mark.parametrize("prediction", ["epsilon", "v", "x0"])
def test_lcm(prediction: str, steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    scheduler = peer("LCMScheduler", prediction, clip_sample=False)
    scheduler.set_timesteps(steps)
    inject(monkeypatch, scheduler, NOISES)
    levels = scaled_linear().sigma(scheduler.timesteps.float())
    sigmas = torch.cat([levels, torch.zeros(1)])
    theirs = run_peer(scheduler, START.double(), sigmas, "preserving")
    assert compare(run("lcm", prediction, scaled_linear(), sigmas), theirs) < BOUND


@pytest.mark.parametrize("name", ["ddim", "euler"])
def test_zero_terminal_snr(name: str) -> None:
    schedule = rescale_zero_terminal_snr(scaled_linear())
    sigmas = spaced_sigmas("trailing", 20, schedule)
    scheduler = peer("DDIMScheduler", "v", clip_sample=False, rescale_betas_zero_snr=True, **TRAILING)
    scheduler.alphas_cumprod = 1 / (1 + schedule.sigmas.double() ** 2)
    scheduler.set_timesteps(20)
    theirs = run_peer(scheduler, START.double(), sigmas, "preserving")
    assert compare(run(name, "v", schedule, sigmas), theirs) < BOUND


def test_zero_terminal_snr_of_true_zero() -> None:
    """With the peer's own last level, alpha-bar 0: sigma 4096 instead costs less than 2e-4 of the picture."""
    schedule = rescale_zero_terminal_snr(scaled_linear())
    sigmas = spaced_sigmas("trailing", 20, schedule)
    scheduler = peer("DDIMScheduler", "v", clip_sample=False, rescale_betas_zero_snr=True, **TRAILING)
    scheduler.alphas_cumprod = 1 / (1 + schedule.sigmas.double() ** 2)
    scheduler.alphas_cumprod[-1] = 0
    scheduler.set_timesteps(20)
    theirs = run_peer(scheduler, START.double(), sigmas, "preserving")
    assert BOUND < compare(run("ddim", "v", schedule, sigmas), theirs) < 2e-4


@pytest.mark.parametrize("shift", [1.0, 3.0])
@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("euler", "FlowMatchEulerDiscreteScheduler"),
        ("heun", "FlowMatchHeunDiscreteScheduler"),
        ("lcm", "FlowMatchLCMScheduler"),
    ],
)
def test_flow(name: str, kind: str, shift: float, monkeypatch: pytest.MonkeyPatch) -> None:
    scheduler = getattr(diffusers, kind)(shift=shift)
    scheduler.set_timesteps(20)
    inject(monkeypatch, scheduler, NOISES)
    schedule = FlowSchedule(shift)
    times = torch.unique(scheduler.sigmas).flip(0)
    sigmas = time_to_sigma(times) if name == "lcm" else spaced_sigmas("linspace", 20, schedule)
    theirs = run_peer(scheduler, START, sigmas, "flow")
    assert compare(run(name, "flow", schedule, sigmas, coordinates=schedule.coordinates), theirs) < BOUND


@pytest.mark.parametrize(("name", "algorithm"), [("dpmpp_2m", "dpmsolver++"), ("dpmpp_2m_sde", "sde-dpmsolver++")])
def test_flow_by_dpmpp_2m(name: str, algorithm: str, monkeypatch: pytest.MonkeyPatch) -> None:
    scheduler = diffusers.DPMSolverMultistepScheduler(
        algorithm_type=algorithm, prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=2.0
    )
    scheduler.set_timesteps(20)
    inject(monkeypatch, scheduler, NOISES)
    sigmas = time_to_sigma(scheduler.sigmas)
    # The scheduler tells the network whole timesteps; here it is told the exact ones.
    scheduler.timesteps = list(FlowSchedule().timestep(sigmas[:-1]))
    scheduler._step_index = 0
    theirs = run_peer(scheduler, START, sigmas, "flow")
    assert compare(run(name, "flow", FlowSchedule(), sigmas), theirs) < BOUND


def test_steps_say_where_they_are() -> None:
    sigmas = spaced_sigmas("karras", 6, scaled_linear())
    denoise = NetworkDenoiser(network, scaled_linear(), PREDICTIONS["epsilon"])
    for name in SAMPLERS:
        steps = run(name, "epsilon", scaled_linear(), sigmas)
        assert [step.index for step in steps] == list(range(6))
        assert [step.sigma for step in steps] == sigmas[:-1].tolist()
        assert [step.next_sigma for step in steps] == sigmas[1:].tolist()
        assert torch.equal(steps[0].denoised, denoise(PREDICTIONS["epsilon"].start(START, sigmas[0]), sigmas[0]))
        assert torch.equal(steps[3].denoised, denoise(steps[2].x, sigmas[3]))
        assert torch.equal(steps[-1].x, steps[-1].denoised)


def test_samplers_are_found_by_name_label_and_alias() -> None:
    for info in SAMPLERS.values():
        for name in (info.name, info.label, f" {info.label.upper()} ", *info.aliases):
            assert find_sampler(name) is info
    assert find_sampler("k_euler_a") is find_sampler("Euler a") is SAMPLERS["euler_ancestral"]
    with pytest.raises(InputError, match=r"unknown sampler 'eulr': did you mean 'euler'\? Known: ddim, ddpm, dpmpp_2m"):
        find_sampler("eulr")
    with pytest.raises(InputError, match="did you mean 'dpmpp_2m_sde'"):
        find_sampler("DPM++ 2M SED")


def test_every_sampler_names_a_spacing_and_counts_its_evaluations() -> None:
    for info in SAMPLERS.values():
        sigmas = spaced_sigmas(info.default_spacing, 5, scaled_linear())
        asked: list[float] = []

        def denoise(x: torch.Tensor, sigma: torch.Tensor, asked: list[float] = asked) -> torch.Tensor:
            asked.append(float(sigma))
            return torch.tanh(x)

        steps = list(info.function(denoise, START * sigmas[0], sigmas, listed(NOISES)))
        assert len(steps) == 5
        assert len(asked) == (5 if info.evaluations_per_step == 1 else 9)


@pytest.mark.parametrize("eta", [-0.1, 1.1, float("nan"), float("inf")])
def test_eta_outside_its_range_is_refused(eta: float) -> None:
    with pytest.raises(InputError, match="eta is .*: it must be from 0 to 1"):
        SamplerOptions(eta=eta)


def test_flow_time_and_sigma_give_the_same_first_order_steps() -> None:
    """x0 held over a step moves x along one line in either coordinates, so Euler needs no choice between them."""
    sigmas = spaced_sigmas("trailing", 10, FlowSchedule())
    state = START.double()
    denoise = NetworkDenoiser(network, FlowSchedule(), PREDICTIONS["flow"])
    for step in run("euler", "flow", FlowSchedule(), sigmas):
        time, next_time = (sigma_to_time(torch.tensor(s, dtype=torch.float64)) for s in (step.sigma, step.next_sigma))
        x0 = denoise((state * (1 + step.sigma)).float(), torch.tensor(step.sigma)).double()
        state = state + (next_time - time) * (state - x0) / time
        assert float((step.x.double() / (1 + step.next_sigma) - state).abs().max()) < 1e-5
