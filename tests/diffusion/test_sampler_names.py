"""Every name by which people and programs ask for a sampler is understood."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rein.diffusion.aliases import ALIASES, SPACING_SUFFIXES
from rein.diffusion.samplers import SAMPLERS, choose_sampler, find_sampler
from rein.diffusion.spacing import SPACINGS, find_spacing
from rein.errors import InputError

WEB_UI = {
    "DPM++ 2M": "dpmpp_2m",
    "DPM++ SDE": "dpmpp_sde",
    "DPM++ 2M SDE": "dpmpp_2m_sde",
    "DPM++ 2M SDE Heun": "dpmpp_2m_sde_heun",
    "DPM++ 2S a": "dpmpp_2s_ancestral",
    "DPM++ 3M SDE": "dpmpp_3m_sde",
    "Euler a": "euler_ancestral",
    "Euler": "euler",
    "LMS": "lms",
    "Heun": "heun",
    "DPM2": "dpm_2",
    "DPM2 a": "dpm_2_ancestral",
    "DPM fast": "dpm_fast",
    "DPM adaptive": "dpm_adaptive",
    "Restart": "restart",
    "DDIM": "ddim",
    "DDIM CFG++": "ddim_cfgpp",
    "PLMS": "plms",
    "UniPC": "unipc",
    "LCM": "lcm",
}
"""The labels of AUTOMATIC1111's web UI 1.10."""

SHORT: dict[str, tuple[str, str | None]] = {
    "k_euler_a": ("euler_ancestral", None),
    "k_dpm_2_a": ("dpm_2_ancestral", None),
    "k_dpm_ad": ("dpm_adaptive", None),
    "k_dpmpp_2s_a": ("dpmpp_2s_ancestral", None),
    "k_dpmpp_2m_ka": ("dpmpp_2m", "karras"),
    "k_dpm_2_a_ka": ("dpm_2_ancestral", "karras"),
    "DPM++ 2M Karras": ("dpmpp_2m", "karras"),
    "DPM++ 2M SDE Heun Exponential": ("dpmpp_2m_sde_heun", "exponential"),
    "DPM++ 2S a Karras": ("dpmpp_2s_ancestral", "karras"),
    "DPM++ 3M SDE SGM Uniform": ("dpmpp_3m_sde", "sgm_uniform"),
    "LMS Karras": ("lms", "karras"),
    "sample_dpmpp_2s_ancestral": ("dpmpp_2s_ancestral", None),
    "dpmpp_2m_sde_gpu": ("dpmpp_2m_sde", None),
    "dpmpp_2m_sde_heun_gpu": ("dpmpp_2m_sde_heun", None),
    "dpmpp_3m_sde_gpu": ("dpmpp_3m_sde", None),
    "uni_pc": ("unipc", None),
    "uni_pc_bh2": ("unipc_bh2", None),
    "dpmpp_2m_k": ("dpmpp_2m", "karras"),
    "EulerAncestralDiscreteScheduler": ("euler_ancestral", None),
    "DPMSolverSDEScheduler": ("dpmpp_sde", None),
    "FlowMatchEulerDiscreteScheduler": ("euler", None),
}


@pytest.mark.parametrize(("label", "name"), WEB_UI.items())
def test_labels_of_the_web_ui(label: str, name: str) -> None:
    info = SAMPLERS[name]
    assert info.label == label
    for written in (
        label,
        label.upper(),
        f" {label.lower()} ",
        label.replace(" ", "-"),
        name,
        f"sample_{name}",
        f"k_{name}",
    ):
        assert choose_sampler(written).info is info
        assert choose_sampler(written).spacing is None


@pytest.mark.parametrize(("name", "meant"), SHORT.items())
def test_names_of_other_programs(name: str, meant: tuple[str, str | None]) -> None:
    choice = choose_sampler(name)
    assert (choice.info.name, choice.spacing) == meant


def test_names_are_of_one_sampler_each() -> None:
    assert ALIASES.keys() <= SAMPLERS.keys()
    names = [name for info in SAMPLERS.values() for name in {info.name, *info.aliases}]
    assert len(names) == len(set(names))
    assert set(SPACING_SUFFIXES.values()) <= SPACINGS.keys()
    for info in SAMPLERS.values():
        assert all(find_sampler(name) is info for name in (info.name, info.label, *info.aliases))


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("spacing", ["Karras", "Exponential", "SGM Uniform", "Polyexponential", "KL Optimal", "Beta"])
def test_every_combined_name_says_both(sampler: str, spacing: str) -> None:
    choice = choose_sampler(f"{SAMPLERS[sampler].label} {spacing}")
    assert (choice.info.name, choice.spacing) == (sampler, find_spacing(spacing).name)


def test_unknown_names_give_the_nearest() -> None:
    with pytest.raises(InputError, match=r"unknown sampler 'eulr': did you mean 'euler'\? Known: 26 names"):
        find_sampler("eulr")
    with pytest.raises(InputError, match="did you mean 'dpmpp_2m_sde'"):
        find_sampler("DPM++ 2M SED")


@given(st.text(max_size=40))
def test_any_text_is_a_sampler_or_refused_in_one_line(text: str) -> None:
    message = ""
    try:
        assert choose_sampler(text).info in SAMPLERS.values()
    except InputError as error:
        message = str(error)
    assert "\n" not in message
