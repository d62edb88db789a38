"""What a picture begins with besides words and noise: another picture, a mask, a depth map.

All kinds of work are prepared here, before the loop: where it begins, what is known, what further channels show, and
how the drawn picture lies in its source.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torch.nn.functional import interpolate

from rein import masks
from rein.errors import InputError
from rein.formats.checkpoint import LoadedModel
from rein.image_files import read_grey, read_image
from rein.images import crop_to, pil_to_tensor
from rein.masks import Array, Box, Overlay
from rein.pipeline.depth import depth_channel
from rein.pipeline.memo import Memo
from rein.pipeline.request import Request


@dataclass(frozen=True, eq=False)
class Given:
    """What one pass hands to the next in place of the files that a request names.

    Fields:
        picture: to start from, RGB.
        latents: to start from, scaled (1, C, h, w), of the size that is drawn; they go before the picture.
        mask: (H, W) from 0 to 1 of the picture's size, ready: neither inverted nor blurred again.
        share: (H, W), how much of the drawn picture is shown in the end; None is the mask.
        box: the part of the picture that is drawn; None is all of it.
    """

    picture: Image.Image | None = None
    latents: Tensor | None = None
    mask: Array | None = None
    share: Array | None = None
    box: Box | None = None


@dataclass(frozen=True, eq=False)
class Inputs:
    """What a request's pictures begin with, the same for all of its seeds.

    Fields:
        latents: scaled (1, C, h, w) of the picture to start from; None where only words are given.
        mask: (1, 1, h, w) from 0 to 1; 1 is drawn. None draws all.
        extra: (1, E, h, w), further channels of the U-Net.
        overlay: how the result is laid into its source.
        fresh: whether the start is noise alone, without the picture under it.
    """

    latents: Tensor | None = None
    mask: Tensor | None = None
    extra: Tensor | None = None
    overlay: Overlay | None = None
    fresh: bool = True


@dataclass(frozen=True, eq=False)
class _Source:
    """A picture at the size that is drawn, its mask (H, W), and how the result lies in the whole.

    `plain` is the picture as it came, where its latents are to be stretched in place of its pixels.
    """

    picture: Image.Image
    mask: Array | None = None
    overlay: Overlay | None = None
    plain: Image.Image | None = None


@torch.inference_mode()
def prepare_inputs(
    parts: LoadedModel, request: Request, given: Given | None = None, memo: Memo | None = None
) -> Inputs:
    """What a resolved request of a single pass begins with; `memo` knows pictures that were encoded before.

    Raises:
        InputError: a picture that cannot be read, a mask in which nothing is painted.
        DamagedFileError: a file that is no picture.
    """
    given, memo = given or Given(), memo or Memo()
    source = _source(request, given)
    extra = _extra(parts, request, source, memo)
    if source is None:
        return Inputs(extra=extra)
    mask = None if source.mask is None else _latent_mask(parts, source.mask, request.soft_mask)
    form = parts.spec.form
    # As in diffusers: all of the way begins with noise alone, unless a plain picture is the start.
    fresh = request.strength == 1 and (mask is not None or form == "editing")
    begin = source.picture
    if source.mask is not None and request.masked_content != "original":
        begin = masks.smeared(begin, (source.mask > 0).astype(np.float32))
    if given.latents is not None:
        latents = given.latents
    elif source.plain is not None:
        latents = _stretched(parts, request, source.plain, memo)
    else:
        latents = _encoded(parts, request, begin, memo)
    kept = None if form == "inpainting" else mask  # such a network sees for itself what is to stay
    return Inputs(latents, kept, extra, source.overlay, fresh)


def _source(request: Request, given: Given) -> _Source | None:
    assert request.width is not None and request.height is not None
    size = request.width, request.height
    if given.latents is not None:
        return _Source(given.picture or Image.new("RGB", size))
    if given.picture is None and request.init_image is None:
        return None
    picture = given.picture or read_image(request.init_image or "")
    mask = given.mask if given.mask is not None else _read_mask(request, picture.size)
    if mask is None:
        plain = picture if request.resize == "latent" and picture.size != size else None
        return _Source(_fitted(picture, size, request.resize), plain=plain)
    box = given.box
    if box is None and request.only_masked:
        found = masks.bounds(mask)
        assert found is not None
        box = masks.window(found, request.mask_padding, size, picture.size)
    if box is not None:
        cut = mask[box[1] : box[3], box[0] : box[2]]
        enlarged = picture.crop(box).resize(size, Image.Resampling.LANCZOS)
        overlay = Overlay(picture, mask if given.share is None else given.share, box)
        return _Source(enlarged, masks.resized(cut, *size), overlay)
    fitted = _fitted(picture, size, request.resize)
    mask = np.asarray(_fitted_plane(mask, size, request.resize))
    # Inside the mask's old edge all is new, as in AUTOMATIC1111's web UI.
    share = given.share if given.share is not None else np.clip(mask * 2, 0, 1)
    return _Source(fitted, mask, Overlay(fitted, share))


def _read_mask(request: Request, size: tuple[int, int]) -> Array | None:
    """The mask of the request at the picture's size: rounded unless it is soft, inverted, blurred."""
    if request.mask is None:
        return None
    mask = masks.resized(read_grey(request.mask), *size)
    if not request.soft_mask:
        mask = (mask >= 0.5).astype(np.float32)
    if request.mask_invert:
        mask = 1 - mask
    if not mask.any():
        paint = "black" if request.mask_invert else "white"
        raise InputError(f"mask has no {paint} part, so there is nothing to paint: make one, or turn mask_invert round")
    return masks.blurred(mask, request.mask_blur)


