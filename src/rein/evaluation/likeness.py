"""How alike two pictures are that should be the same: structural similarity. PSNR is in `rein.images`, LPIPS is a
network (`rein.evaluation.networks`).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from rein.errors import InputError

WINDOW = 11
_DEVIATION = 1.5
_STABLE = (0.01, 0.03)
_RANGE = 255.0


def ssim(first: Tensor, second: Tensor) -> Tensor:
    """Structural similarity of pictures (B, 3, H, W) in [-1, 1], (B,) from -1 to 1 (Wang et al. 2004).

    On the 256 levels of a saved picture, channel by channel, in a Gaussian window of 11 x 11 round each pixel. Beyond
    the edges the picture is mirrored, as torchmetrics does it; the authors leave out windows that reach over them.

    Raises:
        InputError: a side of fewer than 11 pixels.
    """
    if min(first.shape[-2:]) < WINDOW:
        height, width = first.shape[-2:]
        raise InputError(f"a picture is {width} x {height}: structural similarity needs {WINDOW} pixels a side")
    around = [WINDOW // 2] * 4
    levels = [((pixels.double().clamp(-1, 1) + 1) * 127.5).round() for pixels in (first, second)]
    one, other = (functional.pad(pixels, around, mode="reflect") for pixels in levels)
    means = _blurred(one), _blurred(other)
    product = means[0] * means[1]
    squares = means[0].square() + means[1].square()
    spread = _blurred(one.square()) + _blurred(other.square()) - squares
    together = _blurred(one * other) - product
    light, contrast = ((k * _RANGE) ** 2 for k in _STABLE)
    found = (2 * product + light) * (2 * together + contrast) / ((squares + light) * (spread + contrast))
    return found.mean(dim=(1, 2, 3)).float()


def _blurred(x: Tensor) -> Tensor:
    """The Gaussian mean of each window."""
    places = torch.arange(WINDOW, dtype=x.dtype, device=x.device) - WINDOW // 2
    line = torch.exp(-places.square() / (2 * _DEVIATION**2))
    line = line / line.sum()
    channels = x.shape[1]
    across = functional.conv2d(x, line.expand(channels, 1, 1, -1), groups=channels)
    return functional.conv2d(across, line[:, None].expand(channels, 1, -1, 1), groups=channels)
