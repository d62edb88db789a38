"""Numbers as small pictures: latents in false colour, heat maps as veils, thumbnails; all as bytes for a page.

Shapes: latents (C, h, w); maps (h, w).
"""

from __future__ import annotations

import io

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

THUMBNAIL = 256
"""The longer side of a decoded picture on the page, in pixels."""

_VEIL = np.array([[18, 12, 60], [101, 34, 140], [203, 66, 92], [249, 142, 8], [252, 235, 130]], dtype=np.float64)
"""From cold to hot: rising in brightness, so that it reads in grey as well."""

_NIGHT, _DARKEST = (14, 16, 34), 222
"""The colour of a veil, and its opacity, of 255, where a map is lowest."""


def png(image: Image.Image) -> bytes:
    """A picture as PNG, with the settings inside that `Result` gave it, just as `Image.save` writes it."""
    stream = io.BytesIO()
    image.save(stream, "PNG", **getattr(image, "encoderinfo", {}))
    return stream.getvalue()


def thumbnail(image: Image.Image, side: int = THUMBNAIL) -> bytes:
    """A small WebP of a picture, `side` pixels at most."""
    small = image.copy()
    small.thumbnail((side, side))
    stream = io.BytesIO()
    small.save(stream, "WEBP", quality=82, method=4)
    return stream.getvalue()


class FalseColours:
    """Latents as colours: the three directions in which the finished latents vary most become red, green and blue.

    The same directions and the same scale serve every picture of a page, so that colours mean the same in all.
    """

    def __init__(self, finished: Tensor) -> None:
        values = finished.flatten(1).double()
        self._mean = values.mean(dim=1, keepdim=True)
        centred = values - self._mean
        _, directions = torch.linalg.eigh(centred @ centred.t())
        self._directions = directions[:, -3:].flip(1).t()
        if len(self._directions) < 3:  # fewer than three channels: grey
            self._directions = self._directions[:1].expand(3, -1)
        # An eigenvector's sign is arbitrary; let the sum of its parts be positive.
        signs = self._directions.sum(dim=1, keepdim=True).sign()
        self._directions = self._directions * torch.where(signs == 0, 1.0, signs)
        spread = (self._directions @ centred).std(dim=1, unbiased=False, keepdim=True)
        self._scale = 2.2 * spread.clamp(min=1e-6)

    def picture(self, latents: Tensor, scale: float = 1.0) -> bytes:
        """(C, h, w) as a PNG of w x h pixels; `scale` makes colours fainter above 1."""
        values = self._directions @ (latents.flatten(1).double() - self._mean)
        shown = (values / (self._scale * scale) * 0.5 + 0.5).clamp(0, 1).nan_to_num()
        levels = (shown * 255).round().to(torch.uint8).reshape(3, *latents.shape[1:])
        return png(Image.fromarray(levels.permute(1, 2, 0).contiguous().numpy()))


def noise_picture(noise: Tensor) -> bytes:
    """The first three channels of noise of unit variance as a PNG; grey for fewer."""
    shown = (noise[:3] if len(noise) >= 3 else noise[:1].expand(3, -1, -1)) / 5 + 0.5
    levels = (shown.clamp(0, 1).nan_to_num() * 255).round().to(torch.uint8)
    return png(Image.fromarray(levels.permute(1, 2, 0).contiguous().numpy()))


def grey(channel: Tensor, stretched: bool = True) -> bytes:
    """One channel (h, w), from its lowest value, black, to its highest, white; or, not stretched, from 0 to 1."""
    levels = _unit(channel) if stretched else channel.double().clamp(0, 1).nan_to_num().numpy()
    return png(Image.fromarray((levels * 255).round().astype(np.uint8)))


def heat(values: Tensor, most: float | None = None) -> bytes:
    """A map (h, w) from 0, dark, to `most` (its own highest where None), bright."""
    peak = float(values.max()) if most is None else most
    shares = (values.double() / max(peak, 1e-30)).clamp(0, 1).nan_to_num().numpy()
    return png(Image.fromarray(_coloured(shares)))


def veil(values: Tensor) -> bytes:
    """A map (h, w) to lay over a picture: a spotlight, dark at its lowest value and clear at its highest."""
    alpha = (_DARKEST * (1 - _unit(values))).round().astype(np.uint8)
    colours = np.broadcast_to(np.array(_NIGHT, dtype=np.uint8), (*alpha.shape, 3))
    return png(Image.fromarray(np.concatenate([colours, alpha[..., None]], axis=2)))


def _unit(values: Tensor) -> NDArray[np.float64]:
    """(h, w) stretched to 0 to 1; 0.5 where all are equal."""
    array = values.double().nan_to_num().numpy()
    low, high = float(array.min()), float(array.max())
    if high - low < 1e-12:
        return np.full_like(array, 0.5)
    result: NDArray[np.float64] = (array - low) / (high - low)
    return result


def _coloured(shares: NDArray[np.float64]) -> NDArray[np.uint8]:
    """(h, w) in 0 to 1 -> (h, w, 3)."""
    stops = np.linspace(0, 1, len(_VEIL))
    channels = [np.interp(shares, stops, _VEIL[:, channel]) for channel in range(3)]
    return np.stack(channels, axis=2).round().astype(np.uint8)