def _fitted(picture: Image.Image, size: tuple[int, int], resize: str) -> Image.Image:
    """The picture at a size, by the name of a resize mode."""
    if picture.size == size:
        return picture
    if resize in ("stretch", "latent"):
        return picture.resize(size, Image.Resampling.LANCZOS)
    if resize == "crop":
        return crop_to(picture, *size)
    inside = ImageOps.contain(picture, size, Image.Resampling.LANCZOS)
    left, top = (size[0] - inside.width) // 2, (size[1] - inside.height) // 2
    pixels = np.pad(
        np.asarray(inside),
        ((top, size[1] - inside.height - top), (left, size[0] - inside.width - left), (0, 0)),
        mode="edge",
    )
    return Image.fromarray(pixels)


def _fitted_plane(mask: Array, size: tuple[int, int], resize: str) -> Array:
    """A mask fitted as its picture is; what "fill" adds is not painted."""
    width, height = mask.shape[1], mask.shape[0]
    if (width, height) == size or resize in ("stretch", "latent"):
        return masks.resized(mask, *size)
    choose = max if resize == "crop" else min
    factor = choose(size[0] / width, size[1] / height)
    scaled = masks.resized(mask, max(1, round(width * factor)), max(1, round(height * factor)))
    result = np.zeros((size[1], size[0]), dtype=np.float32)
    image = Image.fromarray(result)
    image.paste(Image.fromarray(scaled), ((size[0] - scaled.shape[1]) // 2, (size[1] - scaled.shape[0]) // 2))
    return np.asarray(image)


def _encoded(parts: LoadedModel, request: Request, picture: Image.Image, memo: Memo) -> Tensor:
    """Scaled latents (1, C, h, w) of a picture, whose sides are whole latent pixels."""
    return memo.encoded(parts, pil_to_tensor(picture)[None], request.tile, request.seamless)


def _stretched(parts: LoadedModel, request: Request, picture: Image.Image, memo: Memo) -> Tensor:
    """The latents of a picture at its own size, cropped to whole latent pixels, stretched to the size that is drawn."""
    unit = parts.spec.autoencoder.downscale
    assert request.width is not None and request.height is not None
    whole = [max(unit, side // unit * unit) for side in picture.size]
    latents = _encoded(parts, request, crop_to(picture, *whole), memo)
    size = request.height // unit, request.width // unit
    return interpolate(latents, size, mode="bilinear", align_corners=False)


def _latent_mask(parts: LoadedModel, mask: Array, soft: bool) -> Tensor:
    """The mask at latent size, (1, 1, h, w): rounded unless it is soft."""
    unit = parts.spec.autoencoder.downscale
    small = masks.resized(mask, mask.shape[1] // unit, mask.shape[0] // unit)
    tensor = torch.from_numpy(np.array(small if soft else np.rint(small))).to(parts.device)
    return tensor[None, None]


def _extra(parts: LoadedModel, request: Request, source: _Source | None, memo: Memo) -> Tensor | None:
    """What a family with more channels than the latents sees in them; None where nothing is given."""
    form = parts.spec.form
    if form == "depth":
        return _depth(parts, request, source, memo)
    if source is None:
        return None
    if form == "editing":
        scale, shift = parts.spec.latent_scale, parts.spec.latent_shift
        return _encoded(parts, request, source.picture, memo) / scale + shift  # such models see them unscaled
    if form == "inpainting":
        return _masked_picture(parts, request, source, memo)
    return None


def _masked_picture(parts: LoadedModel, request: Request, source: _Source, memo: Memo) -> Tensor:
    """The mask and the latents of the picture with grey in its place; without a mask all of it is painted."""
    mask = source.mask if source.mask is not None else np.ones(source.picture.size[::-1], dtype=np.float32)
    hard = torch.from_numpy((mask >= 0.5).astype(np.float32)).to(parts.device)
    pixels = pil_to_tensor(source.picture).to(parts.device) * (1 - hard)
    latents = memo.encoded(parts, pixels[None], request.tile, request.seamless)
    shown = interpolate(hard[None, None], size=latents.shape[-2:])
    return torch.cat([shown, latents.float()], dim=1)


def _depth(parts: LoadedModel, request: Request, source: _Source | None, memo: Memo) -> Tensor | None:
    """The depth map at latent size, stretched to -1 (far) to 1 (near): (1, 1, h, w)."""
    if request.depth_image is not None:
        depth = read_grey(request.depth_image)
    elif request.depth_model is not None and source is not None:
        depth = memo.nearness(request.depth_model, source.picture)
    else:
        return None
    unit = parts.spec.autoencoder.downscale
    assert request.width is not None and request.height is not None
    plane = torch.from_numpy(np.array(depth, dtype=np.float32))[None, None].to(parts.device)
    return depth_channel(plane, (request.height // unit, request.width // unit))
