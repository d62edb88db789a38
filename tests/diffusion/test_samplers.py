"""Every sampler beside diffusers' scheduler of the same method, step by step, on a nonlinear toy network.

The bound is 3e-6 relative error (largest difference over largest value) after every step, in float32.
"""

from __future__ import annotations

from typing import Any

import diffusers
import pytest
import torch

from rein.diffusion.guidance import guided
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
from rein.diffusion.spacing import SPACINGS, spaced_sigmas
from rein.errors import InputError
from tests.diffusion import equality
from tests.diffusion.peers import SD, SIGNAL, WORDS, compare, inject, run_peer
from tests.diffusion.toy import listed, network, no_noise, unit_noise

# NumPy 2 warns where diffusers makes an array of a tensor.
pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:__array_wrap__ must accept:DeprecationWarning"),
]

BOUND = 3e-6
LEADING: dict[str, Any] = {"timestep_spacing": "leading", "steps_offset": 1}
TRAILING: dict[str, Any] = {"timestep_spacing": "trailing"}
START = unit_noise(0)
NOISES = [unit_noise(100 + index) for index in range(50)]


def run(name: str, prediction: str, trained: NoiseSchedule, sigmas: torch.Tensor, **options: Any) -> list[Step]:
    """All steps of a sampler from `START`, with `NOISES` if it is to add noise."""
    denoise = NetworkDenoiser(network, trained, PREDICTIONS[prediction])
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


CASES = [(name, spacing) for name, row in equality.PEERS.items() for spacing in row.spacings]


@pytest.mark.parametrize(("name", "spacing"), CASES)
def test_equals_diffusers(name: str, spacing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for prediction in equality.PEERS[name].predictions:
        assert equality.peer_error(name, spacing, prediction, monkeypatch) < BOUND, prediction


@pytest.mark.parametrize("name", equality.PUBLISHED)
def test_equals_its_published_formulas(name: str) -> None:
    """Both in float64, but for timesteps in float32; DPM adaptive's choice of steps multiplies what that rounds."""
    bound = 1e-4 if name == "dpm_adaptive" else 1e-6 if name == "dpm_fast" else 1e-11
    cases = [("karras", prediction) for prediction in PREDICTIONS] + [(spacing, "v") for spacing in SPACINGS]
    for spacing, prediction in cases:
        for eta in equality.PUBLISHED[name].etas[-2:]:
            error = equality.published_error(name, spacing, prediction, eta)
            assert error < bound, (spacing, prediction, eta)


@pytest.mark.parametrize("prediction", ["epsilon", "v", "x0"])
def test_ddim_cfgpp_equals_its_paper(prediction: str) -> None:
    for spacing, scale in (("leading", 7.5), ("karras", 2.0)):
        assert equality.cfgpp_error(spacing, prediction, scale) < 1e-11


def test_steps_say_where_they_are() -> None:
    sigmas = spaced_sigmas("karras", 6, scaled_linear())
    denoise = NetworkDenoiser(network, scaled_linear(), PREDICTIONS["epsilon"])
    for name, info in SAMPLERS.items():
        if info.own_steps or info.needs_negative:
            continue
        steps = run(name, "epsilon", scaled_linear(), sigmas, schedule=scaled_linear())
        assert [step.index for step in steps] == list(range(6))
        assert [step.sigma for step in steps] == sigmas[:-1].tolist()
        assert [step.next_sigma for step in steps] == sigmas[1:].tolist()
        assert [step.last for step in steps] == [False] * 5 + [True]
        assert torch.equal(steps[0].denoised, denoise(PREDICTIONS["epsilon"].start(START, sigmas[0]), sigmas[0]))
        assert torch.equal(steps[3].denoised, denoise(steps[2].x, sigmas[3]))
        if name not in ("lms", "plms", "ipndm"):  # whose last step uses the slopes before it, too
            assert torch.equal(steps[-1].x, steps[-1].denoised)


@pytest.mark.parametrize("name", ["dpm_fast", "dpm_adaptive", "restart"])
@pytest.mark.parametrize("steps", [1, 2, 6, 20, 37])
def test_own_steps_go_from_the_first_level_to_zero(name: str, steps: int) -> None:
    sigmas = spaced_sigmas("karras", steps, scaled_linear())
    denoise = NetworkDenoiser(network, scaled_linear(), PREDICTIONS["v"])
    start = PREDICTIONS["v"].start(START[:1], sigmas[0])
    taken = list(SAMPLERS[name].function(denoise, start, sigmas, listed(n[:1] for n in NOISES)))
    assert taken[0].sigma == float(sigmas[0])
    assert [step.index for step in taken] == list(range(len(taken)))
    assert [step.last for step in taken] == [False] * (len(taken) - 1) + [True]
    assert bool(torch.isfinite(taken[-1].x).all())
    assert len(taken) == {"dpm_fast": 1 if steps == 1 else steps // 3 + 2, "restart": steps}.get(name, len(taken))


def test_every_sampler_names_a_spacing_and_counts_its_evaluations() -> None:
    for info in SAMPLERS.values():
        sigmas = spaced_sigmas(info.default_spacing, 5, scaled_linear())
        asked: list[float] = []

        def denoise(x: torch.Tensor, sigma: torch.Tensor, asked: list[float] = asked) -> torch.Tensor:
            asked.append(float(sigma))
            return torch.tanh(x)

        def pair(x: torch.Tensor, sigma: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return denoise(x, sigma), x

        model = guided(pair, denoise, 2.0) if info.needs_negative else denoise
        start = (START[:1] if info.one_at_a_time else START) * sigmas[0]
        options = SamplerOptions(schedule=scaled_linear())
        steps = list(info.function(model, start, sigmas, listed(NOISES), options))
        if info.name == "dpm_adaptive":
            assert len(asked) >= 3 * (len(steps) - 1) + 1
        elif info.name == "dpm_fast":
            assert len(asked) == 5 + 1
        else:
            assert len(steps) == 5
            assert len(asked) == {"plms": 6}.get(info.name, 5 if info.evaluations_per_step == 1 else 9)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"s_churn": -1.0}, "s_churn is -1.0: it must be from 0 to 1000"),
        ({"s_noise": float("nan")}, "s_noise is nan: it must be from 0 to 2"),
        ({"s_tmin": 2.0, "s_tmax": 1.0}, "s_tmin is 2.0 and s_tmax 1.0"),
        ({"s_tmin": -1.0}, "s_tmin is -1.0"),
        ({"tolerance": 0.0}, "tolerance is 0.0"),
    ],
)
def test_options_outside_their_range_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        SamplerOptions(**options)


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
