"""The first noise of a picture: its seed's, turned to another's, or that of a picture of another size.

Both follow AUTOMATIC1111's web UI number for number, so that its pictures can be made again.
"""

from __future__ import annotations

import torch
from torch import Tensor

from rein.diffusion.interpolation import slerp
from rein.diffusion.noise import PictureNoise, picture_noise
from rein.pipeline.request import Request

_ROWS = 1
"""That program turns the columns of the noise (C, h, w) one by one, each a vector of h numbers."""


def first_noise(request: Request, noise: PictureNoise, shape: tuple[int, int, int]) -> Tensor:
    """What the pictures of a batch begin with: (B, C, h, w) float32 of unit variance, on the CPU.

    It takes one draw from `noise`, whatever the request asks for, so that the noise after it is the seed's own.

    Args:
        request: resolved; its seed and variation seed are those of the first picture of the whole request.
        noise: nothing drawn from it yet.
        shape: (C, h, w) of one picture's latents.
    """
    whole = noise.draw(shape)
    size = _earlier_shape(request, shape)
    own = whole if size == shape else picture_noise(noise.source, noise.seeds).draw(size)
    if request.variation_strength:
        assert request.variation_seed is not None and request.seed is not None
        ahead = request.variation_seed - request.seed
        others = picture_noise(noise.source, [seed + ahead for seed in noise.seeds]).draw(size)
        turned = [slerp(*pair, request.variation_strength, _ROWS) for pair in zip(own, others, strict=True)]
        own = torch.stack(turned)
    return own if size == shape else laid_over(whole, own)


def _earlier_shape(request: Request, shape: tuple[int, int, int]) -> tuple[int, int, int]:
    """(C, h, w) of the picture whose noise is wanted, where it is another's."""
    if request.seed_resize_from is None:
        return shape
    assert request.width is not None
    unit = request.width // shape[2]
    width, height = request.seed_resize_from
    return shape[0], height // unit, width // unit


def laid_over(whole: Tensor, part: Tensor) -> Tensor:
    """`part` (..., h, w) in the middle of `whole` (..., H, W); what does not fit of it goes, on both sides alike.

    Where one side would keep a row or column more than the other, that one is left out.
    """
    (top, from_top, rows), (left, from_left, columns) = (
        _overlap(whole.shape[axis], part.shape[axis]) for axis in (-2, -1)
    )
    result = whole.clone()
    shown = part[..., from_top : from_top + rows, from_left : from_left + columns]
    result[..., top : top + rows, left : left + columns] = shown
    return result


def _overlap(whole: int, part: int) -> tuple[int, int, int]:
    """Where a part begins within the whole, where in the part what is shown begins, and how long it is."""
    margin = (whole - part) // 2  # rounded down, also where it is negative
    return max(margin, 0), max(-margin, 0), part + 2 * min(margin, 0)
