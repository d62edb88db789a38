"""Pictures: between Pillow and tensors, fitted to a size, laid out in a grid.

A picture as a tensor is (3, H, W), float32, in [-1, 1], red first.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont, ImageOps

from rein.errors import InputError, NonFiniteError

if TYPE_CHECKING:
    import torch

BEST_PSNR = 100.0
"""dB, reported for equal pictures."""


def pil_to_tensor(image: Image.Image) -> torch.Tensor:
    """`image`, made RGB, as a (3, H, W) float32 tensor in [-1, 1]."""
    import torch

    pixels = np.array(to_rgb(image), dtype=np.float32)
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous() / 127.5 - 1.0


def tensor_to_pil(tensor: torch.Tensor) -> Image.Image:
    """A (3, H, W) tensor in [-1, 1] as an RGB picture; what lies outside is clipped, levels are rounded to the nearest.

    Raises:
        NonFiniteError: the tensor holds NaN or infinity.
    """
    import torch

    if tensor.ndim != 3 or tensor.shape[0] != 3:
        raise ValueError(f"a picture tensor is (3, H, W), not {tuple(tensor.shape)}")
    values = tensor.detach().to("cpu", torch.float32)
    if not bool(torch.isfinite(values).all()):
        raise NonFiniteError("the picture holds NaN or infinity; try float32 (float16 overflows in some autoencoders)")
    levels = ((values.clamp(-1.0, 1.0) + 1.0) * 127.5).round().to(torch.uint8)
    return Image.fromarray(levels.permute(1, 2, 0).contiguous().numpy())


def psnr(made: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
    """Peak signal-to-noise ratio in dB of each picture (B,), on the 256 levels that a saved picture has.

    Args:
        made: (B, 3, H, W), clipped to [-1, 1] first.
        real: likewise, in [-1, 1]. Equal pictures get `BEST_PSNR`, where the formula gives infinity.
    """
    levels = [((pixels.float().clamp(-1, 1) + 1) * 127.5).round() for pixels in (made, real)]
    error = (levels[0] - levels[1]).square().flatten(1).mean(dim=1)
    return (10 * (255.0**2 / error).log10()).clamp(max=BEST_PSNR)


def to_rgb(image: Image.Image, background: tuple[int, int, int] = (255, 255, 255)) -> Image.Image:
    """`image` as RGB: transparency laid over `background`, 16-bit grey scaled to 8 bits."""
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode.startswith("I"):
        return Image.fromarray(np.rint(to_grey(image) * 255).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layer.size, (*background, 255)), layer).convert("RGB")
    return image.convert("RGB")


def to_grey(image: Image.Image) -> NDArray[np.float32]:
    """Brightness (H, W) from 0 to 1, of 16-bit pictures with all their levels; what is transparent is black."""
    if image.mode.startswith("I"):
        return (np.asarray(image, dtype=np.float32) / np.float32(65_535)).clip(0, 1)
    return np.asarray(to_rgb(image, (0, 0, 0)).convert("L"), dtype=np.float32) / np.float32(255)


def crop_to(image: Image.Image, width: int, height: int) -> Image.Image:
    """`image` scaled until it covers width x height pixels, and cropped round its middle."""
    return ImageOps.fit(image, (width, height), Image.Resampling.LANCZOS)


def fit_within(
    image: Image.Image, width: int, height: int, background: tuple[int, int, int] = (255, 255, 255)
) -> Image.Image:
    """All of `image`, scaled to lie within width x height pixels, on a `background` of that size."""
    return ImageOps.pad(to_rgb(image, background), (width, height), Image.Resampling.LANCZOS, color=background)


def grid(
    images: Sequence[Image.Image], columns: int | None = None, labels: Sequence[str] | None = None, gap: int = 4
) -> Image.Image:
    """One sheet of `images`, row by row in cells of the largest one's size, on white.

    Args:
        images: one at least.
        columns: pictures in a row; by default the sheet is about square.
        labels: one text under each picture, wrapped to its width and cut after four lines.
        gap: white pixels round each picture.
    """
    if not images:
        raise InputError("a grid needs at least one picture")
    if columns is not None and columns < 1:
        raise InputError(f"columns is {columns}: it must be 1 or more")
    if labels is not None and len(labels) != len(images):
        raise InputError(f"there are {len(labels)} labels for {len(images)} pictures: give one for each")
    width, height = max(image.width for image in images), max(image.height for image in images)
    captions = [caption(label, width) for label in labels or ()]
    below = max((strip.height for strip in captions), default=0)
    step_x, step_y = width + gap, height + below + gap
    sheet = Image.new("RGB", grid_size(len(images), (width, height + below), columns, gap), "white")
    columns = sheet.width // step_x
    for index, image in enumerate(images):
        left, top = gap + index % columns * step_x, gap + index // columns * step_y
        sheet.paste(to_rgb(image), (left + (width - image.width) // 2, top + (height - image.height) // 2))
        if captions:
            sheet.paste(captions[index], (left, top + height))
    return sheet


def grid_size(count: int, cell: tuple[int, int], columns: int | None = None, gap: int = 4) -> tuple[int, int]:
    """(width, height) of a `grid` of so many pictures, whose cells with their labels are of one size."""
    columns = min(columns or int(np.ceil(np.sqrt(count))), count)
    return gap + columns * (cell[0] + gap), gap + -(-count // columns) * (cell[1] + gap)


def caption(text: str, width: int, lines: int = 4, size: int | None = None) -> Image.Image:
    """A white strip `width` pixels wide with `text` in it, wrapped, and cut after so many lines.

    Args:
        size: of Pillow's own font, in pixels; None is one that suits the width.
    """
    size = size or min(18, max(10, width // 12))
    font = ImageFont.load_default(size)
    wrapped = _wrap(text[:400], width - 4, font)
    if len(wrapped) > lines or len(text) > 400:
        wrapped = wrapped[:lines]
        while wrapped[-1] and font.getlength(wrapped[-1] + "...") > width - 4:
            wrapped[-1] = wrapped[-1][:-1]
        wrapped[-1] += "..."
    line_height = size + size // 3
    strip = Image.new("RGB", (width, line_height * len(wrapped) + 4), "white")
    draw = ImageDraw.Draw(strip)
    for row, line in enumerate(wrapped):
        draw.text((2, 1 + row * line_height), line, fill="black", font=font)
    return strip


def _wrap(text: str, width: int, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> list[str]:
    """`text` in lines of at most `width` pixels, broken between words, and within a word only where it must be."""
    lines = [""]
    for word in text.split():
        if lines[-1] and font.getlength(f"{lines[-1]} {word}") > width:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}" if lines[-1] else word
        while len(line := lines[-1]) > 1 and font.getlength(line) > width:
            kept = _fitting(line, width, font)
            lines[-1:] = [line[:kept], line[kept:]]
    return lines


def _fitting(line: str, width: int, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> int:
    """How many of `line`'s characters are at most `width` pixels wide; one at least."""
    low, high = 1, len(line)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if font.getlength(line[:middle]) <= width else (low, middle - 1)
    return low
