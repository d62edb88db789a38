"""Other names of samplers, in plain form: those of other programs that are not found by rule.

Rules (`plain_name`): case, spaces and hyphens do not matter, "++" is "pp", and k-diffusion's "sample_" and "k_" and
ComfyUI's "_gpu" (the same sampler, with its noise drawn on the device) are left away.
"""

from __future__ import annotations

from collections.abc import Mapping

ALIASES: Mapping[str, tuple[str, ...]] = {
    "dpmpp_2m": ("dpmsolvermultistepscheduler", "edmdpmsolvermultistepscheduler", "dpm_solver", "dpmsolver"),
    "dpmpp_sde": ("dpmsolversdescheduler",),
    "dpmpp_2s_ancestral": ("dpmpp_2s", "dpmsolversinglestepscheduler", "dpmpp_2sa"),
    "dpmpp_3m_sde": ("dpmpp_3m",),
    "euler_ancestral": ("eulerancestraldiscretescheduler",),
    "euler": ("eulerdiscretescheduler", "flowmatcheulerdiscretescheduler", "edmeulerscheduler"),
    "lms": ("lmsdiscretescheduler",),
    "heun": ("heundiscretescheduler", "flowmatchheundiscretescheduler"),
    "dpm_2": ("kdpm2discretescheduler", "kdpm_2"),
    "dpm_2_ancestral": ("kdpm2ancestraldiscretescheduler", "dpm_2_a", "kdpm_2_a", "kdpm_2_ancestral"),
    "dpm_adaptive": ("dpm_ad",),
    "restart": ("restart_sampler",),
    "ddim": ("ddimscheduler", "ddimparallelscheduler"),
    "ddim_cfgpp": ("ddim_cfg_pp",),
    "plms": ("pndm", "pndmscheduler"),
    "unipc": ("uni_pc",),
    "unipc_bh2": ("uni_pc_bh2", "unipcmultistepscheduler"),
    "lcm": ("lcmscheduler", "flowmatchlcmscheduler"),
    "tcd": ("tcdscheduler",),
    "deis": ("deismultistepscheduler",),
    "ipndm": ("ipndmscheduler",),
    "ddpm": ("ddpmscheduler", "ddpmparallelscheduler"),
}
"""By the sampler's own name."""

SPACING_SUFFIXES: Mapping[str, str] = {
    "_align_your_steps": "align_your_steps",
    "_sgm_uniform": "sgm_uniform",
    "_sgmuniform": "sgm_uniform",
    "_polyexponential": "polyexponential",
    "_exponential": "exponential",
    "_kl_optimal": "kl_optimal",
    "_trailing": "trailing",
    "_uniform": "uniform",
    "_karras": "karras",
    "_simple": "simple",
    "_normal": "normal",
    "_beta": "beta",
    "_ka": "karras",
    "_k": "karras",
}
"""What the end of a combined name says of the spacing; "_ka" is of the web UI's short names, "_k" of InvokeAI's."""


def plain_name(name: str) -> str:
    """ "DPM++ 2M" and "k_dpmpp_2m" -> "dpmpp_2m"."""
    plain = name.strip().lower().replace("++", "pp").replace(" ", "_").replace("-", "_")
    return plain.removeprefix("sample_").removeprefix("k_").removesuffix("_gpu")
