"""Whole pictures beside diffusers' pipelines with the same weights, words and noise: tokenizer to pixels."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

from rein.diffusion.noise import PictureNoise
from rein.images import pil_to_tensor
from tests.pipeline.peers import SCHEDULE, SIDE, Peers

PROMPT, NEGATIVE = "a Red apple, naïve style, on a table", "blurry; 2 of them"
SEED = 11


def pipeline(peers: Peers, family: str, scheduler: Any) -> Any:
    """diffusers' own pipeline of the family."""
    from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline

    parts = (peers.autoencoder, *peers.towers, *peers.tokenizers, peers.unet, scheduler)
    if family == "sdxl":
        built = StableDiffusionXLPipeline(*parts, add_watermarker=False)
    else:
        built = StableDiffusionPipeline(*parts, None, None, requires_safety_checker=False)
    built.set_progress_bar_config(disable=True)
    return built


def reference(peers: Peers, family: str, scheduler: Any, **options: Any) -> Tensor:
    """diffusers' picture, (3, H, W) in [-1, 1], from the noise that our seed stands for."""
    noise = PictureNoise([SEED]).draw((4, SIDE // 4, SIDE // 4))
    drawn = pipeline(peers, family, scheduler)(
        PROMPT, negative_prompt=NEGATIVE, latents=noise, num_inference_steps=5, guidance_scale=6.0,
        height=SIDE, width=SIDE, output_type="pt", **options,
    )  # fmt: skip
    picture: Tensor = drawn.images[0] * 2 - 1
    return picture


def spacing_of(sampler: str, family: str) -> str:
    """Where diffusers' Euler starts at sqrt(1 + sigma²) times the noise, as we do; for other spacings it is sigma."""
    return "leading" if sampler == "euler" and not family.endswith("zero-snr") else "trailing"


def scheduler_of(name: str, family: str) -> Any:
    import diffusers

    options: dict[str, Any] = {**SCHEDULE, "steps_offset": 1}
    options["prediction_type"] = "v_prediction" if family.startswith("sd2") else "epsilon"
    options["rescale_betas_zero_snr"] = family.endswith("zero-snr")
    options["timestep_spacing"] = spacing_of(name, family)
    if name == "ddim":
        return diffusers.DDIMScheduler(**options, clip_sample=False, set_alpha_to_one=True)
    return diffusers.EulerDiscreteScheduler(**options)


CASES = [
    ("sd1", "euler"),
    ("sd1", "ddim"),
    ("sd2", "euler"),
    ("sd2", "ddim"),
    ("sd2-zero-snr", "euler"),
    ("sdxl", "euler"),
    ("sdxl", "ddim"),
]


def psnr(ours: Image.Image, theirs: Tensor) -> float:
    """In dB; rounding to 8 bits alone leaves 58.9."""
    return float(10 * torch.log10(4.0 / (pil_to_tensor(ours) - theirs.clamp(-1, 1)).square().mean()))


def ours(peers: Peers, prompt: str = PROMPT, negative: str = NEGATIVE, **options: object) -> Image.Image:
    settings = {"seed": SEED, "steps": 5, "guidance_scale": 6.0, "sampler": "ddim", "spacing": "trailing", **options}
    return peers.model.generate(prompt, negative_prompt=negative, **settings).images[0]


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # diffusers' Euler and numpy 2
@pytest.mark.parametrize(("family", "sampler"), CASES)
def test_a_picture_equals_diffusers(peers_of: Any, family: str, sampler: str) -> None:
    peers = peers_of(family)
    theirs = reference(peers, family, scheduler_of(sampler, family))
    assert float(theirs.std()) > 0.05
    assert psnr(ours(peers, sampler=sampler, spacing=spacing_of(sampler, family)), theirs) >= 58


def test_guidance_rescale_equals_diffusers(peers_of: Any) -> None:
    peers = peers_of("sd2")
    theirs = reference(peers, "sd2", scheduler_of("ddim", "sd2"), guidance_rescale=0.7)
    assert psnr(ours(peers, guidance_rescale=0.7), theirs) >= 58
    assert psnr(ours(peers), theirs) < 55


def test_the_comparison_would_see_another_prompt(peers_of: Any) -> None:
    """Words move the picture by far more than the bound of the tests above."""
    peers = peers_of("sd1")
    picture = pil_to_tensor(ours(peers))
    for prompt, negative in ((PROMPT + " now", NEGATIVE), (PROMPT, "blurry; 3 of them")):
        assert psnr(ours(peers, prompt, negative), picture) < 50
