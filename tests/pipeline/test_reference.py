"""Whole pictures beside diffusers' pipelines with the same weights, words and noise: tokenizer to pixels."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

from rein.diffusion.noise import PictureNoise
from rein.formats.checkpoint import save_model
from rein.images import pil_to_tensor
from rein.nn.autoencoder import Autoencoder
from rein.nn.clip import TextTower
from rein.nn.specs import SD15, SD21, SDXL, ModelSpec, ScheduleConfig, TextTowerConfig
from rein.nn.unet import UNet
from rein.pipeline.model import Model, load
from rein.text.vocabulary import clip_vocabulary
from tests.nn.peers import (
    SMALL_AUTOENCODER,
    SMALL_AUTOENCODER_PEER,
    SMALL_UNETS,
    autoencoder_peer,
    native_state,
    small_tower,
    unet_peer,
)

PROMPT, NEGATIVE = "a Red apple, naïve style, on a table", "blurry; 2 of them"
SEED, SIDE = 11, 64

SCHEDULE = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012, "num_train_timesteps": 1000}


def _tower(config: TextTowerConfig, width: int) -> TextTowerConfig:
    small = replace(config, width=width, layers=2, heads=2, feed_forward_width=24)
    return replace(small, projection_width=28 if config.projection_width else 0)


def _spec(family: str, published: ModelSpec, widths: tuple[int, ...], **changes: Any) -> ModelSpec:
    towers = tuple(_tower(tower, width) for tower, width in zip(published.towers, widths, strict=True))
    unet = SMALL_UNETS[family].config
    return replace(published, unet=unet, autoencoder=SMALL_AUTOENCODER, towers=towers, native_size=SIDE, **changes)


SPECS = {
    "sd1": _spec("sd1", SD15, (20,)),
    "sd2": _spec("sd2", SD21, (20,)),
    "sd2-zero-snr": _spec("sd2", SD21, (20,), schedule=ScheduleConfig(zero_terminal_snr=True)),
    "sdxl": _spec("sdxl", SDXL, (8, 12)),
}


@dataclass(frozen=True)
class Peers:
    """The same model in diffusers' and transformers' classes, and in ours."""

    model: Model
    unet: Any
    autoencoder: Any
    towers: list[Any]
    tokenizers: list[Any]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("peers")


@pytest.fixture(scope="module")
def tokenizers(folder: Path) -> dict[int, Any]:
    """transformers' CLIP tokenizer by what it pads with: the end (49407), or "!" (0) as for OpenCLIP's towers."""
    from transformers import CLIPTokenizer

    vocabulary = clip_vocabulary()
    (folder / "vocab.json").write_text(json.dumps(vocabulary.ids), encoding="utf-8")
    merges = "".join(f"{first} {second}\n" for first, second in vocabulary.merges)
    (folder / "merges.txt").write_text("#version: 0.2\n" + merges, encoding="utf-8")
    signs = {49407: "<|endoftext|>", 0: "!"}
    return {
        pad: CLIPTokenizer.from_pretrained(folder, model_max_length=77, pad_token=sign) for pad, sign in signs.items()
    }


@pytest.fixture(scope="module")
def peers_of(folder: Path, tokenizers: dict[int, Any]) -> Any:
    """Builds the peers of a family with random weights, and our model from their weights, through a model folder."""

    @cache
    def build(family: str) -> Peers:
        spec = SPECS[family]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(5)
            unet = unet_peer(SMALL_UNETS[family.removesuffix("-zero-snr")].peer).eval()
            autoencoder = autoencoder_peer(SMALL_AUTOENCODER_PEER).eval()
            towers = [small_tower(config).eval() for config in spec.towers]
            with torch.no_grad():
                unet.get_parameter("conv_out.weight").mul_(4.0)  # so that words and noise move the picture
        ours = [UNet(spec.unet), Autoencoder(spec.autoencoder), *(TextTower(config) for config in spec.towers)]
        for module, peer in zip(ours, [unet, autoencoder, *towers], strict=True):
            module.load_state_dict(native_state(peer))
        save_model(folder / family, spec, ours[0], ours[1], ours[2:], dtype=torch.float32)  # type: ignore[arg-type]
        words = [tokenizers[config.pad_token] for config in spec.towers]
        return Peers(load(folder / family, "cpu", "float32"), unet, autoencoder, towers, words)

    return build


def pipeline(peers: Peers, family: str, scheduler: Any) -> Any:
    """diffusers' own pipeline of the family."""
    from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline

    peers.autoencoder.register_to_config(scaling_factor=SPECS[family].latent_scale, force_upcast=False)
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
