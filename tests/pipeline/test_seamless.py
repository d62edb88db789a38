"""Seamless pictures: noise that is shifted round the edges gives the picture, shifted round the edges."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from rein.diffusion.noise import PictureNoise
from rein.diffusion.samplers import SamplerOptions, find_sampler
from rein.nn.seamless import Axes
from rein.pipeline.decode import decode_latents
from rein.pipeline.job import Job, prepare, starting_latents
from rein.pipeline.model import Model
from rein.pipeline.request import Request
from tests.pipeline.conftest import Loader

SHIFTS: dict[Axes, tuple[int, int]] = {"x": (0, 1), "y": (1, 0), "both": (1, 2)}


def job_of(model: Model, axes: Axes) -> tuple[Job, int]:
    """A job of three by four of the U-Net's coarsest pixels, and how many latents one of those is."""
    unit = 2 ** (len(model.spec.unet.channels) - 1)
    side = unit * model.spec.autoencoder.downscale
    settings = {"prompt": "a red apple", "seed": 3, "steps": 4, "sampler": "euler", "guidance_scale": 3.0}
    request = Request.model_validate({**settings, "width": 4 * side, "height": 3 * side, "seamless": axes})
    return prepare(model.parts, request), unit


@torch.inference_mode()
def picture(job: Job, axes: Axes, shift: tuple[int, int], tile: int | None = None) -> NDArray[np.int64]:
    start = starting_latents(job, PictureNoise([3])).roll(shift, (-2, -1))
    options = SamplerOptions(coordinates=job.schedule.coordinates, schedule=job.schedule)
    *_, last = find_sampler("euler").function(job.denoise, start, job.sigmas, PictureNoise([3]), options)
    [decoded] = decode_latents(job.parts, last.x, tile, axes)
    return np.asarray(decoded.image, dtype=np.int64)


def apart(first: NDArray[np.int64], second: NDArray[np.int64]) -> float:
    return float(np.abs(first - second).max())


@pytest.mark.parametrize("axes", SHIFTS)
@pytest.mark.parametrize("family", ["pocket", "sd1"])
def test_shifted_noise_gives_the_shifted_picture(small_model: Loader, family: str, axes: Axes) -> None:
    model = small_model(family)
    job, unit = job_of(model, axes)
    shift = SHIFTS[axes][0] * unit, SHIFTS[axes][1] * unit
    plain = picture(job, axes, (0, 0))
    pixels = shift[0] * model.spec.autoencoder.downscale, shift[1] * model.spec.autoencoder.downscale
    expected = np.roll(plain, pixels, (0, 1))
    assert plain.std() > 5
    assert apart(picture(job, axes, shift), expected) <= 1
    without, _ = job_of(model, "none")
    moved = np.roll(picture(without, "none", (0, 0)), pixels, (0, 1))
    assert apart(picture(without, "none", shift), moved) > 5


def test_parts_of_a_seamless_picture_are_cut_from_one_that_goes_on(pocket: Model) -> None:
    job, _ = job_of(pocket, "both")
    whole = picture(job, "both", (0, 0))
    tile = 19 * pocket.spec.autoencoder.downscale
    assert apart(picture(job, "both", (0, 0), tile), whole) <= 1
    assert apart(picture(job, "none", (0, 0), tile), whole) > 1


def test_afterwards_pictures_are_as_before(pocket: Model) -> None:
    settings = {"prompt": "a red apple", "seed": 3, "steps": 3, "width": 64, "height": 64}
    before = pocket.generate(Request.model_validate(settings)).images[0].tobytes()
    joined = pocket.generate(Request.model_validate({**settings, "seamless": "x"})).images[0].tobytes()
    assert joined != before
    assert pocket.generate(Request.model_validate(settings)).images[0].tobytes() == before
