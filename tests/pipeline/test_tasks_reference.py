"""Work that begins with a picture, beside diffusers' pipelines with the same weights, words and noise.

diffusers gets the latents that our autoencoder made of the picture where its pipeline takes them: its own would draw
from the autoencoder's distribution, ours takes the mean.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from rein.diffusion.noise import PictureNoise
from rein.images import pil_to_tensor
from tests.pipeline.peers import SCHEDULE, SIDE, Peers

PROMPT, NEGATIVE, SEED = "a red apple", "blurry", 11
PeerLoader = Callable[[str], Peers]
BOUND = 57.0
"""dB; rounding to 8 bits alone leaves 58.9, and the mask's edge is rounded once more."""


@pytest.fixture
def picture() -> Image.Image:
    rows, columns = np.mgrid[:SIDE, :SIDE]
    levels = np.stack([rows * 4, columns * 4, (rows + columns) * 2], axis=-1)
    return Image.fromarray(levels.astype(np.uint8))


@pytest.fixture
def mask() -> Image.Image:
    levels = np.zeros((SIDE, SIDE), dtype=np.uint8)
    levels[16:48, 20:60] = 255
    return Image.fromarray(levels)


def scheduler() -> Any:
    import diffusers

    return diffusers.DDIMScheduler(
        **SCHEDULE, steps_offset=1, clip_sample=False, set_alpha_to_one=True, timestep_spacing="trailing"
    )


def theirs(peers: Peers, kind: str, **options: Any) -> Tensor:
    """diffusers' picture, (3, H, W) in [-1, 1]."""
    import diffusers

    parts = (peers.autoencoder, *peers.towers, *peers.tokenizers, peers.unet, scheduler())
    pipeline_class = getattr(diffusers, kind)
    if "Depth" in kind:
        built = pipeline_class(*parts, None, None)
    else:
        built = pipeline_class(*parts, None, None, requires_safety_checker=False)
    built.set_progress_bar_config(disable=True)
    drawn = built(PROMPT, negative_prompt=NEGATIVE, guidance_scale=6.0, output_type="pt", **options)
    picture: Tensor = drawn.images[0] * 2 - 1
    return picture


def ours(peers: Peers, **options: Any) -> Image.Image:
    settings = {"seed": SEED, "steps": 5, "guidance_scale": 6.0, "sampler": "ddim", "spacing": "trailing", **options}
    return peers.model.generate(PROMPT, negative_prompt=NEGATIVE, **settings).images[0]


def psnr(one: Image.Image, other: Tensor) -> float:
    return float(10 * torch.log10(4.0 / (pil_to_tensor(one) - other.clamp(-1, 1)).square().mean()))


@pytest.fixture
def our_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    """diffusers draws the noise that our seed stands for, and takes the means of what it encodes."""
    import diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion_depth2img as depth
    import diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion_img2img as plain
    import diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion_inpaint as inpaint
    import diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion_instruct_pix2pix as edit

    def drawn(shape: Any, **_: Any) -> Tensor:
        return PictureNoise([SEED]).draw(tuple(shape)[1:])

    def means(output: Any, *_: Any, **__: Any) -> Tensor:
        latents: Tensor = output.latent_dist.mode()
        return latents

    for module in (depth, plain, inpaint, edit):
        monkeypatch.setattr(module, "randn_tensor", drawn)
        monkeypatch.setattr(module, "retrieve_latents", means)


@pytest.mark.usefixtures("our_noise")
@pytest.mark.parametrize("strength", [0.5, 0.84, 1.0])
@pytest.mark.parametrize("family", ["sd1"])
def test_image_to_image(peers_of: PeerLoader, picture: Image.Image, family: str, strength: float) -> None:
    peers = peers_of(family)
    reference = theirs(peers, "StableDiffusionImg2ImgPipeline", image=picture, strength=strength, num_inference_steps=5)
    assert psnr(ours(peers, init_image=picture, strength=strength), reference) >= BOUND
    assert psnr(ours(peers, init_image=picture, strength=0.3), reference) < 50


@pytest.mark.usefixtures("our_noise")
@pytest.mark.parametrize("strength", [0.6, 1.0])
@pytest.mark.parametrize("family", ["sd1", "inpainting"])
def test_inpainting_with_a_plain_model_and_one_made_for_it(
    peers_of: PeerLoader, picture: Image.Image, mask: Image.Image, family: str, strength: float
) -> None:
    peers = peers_of(family)
    options: dict[str, Any] = {
        "image": picture,
        "mask_image": mask,
        "strength": strength,
        "height": SIDE,
        "width": SIDE,
    }
    reference = theirs(peers, "StableDiffusionInpaintPipeline", num_inference_steps=5, **options)
    made = np.asarray(ours(peers, init_image=picture, mask=mask, strength=strength, mask_blur=0.0))
    # Beside diffusers' picture within the mask; outside it ours is the source, to the bit.
    inside = np.asarray(mask) > 0
    their_pixels = np.rint((reference.clamp(-1, 1).permute(1, 2, 0).numpy() + 1) * 127.5)
    assert np.abs(made[inside].astype(float) - their_pixels[inside]).max() <= 1
    assert np.array_equal(made[~inside], np.asarray(picture)[~inside])


@pytest.mark.usefixtures("our_noise")
def test_depth_to_image(peers_of: PeerLoader, picture: Image.Image) -> None:
    peers = peers_of("depth")
    rows, columns = np.mgrid[:SIDE, :SIDE]
    depth = ((np.sin(rows / 9) + np.cos(columns / 7)) * 60 + 120).astype(np.uint8)
    options: dict[str, Any] = {
        "depth_map": torch.from_numpy(depth / 255.0)[None].float(),
        "strength": 0.84,
        "num_inference_steps": 5,
    }
    reference = theirs(peers, "StableDiffusionDepth2ImgPipeline", image=picture, **options)
    made = ours(peers, init_image=picture, depth_image=Image.fromarray(depth), strength=0.84)
    assert psnr(made, reference) >= BOUND
    assert psnr(ours(peers, init_image=picture, strength=0.84), reference) < BOUND - 6


@pytest.mark.usefixtures("our_noise")
@pytest.mark.parametrize("keep", [1.0, 1.5])
def test_editing_by_words(peers_of: PeerLoader, picture: Image.Image, keep: float) -> None:
    peers = peers_of("editing")
    reference = theirs(
        peers, "StableDiffusionInstructPix2PixPipeline", image=picture, image_guidance_scale=keep, num_inference_steps=5
    )
    assert psnr(ours(peers, init_image=picture, image_guidance_scale=keep), reference) >= BOUND
    assert psnr(ours(peers, init_image=picture, image_guidance_scale=keep + 1), reference) < 50
