"""The table of all samplers, and how one is found by any of its names.

Every sampler acts on each number of x by itself, with coefficients that depend on sigma alone (DPM adaptive's on its
one picture), so a picture does not depend on its batch.
"""

from __future__ import annotations

from dataclasses import dataclass

from rein.diffusion.adaptive import dpm_adaptive
from rein.diffusion.aliases import ALIASES, SPACING_SUFFIXES, plain_name
from rein.diffusion.dpm_solver import dpm_fast
from rein.diffusion.first_order import ddim, ddim_cfgpp, ddpm, euler, euler_ancestral, lcm, tcd
from rein.diffusion.linear_multistep import deis, ipndm, lms, plms
from rein.diffusion.multistep import dpmpp_2m, dpmpp_2m_sde, dpmpp_2m_sde_heun, dpmpp_3m_sde, res_multistep
from rein.diffusion.restart import restart
from rein.diffusion.second_order import dpm_2, dpm_2_ancestral, heun
from rein.diffusion.single_step import dpmpp_2s_ancestral, dpmpp_sde
from rein.diffusion.step import Sampler, SamplerOptions, Step
from rein.diffusion.unipc import unipc, unipc_bh2
from rein.errors import InputError, nearest, quoted

__all__ = [
    "SAMPLERS",
    "Sampler",
    "SamplerChoice",
    "SamplerInfo",
    "SamplerOptions",
    "Step",
    "choose_sampler",
    "find_sampler",
]


@dataclass(frozen=True)
class SamplerInfo:
    """A sampler and what a person or a program wants to know before choosing it."""

    name: str
    label: str
    function: Sampler
    stochastic: bool
    """Adds noise on the way, unless eta is set to 0; with S_churn those that read it do, too."""
    default_spacing: str
    """What "Automatic" means: that of AUTOMATIC1111's web UI where it has this sampler."""
    evaluations_per_step: int = 1
    order: int = 1
    """Of convergence, without noise."""
    reads: tuple[str, ...] = ()
    """Names of the fields of `SamplerOptions` that it reads, besides coordinates and schedule."""
    own_steps: bool = False
    """Chooses its levels between the ends of those that it is given; their number may be another."""
    one_at_a_time: bool = False
    """Takes one picture at a time."""
    needs_negative: bool = False
    """Works only with a guided denoiser (`rein.diffusion.guidance.NegativeDenoiser`)."""
    discards_penultimate: bool = False
    """AUTOMATIC1111's web UI leaves the lowest level but 0 out (`SpacingOptions.discard_penultimate`)."""

    @property
    def reads_eta(self) -> bool:
        """Whether `eta` can be set."""
        return "eta" in self.reads

    @property
    def aliases(self) -> tuple[str, ...]:
        """Other names, in plain form; more are found by rule (see `choose_sampler`)."""
        return ALIASES.get(self.name, ())


