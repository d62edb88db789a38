"""Picture files: what is opened and what is not, settings inside them, writing that is all there or not at all."""

from __future__ import annotations

import base64
import binascii
import hashlib
import io
import os
import struct
import warnings
import zlib
from collections.abc import Mapping, Sequence
from typing import Any, BinaryIO, TypeGuard

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageCms, ImageOps, PngImagePlugin

from rein.errors import DamagedFileError, InputError
from rein.exif import LARGEST_IN_JPEG, exif_block, exif_texts
from rein.files import atomic_file, format_of
from rein.images import to_grey, to_rgb

FORMATS = ("PNG", "JPEG", "WEBP")
"""What is read. Pillow knows dozens of formats; the others are closed doors."""

MAX_FILE_BYTES = 256 * 2**20
MAX_PIXELS = 64 * 2**20

DATA_URL = "data:"
"""How a picture begins that stands in a text itself, as web pages have them."""

PictureSource = str | os.PathLike[str]
"""A file, or a picture in a data URL ("data:image/png;base64,...")."""

QUALITY = 90
"""Of JPEG and WebP files, 1 to 100, unless asked otherwise; 100 is without loss for WebP, and nearly so for JPEG."""

_LARGEST_PROFILE = 4 * 2**20
_LONGEST_SIDE = {"jpeg": 65_535, "webp": 16_383}
_UNREADABLE = (OSError, SyntaxError, ValueError, EOFError, OverflowError, struct.error, zlib.error)


def write_png(
    image: Image.Image, path: str | os.PathLike[str], texts: Mapping[str, str] | None = None, replace: bool = True
) -> None:
    """Write `image` as PNG at `path`, all of it or nothing, with `texts` as its text chunks.

    By custom "parameters" holds AUTOMATIC1111's infotext and "rein" the settings as JSON. A text outside Latin-1 goes
    into an international chunk (iTXt), the others into a plain one (tEXt), which every reader knows.

    Raises:
        InputError, OutputError, FileExistsError: as `rein.files.atomic_file`.
    """
    info = PngImagePlugin.PngInfo()
    for key, value in (texts or {}).items():
        # Half of a surrogate pair, which undecodable bytes on a command line become, has no place in a file.
        text = value.encode("utf-8", "replace").decode("utf-8")
        (info.add_text if _is_latin1(text) else info.add_itxt)(key, text)
    with atomic_file(path, replace) as handle:
        image.save(handle, "PNG", pnginfo=info)


def _is_latin1(text: str) -> bool:
    return all(ord(character) < 256 for character in text)


def write_image(
    image: Image.Image,
    path: str | os.PathLike[str],
    texts: Mapping[str, str] | None = None,
    quality: int | None = None,
    replace: bool = True,
) -> tuple[str, ...]:
    """Write `image` at `path` in the format that the name's ending tells, all of it or nothing, with `texts` inside.

    A JPEG or WebP file has "parameters" and "rein" in its EXIF block (`rein.exif`), other texts not at all.

    Args:
        quality: of JPEG and WebP, 1 to 100; None is `QUALITY`.
        replace: whether a file that is there gives way, as `rein.files.atomic_file` has it.

    Returns:
        The names of the texts that are not in the file: a JPEG has room for 65,533 bytes.

    Raises:
        InputError: another ending; a quality that is out of range or of a format that has none; a side that is longer
            than the format allows; as `rein.files.atomic_file`.
        OutputError: as `rein.files.atomic_file`.
    """
    file_format = format_of(path)
    options = saving_options(file_format, quality)
    if file_format == "png":
        write_png(image, path, texts, replace)
        return ()
    check_sides(image.size, path)
    block, left = exif_block(texts or {}, LARGEST_IN_JPEG if file_format == "jpeg" else None)
    with atomic_file(path, replace) as handle:
        to_rgb(image).save(handle, file_format.upper(), exif=block, **options)
    return left


def check_sides(size: tuple[int, int], path: str | os.PathLike[str]) -> None:
    """Refuse what `write_image` would, so that it can be said before long work.

    Raises:
        InputError: a side of `size`, (width, height), is longer than the format of that name allows.
    """
    file_format = format_of(path)
    longest = _LONGEST_SIDE.get(file_format)
    if longest is not None and max(size) > longest:
        raise InputError(
            f"cannot write {os.fspath(path)}: it would be {size[0]} x {size[1]}, and a {file_format} file has at most "
            f"{longest:,} pixels a side; choose png"
        )


