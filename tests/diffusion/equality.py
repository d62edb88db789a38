"""Each sampler beside its reference on the nonlinear toy network: the largest relative error of any step.

The tests bound these errors and `benchmarks/sampler_equality.py` prints them. References that are ours to write are in
`published`, in float64; diffusers' schedulers run as they are, but for float64 tables of alpha-bar.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import diffusers
import torch
from torch import Tensor

from rein.diffusion.guidance import guided
from rein.diffusion.prediction import PREDICTIONS, NetworkDenoiser
from rein.diffusion.samplers import SAMPLERS, SamplerOptions, Step
from rein.diffusion.schedule import DiscreteSchedule, FlowSchedule, NoiseSchedule, scaled_linear
from rein.diffusion.spacing import spaced_sigmas
from tests.diffusion import published
from tests.diffusion.peers import SD, SIGNAL, WORDS, State, compare, run_peer
from tests.diffusion.toy import listed, network, unit_noise

NOISES = [unit_noise(100 + index) for index in range(100)]
STEPS = 24


class Patch(Protocol):
    """What sets an attribute until the end of a test: pytest's monkeypatch."""

    def setattr(self, target: Any, name: str, value: Any, /) -> None: ...


@dataclass(frozen=True)
class Against:
    """A reference of a sampler, and the etas it is compared at."""

    run: published.Reference
    etas: tuple[float, ...] = (0.0,)


PUBLISHED: dict[str, Against] = {
    "dpm_2": Against(published.single_steps("solver_2")),
    "dpm_2_ancestral": Against(published.single_steps("solver_2"), (0.0, 0.5, 1.0)),
    "dpmpp_2s_ancestral": Against(published.single_steps("solver_pp_2s"), (0.0, 0.5, 1.0)),
    "lms": Against(published.lms),
    "dpmpp_sde": Against(published.dpmpp_sde, (0.0, 0.5, 1.0)),
    "dpmpp_2m_sde_heun": Against(published.exponential_2, (0.0, 0.5, 1.0)),
    "res_multistep": Against(published.exponential_2),
    "dpmpp_3m_sde": Against(published.dpmpp_3m_sde, (0.0, 0.5, 1.0)),
    "dpm_fast": Against(published.dpm_fast, (0.0, 1.0)),
    "dpm_adaptive": Against(published.dpm_adaptive, (0.0, 1.0)),
    "restart": Against(published.restart),
}


def schedule_of(prediction: str) -> NoiseSchedule:
    """Stable Diffusion's levels, or a flow."""
    return FlowSchedule() if prediction == "flow" else scaled_linear()


def run_ours(
    name: str, denoise: Any, x: Tensor, sigmas: Tensor, noises: Iterator[Tensor], eta: float | None
) -> list[Step]:
    """All steps of a sampler."""
    return list(SAMPLERS[name].function(denoise, x, sigmas, listed(noises), SamplerOptions(eta=eta)))


def published_error(name: str, spacing: str, prediction: str, eta: float = 0.0, steps: int = STEPS) -> float:
    """Largest error beside the reference of `PUBLISHED`, both computing in float64.

    A flow begins at sigma 100, where the references' coordinates still hold.
    """
    schedule = schedule_of(prediction)
    sigmas = spaced_sigmas(spacing, steps, schedule).double()
    sigmas[0] = min(float(sigmas[0]), 100.0)
    denoise = NetworkDenoiser(network, schedule, PREDICTIONS[prediction])
    start = PREDICTIONS[prediction].start(unit_noise(0).double(), sigmas[0])
    if SAMPLERS[name].one_at_a_time:
        start = start[:1]
    sized = [noise[: len(start)].double() for noise in NOISES]
    ours = run_ours(name, denoise, start, sigmas, iter(sized), eta if SAMPLERS[name].reads_eta else None)
    theirs = PUBLISHED[name].run(denoise, start, sigmas, iter(sized), eta)
    return compare(ours, theirs)


@dataclass(frozen=True)
class Peer:
    """A scheduler of diffusers: its class, its settings, and where it is comparable."""

    kind: str
    config: dict[str, Any]
    spacings: tuple[str, ...]
    predictions: tuple[str, ...] = ("epsilon", "v")
    state: State = "exploding"
    left_out: int = 0
    """So many of its last steps go to another level than 0."""
    doubled: bool = False
    """Its first of our steps takes two of its own."""
    steps: int = STEPS


