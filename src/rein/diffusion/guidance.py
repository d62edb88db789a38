"""Classifier-free guidance as a wrapper: from a denoiser of two predictions to a `Denoiser`.

Every kind of prediction is linear in x0 at a given x and sigma, so guiding x0 is guiding the network's output.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from rein.diffusion.prediction import PREDICTIONS, Denoiser, Prediction, per_picture
from rein.errors import InputError

DenoiserPair = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""`(x, sigma) -> (x0 with the prompt, x0 with the negative or empty prompt)`, say by one pass of a doubled batch."""


def guided(
    pair: DenoiserPair,
    conditional: Denoiser,
    scale: float,
    rescale: float = 0.0,
    interval: tuple[float, float] | None = None,
    prediction: Prediction = PREDICTIONS["x0"],
) -> Denoiser:
    """A denoiser that goes from the negative prompt's x0 past the prompt's by `scale` (Ho and Salimans 2022, eq. 6).

    Args:
        pair: both predictions; asked where guidance acts.
        conditional: the prompt's prediction alone; asked where it does not: at scale 1, and outside `interval`.
        scale: guidance scale w, 0 or more; 0 is the negative prompt alone, 1 the prompt alone.
        rescale: phi in [0, 1], how far the guided prediction gets back the prompt's own standard deviation, each
            picture by itself, against over-exposure (Lin et al. 2023, eq. 14 to 16; they use 0.7).
        interval: noise levels (low, high]; guidance acts for low < sigma <= high only (Kynkäänniemi et al. 2024).
        prediction: whose output's deviation `rescale` restores; the model's own is what diffusers does. x0 unless
            given.

    Raises:
        InputError: a number out of its range.
    """
    _check(scale, rescale, interval)
    if scale == 1:
        return conditional

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        if interval is not None and not interval[0] < float(sigma) <= interval[1]:
            return conditional(x, sigma)
        wanted, unwanted = pair(x, sigma)
        combined = unwanted + scale * (wanted - unwanted)
        if rescale == 0:
            return combined
        output = prediction.output(combined, x, sigma)
        ratio = _deviation(prediction.output(wanted, x, sigma)) / _deviation(output)
        return prediction.x0(output * per_picture(1 + rescale * (ratio - 1), x), x, sigma)

    return denoise


def _check(scale: float, rescale: float, interval: tuple[float, float] | None) -> None:
    if not (math.isfinite(scale) and scale >= 0):
        raise InputError(f"guidance scale is {scale}: it must be a number, 0 or more")
    if not 0 <= rescale <= 1:
        raise InputError(f"guidance rescale is {rescale}: it must be from 0 to 1")
    if interval is not None and not 0 <= interval[0] < interval[1]:
        raise InputError(f"guidance interval is {interval}: it must be (low, high) in sigma with 0 <= low < high")


def _deviation(output: Tensor) -> Tensor:
    """Standard deviation of every picture, (B,).

    Picture by picture, because the sum over a batch may be split among threads in another order than that of one
    picture.
    """
    return torch.stack([picture.std() for picture in output]).clamp(min=torch.finfo(output.dtype).tiny)
