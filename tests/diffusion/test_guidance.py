"""Guidance beside diffusers' guiding of the network's own output."""

from __future__ import annotations

import pytest
import torch
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import rescale_noise_cfg
from torch import Tensor

from rein.diffusion.guidance import guided
from rein.diffusion.prediction import PREDICTIONS, Prediction
from rein.errors import InputError
from tests.diffusion.toy import unit_noise, worst

X = unit_noise(1) * 3
SIGMA = torch.tensor(2.5)
WANTED, UNWANTED = unit_noise(2), unit_noise(3) * torch.tensor([1.0, 4.0]).reshape(2, 1, 1, 1)
"""Network outputs with the prompt and with the negative one. The second picture's are wide apart."""


def pair(prediction: Prediction) -> tuple[Tensor, Tensor]:
    return prediction.x0(WANTED, X, SIGMA), prediction.x0(UNWANTED, X, SIGMA)


def never(x: Tensor, sigma: Tensor) -> Tensor:
    raise AssertionError("asked for the prompt alone")


@pytest.mark.parametrize("name", PREDICTIONS)
@pytest.mark.parametrize("scale", [0.0, 0.5, 7.5])
def test_guiding_x0_is_guiding_the_output(name: str, scale: float) -> None:
    prediction = PREDICTIONS[name]
    ours = guided(lambda x, sigma: pair(prediction), never, scale)(X, SIGMA)
    assert worst(ours, prediction.x0(UNWANTED + scale * (WANTED - UNWANTED), X, SIGMA)) < 1e-6


@pytest.mark.parametrize("name", PREDICTIONS)
@pytest.mark.parametrize("rescale", [0.3, 0.7, 1.0])
def test_rescale_equals_diffusers(name: str, rescale: float) -> None:
    prediction = PREDICTIONS[name]
    output = UNWANTED + 7.5 * (WANTED - UNWANTED)
    theirs = rescale_noise_cfg(output, WANTED, guidance_rescale=rescale)
    ours = guided(lambda x, sigma: pair(prediction), never, 7.5, rescale, prediction=prediction)(X, SIGMA)
    assert worst(ours, prediction.x0(theirs, X, SIGMA)) < 3e-6


def test_rescale_gives_every_picture_its_own_deviation() -> None:
    wanted, unwanted = pair(PREDICTIONS["x0"])
    full = guided(lambda x, sigma: (wanted, unwanted), never, 7.5, rescale=1.0)(X, SIGMA)
    assert full.std(dim=(1, 2, 3)).tolist() == pytest.approx(wanted.std(dim=(1, 2, 3)).tolist(), rel=1e-5)
    one = guided(lambda x, sigma: (wanted[1:], unwanted[1:]), never, 7.5, rescale=1.0)(X[1:], SIGMA)
    assert torch.equal(full[1:], one)


def test_rescale_of_a_flat_picture_is_finite() -> None:
    flat = torch.full_like(X, 0.25)
    assert torch.equal(
        guided(lambda x, sigma: (flat, flat), never, 3.0, rescale=0.7)(X, SIGMA).isfinite().all(), torch.tensor(True)
    )


def test_scale_one_is_the_prompt_alone() -> None:
    def conditional(x: Tensor, sigma: Tensor) -> Tensor:
        return x

    def asked(x: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        raise AssertionError("asked for both")

    assert guided(asked, conditional, 1.0, rescale=0.7, interval=(0.0, 1.0)) is conditional


def test_guidance_acts_inside_its_interval_only() -> None:
    prediction = PREDICTIONS["v"]
    wanted, unwanted = pair(prediction)
    denoise = guided(lambda x, sigma: (wanted, unwanted), lambda x, sigma: wanted, 4.0, interval=(0.5, 5.0))
    everywhere = guided(lambda x, sigma: (wanted, unwanted), never, 4.0)(X, SIGMA)
    for level, acts in ((0.1, False), (0.5, False), (0.5001, True), (5.0, True), (5.001, False)):
        assert torch.equal(denoise(X, torch.tensor(level)), everywhere if acts else wanted)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"scale": -1.0}, "guidance scale is -1.0"),
        ({"scale": float("nan")}, "guidance scale is nan"),
        ({"scale": float("inf")}, "guidance scale is inf"),
        ({"scale": 2.0, "rescale": 1.5}, "guidance rescale is 1.5: it must be from 0 to 1"),
        ({"scale": 2.0, "rescale": float("nan")}, "guidance rescale is nan"),
        ({"scale": 2.0, "interval": (3.0, 1.0)}, r"guidance interval is \(3.0, 1.0\)"),
        ({"scale": 2.0, "interval": (-1.0, 1.0)}, "guidance interval"),
        ({"scale": 2.0, "interval": (0.0, float("nan"))}, "guidance interval"),
    ],
)
def test_wrong_numbers_are_named(arguments: dict[str, object], words: str) -> None:
    with pytest.raises(InputError, match=words):
        guided(lambda x, sigma: (x, x), never, **arguments)  # type: ignore[arg-type]