def write_animation(
    images: Sequence[Image.Image], path: str | os.PathLike[str], fps: float, texts: Mapping[str, str] | None = None
) -> None:
    """Write pictures of one size as an animated WebP that begins again at its end, without loss, all of it or nothing.

    Args:
        fps: pictures a second, above 0; the format counts whole milliseconds.
        texts: as `write_image` has them.

    Raises:
        InputError, OutputError: as `write_image`.
    """
    if format_of(path) != "webp":
        raise InputError(f"cannot write {os.fspath(path)}: animations are WebP files; give a name that ends in .webp")
    first, *others = [to_rgb(image) for image in images]
    block, _ = exif_block(texts or {})
    options = {"save_all": True, "append_images": others, "duration": round(1000 / fps), "loop": 0, "lossless": True}
    with atomic_file(path) as handle:
        first.save(handle, "WEBP", exif=block, **options)


def saving_options(file_format: str, quality: int | None) -> dict[str, Any]:
    """How Pillow is to write a format of `PICTURE_SUFFIXES`.

    Raises:
        InputError: a quality that is out of range, or of a format that has none.
    """
    if file_format == "png":
        if quality is not None:
            raise InputError(f"quality is {quality}: PNG files have none; leave it out, or choose jpeg or webp")
        return {}
    wanted = QUALITY if quality is None else quality
    if not 1 <= wanted <= 100:
        raise InputError(f"quality is {wanted}: it must be a whole number from 1 to 100")
    if file_format == "jpeg":
        return {"quality": wanted, "subsampling": "4:4:4", "optimize": True}
    return {"lossless": True, "quality": 80} if wanted == 100 else {"quality": wanted}


def resaved(image: Image.Image, file_format: str, quality: int) -> Image.Image:
    """What is left of `image` when it has been written as JPEG or WebP, and read. Raises `InputError`."""
    buffer = io.BytesIO()
    to_rgb(image).save(buffer, file_format.upper(), **saving_options(file_format, quality))
    return Image.open(buffer, formats=FORMATS).convert("RGB")


def read_image(source: PictureSource, background: tuple[int, int, int] = (255, 255, 255)) -> Image.Image:
    """The picture in a PNG, JPEG or WebP file or a data URL: turned upright, in RGB, the first of an animation.

    Raises:
        InputError: there is no such file, or it is too large to be opened safely.
        DamagedFileError: it is not such a picture, or it is cut short.
    """
    with _opened(source) as image:
        try:
            return to_rgb(ImageOps.exif_transpose(image), background)
        except _UNREADABLE as error:
            raise _damaged(_shown(source), error) from error


def read_grey(source: PictureSource) -> NDArray[np.float32]:
    """Brightness (H, W) from 0 to 1 of a picture, a mask or a depth map. Raises as `read_image`."""
    with _opened(source) as image:
        try:
            return to_grey(ImageOps.exif_transpose(image))
        except _UNREADABLE as error:
            raise _damaged(_shown(source), error) from error


def read_layers(content: bytes, name: str) -> tuple[Image.Image, NDArray[np.uint8] | None]:
    """The colours of a picture in RGB, turned upright, transparency laid over white, and how opaque it is.

    Colours that a profile in the file defines otherwise (Display P3, Adobe RGB, CMYK) become those of sRGB.

    Args:
        content: all bytes of a PNG, JPEG or WebP file.
        name: of the picture, for messages.

    Returns:
        The picture, and (H, W) from 0 to 255, or None where the file has no transparency.

    Raises:
        InputError, DamagedFileError: as `read_image`.
    """
    _check_bytes(len(content), name)
    with _header(io.BytesIO(content), name) as image:
        try:
            upright = ImageOps.exif_transpose(image)
            opaque = None
            if upright.has_transparency_data:
                opaque = np.asarray(upright.convert("RGBA").getchannel("A"), dtype=np.uint8)
            return to_rgb(_as_srgb(upright)), opaque
        except _UNREADABLE as error:
            raise _damaged(name, error) from error


def _as_srgb(image: Image.Image) -> Image.Image:
    """The colours of sRGB for those of the profile in the file; as they are where that cannot be read or fits not."""
    profile = image.info.get("icc_profile")
    if not isinstance(profile, bytes) or len(profile) > _LARGEST_PROFILE or image.mode not in ("RGB", "RGBA", "CMYK"):
        return image
    mode = "RGBA" if image.mode == "RGBA" else "RGB"
    try:
        found = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        changed = ImageCms.profileToProfile(image, found, ImageCms.createProfile("sRGB"), outputMode=mode)
    except (ImageCms.PyCMSError, *_UNREADABLE):
        return image
    return image if changed is None else changed


