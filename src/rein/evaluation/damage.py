"""Damage done to real pictures, so that the judge reads imperfect ones: what generators, codecs and jitter do to them.

Everything works on (B, 3, H, W) float32 in [-1, 1], at the size that the judge looks at, and draws from the generator
that is passed in. No change is large enough to turn one colour word into another.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Generator, Tensor
from torch.nn import functional


@dataclass(frozen=True)
class DamageOptions:
    """The part of the pictures that each kind of damage comes to, and how strong it is at most."""

    warp: float = 0.5
    blur: float = 0.3
    noise: float = 0.25
    blotches: float = 0.25
    tint: float = 0.5
    patches: float = 0.15
    jpeg: float = 0.06
    strength: float = 1.0


def damaged(pixels: Tensor, generator: Generator, options: DamageOptions | None = None) -> Tensor:
    """A damaged copy of `pixels`; each kind comes to its own random part of the batch."""
    options = options or DamageOptions()
    out = pixels.clone()
    _apply(out, options.warp, generator, lambda part: _warped(part, generator, options.strength))
    _apply(out, options.blur, generator, lambda part: _blurred(part, generator))
    _apply(out, options.tint, generator, lambda part: _tinted(part, generator, options.strength))
    _apply(out, options.blotches, generator, lambda part: _blotched(part, generator, options.strength))
    _apply(out, options.patches, generator, lambda part: _patched(part, generator))
    _apply(out, options.noise, generator, lambda part: _noisy(part, generator, options.strength))
    _apply(out, options.jpeg, generator, lambda part: _recoded(part, generator))
    return out.clamp_(-1.0, 1.0)


def _apply(pixels: Tensor, share: float, generator: Generator, change: Callable[[Tensor], Tensor]) -> None:
    """Change a random part of a batch in place."""
    chosen = (torch.rand(len(pixels), generator=generator) < share).nonzero().flatten()
    if len(chosen):
        pixels[chosen] = change(pixels[chosen])


def _uniform(count: int, low: float, high: float, generator: Generator) -> Tensor:
    """One number for each picture, (count, 1, 1, 1)."""
    return low + (high - low) * torch.rand((count, 1, 1, 1), generator=generator)


def _smooth(count: int, channels: int, cells: int, size: tuple[int, int], generator: Generator) -> Tensor:
    """Smooth noise: unit values on a coarse grid, in between interpolated."""
    coarse = torch.randn((count, channels, cells, cells), generator=generator)
    return functional.interpolate(coarse, size, mode="bilinear", align_corners=True)


def _warped(pixels: Tensor, generator: Generator, strength: float) -> Tensor:
    """Turned by a few degrees, stretched by some per cent, moved, and bent as by hand."""
    count, height, width = len(pixels), *pixels.shape[-2:]
    matrix = torch.eye(2, 3).repeat(count, 1, 1)
    matrix += strength * 0.06 * torch.randn((count, 2, 3), generator=generator)
    points = functional.affine_grid(matrix, list(pixels.shape), align_corners=False)
    bend = _smooth(count, 2, 5, (height, width), generator).permute(0, 2, 3, 1)
    points = points + 0.03 * strength * bend * _uniform(count, 0.0, 1.0, generator)
    return functional.grid_sample(pixels, points, mode="bilinear", padding_mode="border", align_corners=False)


def _blurred(pixels: Tensor, generator: Generator) -> Tensor:
    """Some of the fine detail lost: mixed with a copy at half the resolution."""
    size = (pixels.shape[-2], pixels.shape[-1])
    soft = functional.interpolate(functional.avg_pool2d(pixels, 2), size, mode="bilinear", align_corners=False)
    return pixels + _uniform(len(pixels), 0.3, 1.0, generator) * (soft - pixels)


def _tinted(pixels: Tensor, generator: Generator, strength: float) -> Tensor:
    """Brighter, darker, flatter, or with a slight cast."""
    count = len(pixels)
    gain = _uniform(count, 1.0 - 0.15 * strength, 1.0 + 0.1 * strength, generator)
    shift = _uniform(count, -0.08 * strength, 0.05 * strength, generator)
    cast = 0.03 * strength * torch.randn((count, 3, 1, 1), generator=generator)
    return pixels * gain + shift + cast


def _blotched(pixels: Tensor, generator: Generator, strength: float) -> Tensor:
    """Uneven colour, in spots of an eighth of the picture."""
    blotches = _smooth(len(pixels), 3, 9, (pixels.shape[-2], pixels.shape[-1]), generator)
    return pixels + strength * _uniform(len(pixels), 0.02, 0.12, generator) * blotches


def _patched(pixels: Tensor, generator: Generator) -> Tensor:
    """A part wiped out by one colour: something is missing from the drawing."""
    count, height, width = len(pixels), *pixels.shape[-2:]
    centre_y, centre_x = (_uniform(count, 0.1, 0.9, generator) for _ in range(2))
    half = _uniform(count, 0.05, 0.13, generator)
    rows, columns = torch.linspace(0, 1, height)[:, None], torch.linspace(0, 1, width)[None]
    inside = ((rows - centre_y).abs() < half) & ((columns - centre_x).abs() < half)
    return torch.where(inside, _uniform(count, -1.0, 1.0, generator).expand(-1, 3, -1, -1), pixels)


def _noisy(pixels: Tensor, generator: Generator, strength: float) -> Tensor:
    amount = strength * _uniform(len(pixels), 0.0, 0.15, generator)
    return pixels + amount * torch.randn(pixels.shape, generator=generator)


def _recoded(pixels: Tensor, generator: Generator) -> Tensor:
    """Through JPEG at a low to middling quality."""
    levels = ((pixels.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    qualities = torch.randint(15, 75, (len(pixels),), generator=generator).tolist()
    decoded = []
    for picture, quality in zip(levels, qualities, strict=True):
        packed = io.BytesIO()
        Image.fromarray(picture).save(packed, "JPEG", quality=quality)
        decoded.append(np.array(Image.open(packed)))
    return torch.from_numpy(np.stack(decoded)).permute(0, 3, 1, 2).float() / 127.5 - 1.0