SPACINGS_OF_PEERS: dict[str, dict[str, Any]] = {
    "leading": {"timestep_spacing": "leading", "steps_offset": 1},
    "trailing": {"timestep_spacing": "trailing"},
    "linspace": {"timestep_spacing": "linspace"},
    "karras": {"use_karras_sigmas": True},
    "exponential": {"use_exponential_sigmas": True},
    "lcm": {},
}
_PLAIN = ("leading", "trailing", "linspace")
_ALL = ("epsilon", "v", "x0")
_UNIPC = {"solver_order": 3, "final_sigmas_type": "zero"}
_2M: dict[str, Any] = {"solver_order": 2}
_UNCLIPPED = {"clip_sample": False}
PEERS: dict[str, Peer] = {
    "ddpm": Peer("DDPMScheduler", _UNCLIPPED, ("leading", "trailing"), _ALL, "preserving"),
    "ddim": Peer("DDIMScheduler", _UNCLIPPED, ("leading",), _ALL, "preserving"),
    "euler": Peer("EulerDiscreteScheduler", {}, (*_PLAIN, "karras", "exponential")),
    "euler_ancestral": Peer("EulerAncestralDiscreteScheduler", {}, _PLAIN),
    "heun": Peer("HeunDiscreteScheduler", {}, ("leading", "karras"), _ALL),
    "dpmpp_2m": Peer("DPMSolverMultistepScheduler", _2M, ("trailing",), _ALL, "preserving"),
    "dpmpp_2m_sde": Peer(
        "DPMSolverMultistepScheduler", _2M | {"algorithm_type": "sde-dpmsolver++"}, ("trailing",), _ALL, "preserving"
    ),
    "lcm": Peer("LCMScheduler", _UNCLIPPED, ("lcm",), _ALL, "preserving", steps=8),
    "dpm_2": Peer("KDPM2DiscreteScheduler", {}, _PLAIN),
    "dpm_2_ancestral": Peer("KDPM2AncestralDiscreteScheduler", {}, _PLAIN),
    "lms": Peer("LMSDiscreteScheduler", {}, (*_PLAIN, "karras")),
    # Of a v prediction it averages v instead of the noise.
    "plms": Peer(
        "PNDMScheduler",
        {"skip_prk_steps": True, "set_alpha_to_one": True},
        ("leading",),
        ("epsilon",),
        "preserving",
        doubled=True,
    ),
    # Its first level is of its own kind, so it is given ours, and what it wants is v.
    "ipndm": Peer("IPNDMScheduler", {}, ("trailing", "karras"), ("v",), "preserving"),
    "deis": Peer("DEISMultistepScheduler", {"solver_order": 3}, ("trailing",), _ALL, "preserving", left_out=1),
    # To sigma 0 it multiplies 0 by infinity.
    "unipc": Peer(
        "UniPCMultistepScheduler", _UNIPC | {"solver_type": "bh1"}, ("trailing",), _ALL, "preserving", left_out=1
    ),
    "unipc_bh2": Peer("UniPCMultistepScheduler", _UNIPC | {"solver_type": "bh2"}, ("trailing",), _ALL, "preserving"),
    "tcd": Peer("TCDScheduler", {}, ("lcm",), _ALL, "preserving", left_out=1, steps=8),
}


def scheduler_of(row: Peer, spacing: str, prediction: str, sigmas: Tensor) -> Any:
    """A scheduler whose timesteps are set and whose levels are exact."""
    kind = getattr(diffusers, row.kind)
    if row.kind == "IPNDMScheduler":
        scheduler = kind()
        scheduler.set_timesteps(len(sigmas) - 1)
        scheduler.betas = sigmas.double() / (1 + sigmas.double() ** 2).sqrt()
        scheduler.alphas = 1 / (1 + sigmas.double() ** 2).sqrt()
        scheduler.timesteps = scaled_linear().timestep(sigmas[:-1])
        return scheduler
    scheduler = kind(prediction_type=WORDS[prediction], **SD, **SPACINGS_OF_PEERS[spacing] | row.config)
    scheduler.alphas_cumprod = SIGNAL.clone()
    scheduler.set_timesteps(len(sigmas) - 1)
    if row.kind.startswith(("DEIS", "UniPC")):
        # In float32 their weights, differences of logarithms, err by up to 1e-4.
        scheduler.sigmas = torch.cat([sigmas[:-1].double(), scheduler.sigmas[-1:].double()])
    return scheduler


def peer_error(name: str, spacing: str, prediction: str, patch: Patch) -> float:
    """Largest error beside a scheduler of diffusers; ours computes in float32."""
    row, schedule = PEERS[name], scaled_linear()
    sigmas = spaced_sigmas(spacing, row.steps, schedule)
    scheduler = scheduler_of(row, spacing, prediction, sigmas)
    drawn = iter(NOISES)
    module = importlib.import_module(type(scheduler).__module__)
    if hasattr(module, "randn_tensor"):
        patch.setattr(module, "randn_tensor", lambda shape, dtype, **kwargs: next(drawn).to(dtype))
    x = PREDICTIONS[prediction].start(unit_noise(0), sigmas[0])
    start = unit_noise(0).double() if row.state == "preserving" else x
    levels = torch.cat([sigmas[:2], sigmas[1:]]) if row.doubled else sigmas
    theirs = run_peer(scheduler, start, levels, row.state)[int(row.doubled) :]
    denoise = NetworkDenoiser(network, schedule, PREDICTIONS[prediction])
    ours = list(SAMPLERS[name].function(denoise, x, sigmas, listed(NOISES), SamplerOptions(schedule=schedule)))
    kept = len(ours) - row.left_out
    return compare(ours[:kept], theirs[:kept])


def cfgpp_error(spacing: str, prediction: str, scale: float) -> float:
    """Largest error of DDIM CFG++ beside its paper, float64."""
    schedule = schedule_of(prediction)
    assert isinstance(schedule, DiscreteSchedule)
    sigmas = spaced_sigmas(spacing, STEPS, schedule).double()
    wanted = NetworkDenoiser(network, schedule, PREDICTIONS[prediction])
    unwanted = NetworkDenoiser(lambda x, t: network(x.roll(1, dims=-1), t), schedule, PREDICTIONS[prediction])

    def pair(x: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        return wanted(x, sigma), unwanted(x, sigma)

    start = PREDICTIONS[prediction].start(unit_noise(0).double(), sigmas[0])
    ours = run_ours("ddim_cfgpp", guided(pair, wanted, scale), start, sigmas, iter(NOISES), None)
    theirs = published.ddim_cfgpp(pair, start, sigmas, scale)
    return compare(ours, theirs)
