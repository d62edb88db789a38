"""Every family beside diffusers and transformers, shrunken: the checks of `benchmarks.conformance`.

The peers' own folder is loaded, written as a single file, read by diffusers' converters, loaded again, drawn with.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.conformance import ask_peers, compare, measure
from benchmarks.conformance_table import Row, table, write_table
from benchmarks.families import PUBLISHED, build_peers, family, question
from rein.formats.keys import part_names
from rein.formats.saving import ModuleSource, write_diffusers
from rein.formats.tensors import write_tensors
from rein.nn.autoencoder import Autoencoder
from rein.nn.specs import TAESD
from rein.nn.unet import UNet
from rein.pipeline.model import load
from tests.formats.small_files import single_file, small

SIDE = 64

pytestmark = pytest.mark.filterwarnings("ignore")  # what the peers warn of is theirs


FIRST_CONVOLUTION_ONLY = ("sd15-instruct-pix2pix", "sd2-inpainting", "sdxl-inpainting", "sdxl-instruct-pix2pix")
"""They differ from another family in one tensor: left to the long tests."""


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.slow] * (name in FIRST_CONVOLUTION_ONLY)) for name in PUBLISHED],
)
def test_a_family_answers_as_diffusers_does(name: str, tmp_path: Path) -> None:
    row = measure(name, False, SIDE, tmp_path)
    assert row.passed, row


def test_the_bounds_would_notice_another_model(tmp_path: Path) -> None:
    made = family("sd15", full=False)
    theirs = ask_peers(build_peers(made, tmp_path, seed=5), SIDE)
    peers = build_peers(made, tmp_path, seed=6)
    peers.pipeline().save_pretrained(tmp_path / "other")
    text, unet, decoded, picture = compare(load(tmp_path / "other", "cpu", "float32"), theirs, SIDE)
    assert min(text, unet, decoded) > 0.01 and picture < 40


@pytest.mark.parametrize("name", ["sd15", "sd21", "sdxl", "sdxl-refiner"])
def test_diffusers_reads_the_folder_that_rein_writes(name: str, tmp_path: Path) -> None:
    import diffusers

    spec, networks = small(name)
    write_diffusers(tmp_path, spec, ModuleSource(networks))
    pipeline = diffusers.DiffusionPipeline.from_pretrained(tmp_path)
    second = spec.unet.size_ids == 5
    towers = [pipeline.text_encoder_2] if second else [pipeline.text_encoder, getattr(pipeline, "text_encoder_2", None)]
    modules: list[Any] = [pipeline.unet, pipeline.vae, *(tower for tower in towers if tower is not None)]
    for part, module in zip(part_names(spec), modules, strict=True):
        ours = {key.removeprefix("text_model."): value for key, value in networks[part].state_dict().items()}
        theirs = {key.removeprefix("text_model."): value for key, value in module.state_dict().items()}
        theirs.pop("embeddings.position_ids", None)
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    words = pipeline.tokenizer_2 if second else pipeline.tokenizer
    sign = "!" if spec.towers[0].pad_token == 0 else "<|endoftext|>"
    assert (words.pad_token, words("a cat").input_ids) == (sign, [49406, 320, 2368, 49407])
    assert pipeline.scheduler.config.prediction_type == {"v": "v_prediction"}.get(spec.prediction, spec.prediction)


@torch.no_grad()
def test_the_tiny_autoencoder_answers_as_diffusers_does() -> None:
    from diffusers import AutoencoderTiny

    torch.manual_seed(2)
    theirs, ours = AutoencoderTiny().eval(), Autoencoder(TAESD).eval()
    ours.load_state_dict(theirs.state_dict())
    assert sum(p.numel() for p in ours.parameters()) == 2_445_063
    pixels, latents = torch.rand(1, 3, 64, 64) * 2 - 1, torch.randn(1, 4, 8, 8) * 2
    assert torch.allclose(ours.encode(pixels).mode(), theirs.encode(pixels).latents, atol=1e-6)
    assert torch.allclose(ours.decode(latents), theirs.decode(latents).sample, atol=1e-5)


@torch.no_grad()
def test_a_network_that_guides_itself_answers_as_diffusers_does() -> None:
    """A distilled LCM's U-Net is told the guidance scale with the time."""
    from diffusers import LatentConsistencyModelPipeline, UNet2DConditionModel

    made = family("sd15", full=False)
    kinds = made.unet["down_block_types"]
    up = tuple(kind.replace("Down", "Up") for kind in reversed(kinds))
    torch.manual_seed(2)
    theirs = UNet2DConditionModel(**made.unet, out_channels=4, up_block_types=up, time_cond_proj_dim=16).eval()
    ours = UNet(replace(made.spec.unet, guidance_width=16)).eval()
    ours.load_state_dict(theirs.state_dict())
    asked = question(made.spec.unet, 8)
    told = LatentConsistencyModelPipeline.get_guidance_scale_embedding(None, torch.tensor([6.5, 6.5]), 16)
    answer = theirs(asked["x"], asked["timestep"], asked["context"], timestep_cond=told).sample
    assert torch.allclose(ours(**asked, guidance=torch.tensor([7.5])), answer, atol=1e-5)
    assert not torch.allclose(ours(**asked, guidance=torch.tensor([2.0])), answer, atol=1e-3)
    [shifts] = ours.time_shifts(asked["timestep"][:1], guidance=torch.tensor([7.5]))
    assert torch.allclose(ours(asked["x"], asked["timestep"], asked["context"], time_shifts=shifts), answer, atol=1e-5)


def test_a_tiny_autoencoder_draws_in_place_of_the_models_own(tmp_path: Path) -> None:
    torch.manual_seed(3)
    write_tensors(tmp_path / "taesd.safetensors", Autoencoder(TAESD).state_dict())
    model = load(single_file(tmp_path), "cpu", vae=tmp_path / "taesd.safetensors")
    result = model.generate("an apple", steps=1, seed=1)
    assert result.images[0].size == (64, 64) and model.spec.autoencoder == TAESD


def test_the_table_keeps_rows_of_other_families(tmp_path: Path) -> None:
    rows = [Row(name, False, 10, 0.0, 1e-6, 1e-6, 59.0, True, True, True) for name in ("sdxl", "sd15")]
    path = tmp_path / "conformance.md"
    write_table(path, rows[:1])
    write_table(path, rows[1:])
    assert path.read_text().endswith(table(rows[::-1]) + "\n")
    bad = Row("sd15", False, 10, 0.0, 1e-3, 1e-6, 59.0, True, True, True)
    assert rows[0].passed and not bad.passed
