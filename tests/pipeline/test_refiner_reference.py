"""SDXL's base and refiner one after the other, and SDXL's work with pictures, beside diffusers."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from benchmarks.families import Peers, build_peers, ddim, family
from rein.diffusion.noise import PictureNoise
from rein.images import pil_to_tensor
from rein.pipeline.model import Model, load

PROMPT, NEGATIVE, SEED, STEPS, SIDE = "a red apple", "blurry", 11, 5, 64


@pytest.fixture(scope="module")
def pair_of(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Gives a family's peers and our model of their folder."""

    @cache
    def build(name: str) -> tuple[Peers, Model, Path]:
        folder = tmp_path_factory.mktemp(name)
        peers = build_peers(family(name, full=False), folder)
        peers.pipeline().save_pretrained(folder / "model")
        return peers, load(folder / "model", "cpu", "float32"), folder / "model"

    return build


@pytest.fixture
def picture() -> Image.Image:
    rows, columns = np.mgrid[:SIDE, :SIDE]
    return Image.fromarray(np.stack([rows * 4, columns * 4, (rows + columns) * 2], axis=-1).astype(np.uint8))


def psnr(one: Image.Image, other: Tensor) -> float:
    return float(10 * torch.log10(4.0 / (pil_to_tensor(one) - other.clamp(-1, 1)).square().mean()))


def ours(model: Model, **options: Any) -> Image.Image:
    settings = {"seed": SEED, "steps": STEPS, "guidance_scale": 6.0, "sampler": "ddim", "spacing": "trailing"}
    return model.generate(PROMPT, negative_prompt=NEGATIVE, **settings, **options).images[0]


def test_base_and_refiner(pair_of: Any) -> None:
    base_peers, base, _ = pair_of("sdxl")
    refiner_peers, _, refiner = pair_of("sdxl-refiner")
    words = {"prompt": PROMPT, "negative_prompt": NEGATIVE, "num_inference_steps": STEPS, "guidance_scale": 6.0}
    noise = PictureNoise([SEED]).draw((4, SIDE // 8, SIDE // 8))
    sizes = {"original_size": (SIDE, SIDE), "target_size": (SIDE, SIDE)}
    half = base_peers.pipeline()(
        **words, **sizes, latents=noise, denoising_end=0.6, output_type="latent", height=SIDE, width=SIDE
    ).images
    done = refiner_peers.pipeline()(**words, **sizes, image=half, denoising_start=0.6, output_type="latent").images
    with torch.no_grad():
        expected = base_peers.autoencoder.decode(done / base_peers.autoencoder.config.scaling_factor).sample[0]
    made = ours(base, refiner=refiner, refiner_switch=0.6)
    assert psnr(made, expected) >= 57
    assert psnr(ours(base), expected) < 45 and psnr(ours(base, refiner=refiner, refiner_switch=0.8), expected) < 50


def test_image_to_image_with_sdxl(pair_of: Any, picture: Image.Image, monkeypatch: pytest.MonkeyPatch) -> None:
    import diffusers.pipelines.stable_diffusion_xl.pipeline_stable_diffusion_xl_img2img as module

    peers, model, _ = pair_of("sdxl")
    monkeypatch.setattr(module, "randn_tensor", lambda shape, **_: PictureNoise([SEED]).draw(tuple(shape)[1:]))
    monkeypatch.setattr(module, "retrieve_latents", lambda output, *_, **__: output.latent_dist.mode())
    parts = (peers.autoencoder, *peers.towers, *peers.tokenizers, peers.unet, ddim(peers.family.spec))
    built = module.StableDiffusionXLImg2ImgPipeline(*parts, add_watermarker=False)
    built.set_progress_bar_config(disable=True)
    sizes = {"original_size": (SIDE, SIDE), "target_size": (SIDE, SIDE)}
    drawn = built(
        PROMPT, negative_prompt=NEGATIVE, image=picture, strength=0.6, num_inference_steps=STEPS, guidance_scale=6.0,
        output_type="pt", **sizes,
    )  # fmt: skip
    assert psnr(ours(model, init_image=picture, strength=0.6), drawn.images[0] * 2 - 1) >= 57