_CHURN = ("s_churn", "s_tmin", "s_tmax", "s_noise")
_NOISE = ("eta", "s_noise")
_ROWS = (
    SamplerInfo("ddpm", "DDPM", ddpm, True, "leading"),
    SamplerInfo("ddim", "DDIM", ddim, False, "leading", reads=("eta",)),
    SamplerInfo("euler", "Euler", euler, False, "uniform", reads=_CHURN),
    SamplerInfo("euler_ancestral", "Euler a", euler_ancestral, True, "uniform", reads=_NOISE),
    SamplerInfo("heun", "Heun", heun, False, "uniform", 2, order=2, reads=_CHURN),
    SamplerInfo("dpmpp_2m", "DPM++ 2M", dpmpp_2m, False, "karras", order=2),
    SamplerInfo("dpmpp_sde", "DPM++ SDE", dpmpp_sde, True, "karras", 2, order=2, reads=_NOISE),
    SamplerInfo("dpmpp_2m_sde", "DPM++ 2M SDE", dpmpp_2m_sde, True, "exponential", order=2, reads=_NOISE),
    SamplerInfo(
        "dpmpp_2m_sde_heun", "DPM++ 2M SDE Heun", dpmpp_2m_sde_heun, True, "exponential", order=2, reads=_NOISE
    ),
    SamplerInfo("dpmpp_2s_ancestral", "DPM++ 2S a", dpmpp_2s_ancestral, True, "karras", 2, order=2, reads=_NOISE),
    SamplerInfo(
        "dpmpp_3m_sde",
        "DPM++ 3M SDE",
        dpmpp_3m_sde,
        True,
        "exponential",
        order=2,
        reads=_NOISE,
        discards_penultimate=True,
    ),
    SamplerInfo("lms", "LMS", lms, False, "uniform", order=4),
    SamplerInfo("dpm_2", "DPM2", dpm_2, False, "karras", 2, order=2, reads=_CHURN, discards_penultimate=True),
    SamplerInfo(
        "dpm_2_ancestral",
        "DPM2 a",
        dpm_2_ancestral,
        True,
        "karras",
        2,
        order=2,
        reads=_NOISE,
        discards_penultimate=True,
    ),
    SamplerInfo("dpm_fast", "DPM fast", dpm_fast, False, "uniform", 3, order=3, reads=_NOISE, own_steps=True),
    SamplerInfo(
        "dpm_adaptive",
        "DPM adaptive",
        dpm_adaptive,
        False,
        "uniform",
        3,
        order=3,
        reads=(*_NOISE, "tolerance"),
        own_steps=True,
        one_at_a_time=True,
    ),
    SamplerInfo("restart", "Restart", restart, True, "karras", 2, order=2, reads=("s_noise",), own_steps=True),
    SamplerInfo("ddim_cfgpp", "DDIM CFG++", ddim_cfgpp, False, "leading", reads=("eta",), needs_negative=True),
    SamplerInfo("plms", "PLMS", plms, False, "leading", order=4),
    SamplerInfo("unipc", "UniPC", unipc, False, "leading", order=3),
    SamplerInfo("unipc_bh2", "UniPC bh2", unipc_bh2, False, "leading", order=3),
    SamplerInfo("lcm", "LCM", lcm, True, "lcm"),
    SamplerInfo("tcd", "TCD", tcd, True, "lcm", reads=("eta",)),
    SamplerInfo("deis", "DEIS", deis, False, "karras", order=3),
    SamplerInfo("ipndm", "iPNDM", ipndm, False, "leading", order=4),
    SamplerInfo("res_multistep", "RES multistep", res_multistep, False, "karras", order=2),
)

SAMPLERS: dict[str, SamplerInfo] = {row.name: row for row in _ROWS}
"""Every sampler by name."""

_BY_ANY_NAME: dict[str, SamplerInfo] = {
    other: info for info in _ROWS for other in (*info.aliases, plain_name(info.label), info.name)
}


@dataclass(frozen=True)
class SamplerChoice:
    """What a name says: a sampler, and the spacing where the name holds one ("DPM++ 2M Karras")."""

    info: SamplerInfo
    spacing: str | None


def choose_sampler(name: str) -> SamplerChoice:
    """The sampler, and perhaps the spacing, that `name` means, in any case.

    Known are the names here, labels of AUTOMATIC1111's web UI, its old combined names, names of k-diffusion's functions
    ("sample_euler_ancestral", "k_dpmpp_2m_ka"), of ComfyUI ("dpmpp_2m_sde_gpu"), of InvokeAI and of diffusers' classes.

    Raises:
        InputError: there is none of that name; the message gives the nearest one.
    """
    plain = plain_name(name)
    info = _BY_ANY_NAME.get(plain)
    if info is not None:
        return SamplerChoice(info, None)
    for suffix, spacing in SPACING_SUFFIXES.items():
        info = _BY_ANY_NAME.get(plain.removesuffix(suffix))
        if info is not None:
            return SamplerChoice(info, spacing)
    raise InputError(f"unknown sampler {quoted(name)}: {nearest(plain, SAMPLERS)}")


def find_sampler(name: str) -> SamplerInfo:
    """The sampler that `name` means, whatever spacing the name holds. See `choose_sampler`."""
    return choose_sampler(name).info
