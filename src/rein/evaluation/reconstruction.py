"""How well an autoencoder keeps pictures it has not seen."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rein.evaluation.classifier import to_pixels
from rein.nn.autoencoder import Autoencoder

BATCH = 16
BEST = 100.0
"""PSNR in dB that is reported for a picture kept without any change; the formula would give infinity."""


def psnr(made: Tensor, real: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB of each picture (B,), on the 256 levels that a saved picture has.

    Args:
        made: (B, 3, H, W), clipped to [-1, 1] first.
        real: likewise, in [-1, 1].
    """
    levels = [((pixels.float().clamp(-1, 1) + 1) * 127.5).round() for pixels in (made, real)]
    error = (levels[0] - levels[1]).square().flatten(1).mean(dim=1)
    return (10 * torch.log10(255.0**2 / error)).clamp(max=BEST)


@torch.no_grad()
def reconstruction_psnr(autoencoder: Autoencoder, pictures: NDArray[np.uint8]) -> Iterator[list[float]]:
    """PSNR in dB of `pictures` (N, H, W, 3) uint8 by batches: after each the values so far."""
    parameter = autoencoder.quant_conv.weight
    values: list[float] = []
    for start in range(0, len(pictures), BATCH):
        pixels = to_pixels(pictures[start : start + BATCH])
        latents = autoencoder.encode(pixels.to(parameter)).mode()
        values.extend(psnr(autoencoder.decode(latents).cpu(), pixels).tolist())
        yield values
