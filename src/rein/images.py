"""Pictures: between Pillow and tensors, fitted to a size, laid out in a grid, written and read with their settings.

A picture as a tensor is (3, H, W), float32, in [-1, 1], red first; as a file it is PNG.
"""

from __future__ import annotations

import os
import struct
import warnings
import zlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from PIL import ExifTags, Image, ImageDraw, ImageFont, ImageOps, PngImagePlugin

from rein.errors import DamagedFileError, InputError, NonFiniteError
from rein.files import atomic_file

if TYPE_CHECKING:
    import torch

FORMATS = ("PNG", "JPEG", "WEBP")
"""What is read. Pillow knows dozens of formats; the others are closed doors."""

BEST_PSNR = 100.0
"""dB, reported for equal pictures."""

MAX_FILE_BYTES = 256 * 2**20
MAX_PIXELS = 64 * 2**20

_UNREADABLE = (OSError, SyntaxError, ValueError, EOFError, OverflowError, struct.error, zlib.error)
_USER_COMMENT_CODES = {b"UNICODE\0": "utf-16-be", b"ASCII\0\0\0": "ascii", b"\0" * 8: "utf-8"}


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
        levels = np.clip(np.asarray(image, dtype=np.float64) / 257.0, 0.0, 255.0)
        return Image.fromarray(np.rint(levels).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layer.size, (*background, 255)), layer).convert("RGB")
    return image.convert("RGB")


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
    columns = min(columns or int(np.ceil(np.sqrt(len(images)))), len(images))
    width, height = max(image.width for image in images), max(image.height for image in images)
    captions = [_caption(label, width) for label in labels or ()]
    below = max((caption.height for caption in captions), default=0)
    step_x, step_y = width + gap, height + below + gap
    sheet = Image.new("RGB", (gap + columns * step_x, gap + -(-len(images) // columns) * step_y), "white")
    for index, image in enumerate(images):
        left, top = gap + index % columns * step_x, gap + index // columns * step_y
        sheet.paste(to_rgb(image), (left + (width - image.width) // 2, top + (height - image.height) // 2))
        if captions:
            sheet.paste(captions[index], (left, top + height))
    return sheet


def _caption(text: str, width: int, lines: int = 4) -> Image.Image:
    """A strip `width` pixels wide with `text` in it, in Pillow's own font at a size that suits the width."""
    size = min(18, max(10, width // 12))
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


def write_png(image: Image.Image, path: str | os.PathLike[str], texts: Mapping[str, str] | None = None) -> None:
    """Write `image` as PNG at `path`, all of it or nothing, with `texts` as its text chunks.

    By custom "parameters" holds AUTOMATIC1111's infotext and "rein" the settings as JSON. A text outside Latin-1 goes
    into an international chunk (iTXt), the others into a plain one (tEXt), which every reader knows.

    Raises:
        InputError, OutputError: as `rein.files.atomic_file`.
    """
    info = PngImagePlugin.PngInfo()
    for key, value in (texts or {}).items():
        # Half of a surrogate pair, which undecodable bytes on a command line become, has no place in a file.
        text = value.encode("utf-8", "replace").decode("utf-8")
        (info.add_text if _is_latin1(text) else info.add_itxt)(key, text)
    with atomic_file(path) as handle:
        image.save(handle, "PNG", pnginfo=info)


def _is_latin1(text: str) -> bool:
    return all(ord(character) < 256 for character in text)


def read_image(path: str | os.PathLike[str]) -> Image.Image:
    """The picture in a PNG, JPEG or WebP file, turned upright, in RGB.

    Raises:
        InputError: there is no such file, or it is too large to be opened safely.
        DamagedFileError: it is not such a picture, or it is cut short.
    """
    with _opened(path) as image:
        try:
            return to_rgb(ImageOps.exif_transpose(image))
        except _UNREADABLE as error:
            raise _damaged(path, error) from error


def read_png_texts(path: str | os.PathLike[str]) -> dict[str, str]:
    """The texts inside a picture by their keys; none gives an empty dictionary.

    A PNG has them in text chunks. In a JPEG or WebP file the comment in the EXIF data is taken for "parameters", which
    is where other programs put the infotext.

    Raises:
        InputError, DamagedFileError: as `read_image`.
    """
    with _opened(path) as image:
        try:
            if isinstance(image, PngImagePlugin.PngImageFile):
                return {str(key): str(value) for key, value in image.text.items()}  # decodes, to find chunks at the end
            comment = image.getexif().get_ifd(ExifTags.IFD.Exif).get(ExifTags.Base.UserComment)
        except _UNREADABLE as error:
            raise _damaged(path, error) from error
    if not isinstance(comment, bytes) or comment[:8] not in _USER_COMMENT_CODES:
        return {"parameters": comment} if isinstance(comment, str) else {}
    return {"parameters": comment[8:].decode(_USER_COMMENT_CODES[comment[:8]], "replace")}


def _opened(path: str | os.PathLike[str]) -> Image.Image:
    """Read the header of a picture file and refuse what is too large, before any pixel is decoded."""
    try:
        size = os.stat(path).st_size
        if os.path.isdir(path):
            raise InputError(f"{os.fspath(path)} is a folder; give a picture file")
    except (FileNotFoundError, NotADirectoryError) as error:
        raise InputError(f"there is no picture {os.fspath(path)}") from error
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read {os.fspath(path)!r}: {getattr(error, 'strerror', None) or error}") from error
    if size > MAX_FILE_BYTES:
        raise InputError(f"{os.fspath(path)} has {size} bytes; pictures up to {MAX_FILE_BYTES} bytes are read")
    try:
        with warnings.catch_warnings():  # our own limit below replaces Pillow's warning
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(path, formats=FORMATS)
    except Image.DecompressionBombError as error:
        raise InputError(f"{os.fspath(path)} has too many pixels; up to {MAX_PIXELS} are read") from error
    except PermissionError as error:
        raise InputError(f"cannot read {os.fspath(path)}: no permission") from error
    except _UNREADABLE as error:
        raise _damaged(path, error) from error
    if image.width * image.height > MAX_PIXELS:
        image.close()
        raise InputError(f"{os.fspath(path)} is {image.width} x {image.height}; up to {MAX_PIXELS} pixels are read")
    return image


def _damaged(path: str | os.PathLike[str], error: Exception) -> DamagedFileError:
    reason = "not a PNG, JPEG or WebP picture" if "cannot identify" in str(error) else str(error).replace("\n", " ")
    return DamagedFileError(f"cannot read {os.fspath(path)}: {reason}")