def picture_size(source: PictureSource) -> tuple[int, int]:
    """(width, height) of a picture held upright, from its header. Raises as `read_image`."""
    with _opened(source) as image:
        try:
            turned = image.getexif().get(ExifTags.Base.Orientation, 1) in (5, 6, 7, 8)
        except _UNREADABLE as error:
            raise _damaged(_shown(source), error) from error
        return (image.height, image.width) if turned else (image.width, image.height)


def picture_digest(source: PictureSource) -> str:
    """SHA-256 of a picture's file. Raises `InputError`."""
    if is_data_url(source):
        return hashlib.sha256(_contents(source)).hexdigest()
    try:
        with open(source, "rb") as handle:
            return hashlib.file_digest(handle, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"cannot read {os.fspath(source)!r}: {error.strerror or error}") from error


def data_url(image: Image.Image) -> str:
    """A picture as a text that `read_image` reads, without loss (PNG)."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=1)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def is_data_url(source: PictureSource) -> TypeGuard[str]:
    """Whether a source is a picture itself, not the name of a file."""
    return isinstance(source, str) and source.startswith(DATA_URL)


def read_texts(source: PictureSource) -> dict[str, str]:
    """The texts inside a picture by their names; none gives an empty dictionary.

    A PNG has them in text chunks, a JPEG or WebP file in its EXIF block (`rein.exif`).

    Raises:
        InputError, DamagedFileError: as `read_image`.
    """
    with _opened(source) as image:
        try:
            if isinstance(image, PngImagePlugin.PngImageFile):
                return {str(key): str(value) for key, value in image.text.items()}  # decodes, to find chunks at the end
            return exif_texts(image.getexif())
        except _UNREADABLE as error:
            raise _damaged(_shown(source), error) from error


def read_format(source: PictureSource) -> str:
    """The format of a picture by its contents: "png", "jpeg" or "webp". Raises as `read_image`."""
    with _opened(source) as image:
        return str(image.format).lower()


def _opened(source: PictureSource) -> Image.Image:
    """Read the header of a picture and refuse what is too large, before any pixel is decoded."""
    return _header(_bytes_or_path(source), _shown(source))


def _header(content: BinaryIO | str | os.PathLike[str], name: str) -> Image.Image:
    try:
        with warnings.catch_warnings():  # our own limit below replaces Pillow's warning
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(content, formats=FORMATS)
    except Image.DecompressionBombError as error:
        raise InputError(f"{name} has too many pixels; up to {MAX_PIXELS} are read") from error
    except PermissionError as error:
        raise InputError(f"cannot read {name}: no permission") from error
    except _UNREADABLE as error:
        raise _damaged(name, error) from error
    if image.width * image.height > MAX_PIXELS:
        image.close()
        raise InputError(f"{name} is {image.width} x {image.height}; up to {MAX_PIXELS} pixels are read")
    return image


def _bytes_or_path(source: PictureSource) -> BinaryIO | str | os.PathLike[str]:
    """What Pillow opens, not larger than it may be."""
    if is_data_url(source):
        return io.BytesIO(_contents(source))
    try:
        size = os.stat(source).st_size
        if os.path.isdir(source):
            raise InputError(f"{os.fspath(source)} is a folder; give a picture file")
    except (FileNotFoundError, NotADirectoryError) as error:
        raise InputError(f"there is no picture {os.fspath(source)}") from error
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read {os.fspath(source)!r}: {getattr(error, 'strerror', None) or error}") from error
    _check_bytes(size, _shown(source))
    return source


def _contents(url: str) -> bytes:
    """The bytes in a data URL."""
    _check_bytes(len(url) * 3 // 4, _shown(url))
    head, comma, text = url.partition(",")
    try:
        if not comma or not head.endswith(";base64"):
            raise ValueError('it does not begin like "data:image/png;base64,"')
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise _damaged(_shown(url), error) from error


def _check_bytes(size: int, name: str) -> None:
    if size > MAX_FILE_BYTES:
        raise InputError(f"{name} has {size} bytes; pictures up to {MAX_FILE_BYTES} bytes are read")


def _shown(source: PictureSource) -> str:
    return "the picture in the data URL" if is_data_url(source) else os.fspath(source)


def _damaged(name: str, error: Exception) -> DamagedFileError:
    reason = "not a PNG, JPEG or WebP picture" if "cannot identify" in str(error) else str(error).replace("\n", " ")
    return DamagedFileError(f"cannot read {name}: {reason}")
