"""Previews: colours that come near to what is decoded, by least squares, by what is stored, by a small autoencoder."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from torch import Tensor
from torch.nn import functional

from rein.errors import DamagedFileError, InputError
from rein.formats.previews import PREVIEW_FILE, write_preview_colours
from rein.formats.tensors import write_tensors
from rein.images import pil_to_tensor, psnr
from rein.nn.autoencoder import Autoencoder
from rein.nn.specs import POCKET, TAESD
from rein.pipeline.model import Model, load
from rein.pipeline.preview import (
    Colours,
    colours_by_trial,
    colours_of,
    fit_colours,
    preview_of,
    side_by_side,
)
from tests.pipeline.conftest import Loader
from tests.pipeline.small import save_small


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_a_linear_decoder_is_found() -> None:
    """Latents whose pixels are a linear function of them, eight by eight."""
    true = Colours(random(5, 3, seed=1))
    latents = random(2, 4, 8, 6)
    pixels = functional.interpolate(true.pixels(latents), scale_factor=8, mode="nearest")
    found = fit_colours(latents, pixels)
    torch.testing.assert_close(found.weights, true.weights, atol=2e-3, rtol=1e-3)  # the penalty's share
    assert found.pixels(latents).shape == (2, 3, 8, 6)


def test_least_squares_are_those_of_numpy() -> None:
    latents, pixels = random(1, 4, 10, 10), random(1, 3, 10, 10, seed=1)
    rows = np.concatenate([latents[0].reshape(4, -1).T.numpy(), np.ones((100, 1), np.float32)], axis=1)
    expected, *_ = np.linalg.lstsq(rows, pixels[0].reshape(3, -1).T.numpy(), rcond=None)
    torch.testing.assert_close(fit_colours(latents, pixels).weights, torch.from_numpy(expected), atol=1e-3, rtol=1e-3)


def test_a_channel_that_never_varies_does_no_harm() -> None:
    latents = random(1, 4, 10, 10)
    latents[:, 2] = 3.0
    weights = fit_colours(latents, random(1, 3, 10, 10, seed=1)).weights
    assert bool(torch.isfinite(weights).all()) and float(weights[2].abs().max()) < 1e-6


@torch.no_grad()
def test_the_embedded_model_has_good_colours_and_trials_find_usable_ones() -> None:
    """On a drawing that neither was found on: colours of one picture's mean are 9 dB, 16 x 16 pixels at best 23."""
    parts = load("pocket", "cpu").parts
    drawing = Image.new("RGB", (128, 128), "white")
    pen = ImageDraw.Draw(drawing)
    pen.ellipse((20, 24, 100, 104), fill=(220, 40, 50))
    pen.rectangle((60, 60, 120, 120), fill=(40, 90, 200))
    pen.polygon(((10, 120), (40, 70), (60, 118)), fill=(250, 200, 40))
    latents = parts.autoencoder.encode(pil_to_tensor(drawing)[None]).mode()
    decoded = parts.autoencoder.decode(latents)
    real = functional.interpolate(decoded, (16, 16), mode="area")
    flat = real.mean(dim=(2, 3), keepdim=True).expand_as(real)
    stored, trial = colours_of(parts), colours_by_trial(parts.autoencoder)
    levels = [float(psnr(made, real)) for made in (flat, trial.pixels(latents), stored.pixels(latents))]
    assert levels[1] > levels[0] + 5
    assert levels[2] > levels[0] + 9


def test_trials_are_the_same_each_time(pocket: Model) -> None:
    first, second = (colours_by_trial(pocket.parts.autoencoder) for _ in range(2))
    assert torch.equal(first.weights, second.weights)
    assert colours_of(pocket.parts) is colours_of(pocket.parts)


def test_stored_colours_are_used(tmp_path: Path) -> None:
    folder = save_small(tmp_path, "pocket")
    weights = random(5, 3).tolist()
    write_preview_colours(folder, weights)
    model = load(folder, "cpu")
    torch.testing.assert_close(colours_of(model.parts).weights, torch.tensor(weights), atol=1e-5, rtol=1e-5)
    (folder / PREVIEW_FILE).write_text(json.dumps({"format": "rein-preview", "version": 2}))
    assert preview_of(model.parts)(torch.zeros(4, 4, 4)).size == (4, 4)  # read once
    with pytest.raises(DamagedFileError, match=PREVIEW_FILE):
        preview_of(load(folder, "cpu").parts)


def test_scale_and_shift_of_the_latents_are_undone(small_model: Loader) -> None:
    """SD's latents are scaled by 0.18: the preview of a picture's latents has its colours all the same."""
    parts = small_model("sd1").parts
    latents = random(4, 6, 5)
    shown = pil_to_tensor(preview_of(parts)(latents))
    wanted = colours_of(parts).pixels(latents[None] / parts.spec.latent_scale)[0].clamp(-1, 1)
    assert float((shown - wanted).abs().max()) <= 1 / 127.5
    assert shown.shape == (3, 6, 5)


def test_a_look_never_fails(pocket: Model) -> None:
    broken = torch.full((4, 4, 4), float("nan"))
    broken[0, 0, 0] = float("inf")
    assert preview_of(pocket.parts)(broken).size == (4, 4)


@torch.no_grad()
def test_a_small_autoencoder_decodes(tmp_path: Path, small_model: Loader) -> None:
    parts = small_model("sd1").parts
    torch.manual_seed(0)
    taesd = Autoencoder(TAESD)
    write_tensors(tmp_path / "taesd.safetensors", taesd.state_dict())
    latents = random(4, 4, 4)
    shown = pil_to_tensor(preview_of(parts, tmp_path / "taesd.safetensors")(latents))
    wanted = taesd.decode(latents[None])[0].clamp(-1, 1)  # it reads scaled latents
    assert float((shown - wanted).abs().max()) <= 1 / 127.5 + 1e-4
    with pytest.raises(InputError, match="there is no"):
        preview_of(parts, tmp_path / "nothing.safetensors")
    write_tensors(tmp_path / "other.safetensors", Autoencoder(POCKET.autoencoder).state_dict())
    with pytest.raises(InputError, match="needs 4 channels"):
        preview_of(parts, tmp_path / "other.safetensors")


def test_a_row_of_previews() -> None:
    row = side_by_side([Image.new("RGB", (4, 2), colour) for colour in ("red", "blue")])
    assert (row.size, row.getpixel((3, 1)), row.getpixel((4, 0))) == ((8, 2), (255, 0, 0), (0, 0, 255))
