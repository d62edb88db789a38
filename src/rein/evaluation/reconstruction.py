"""How well an autoencoder keeps pictures it has not seen."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from rein.evaluation.classifier import to_pixels
from rein.images import psnr
from rein.nn.autoencoder import Autoencoder

BATCH = 16


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
