"""How large a picture becomes that says nothing about it, or only one side."""

from __future__ import annotations

import math

from rein.errors import InputError
from rein.image_files import picture_size
from rein.nn.specs import ModelSpec
from rein.pipeline.fields import MAX_SIDE, MIN_SIDE
from rein.pipeline.request_fields import RequestFields


def picture_sides(request: RequestFields, spec: ModelSpec) -> tuple[int, int]:
    """Width and height that are drawn, in pixels.

    A picture made from words is square at the model's native size. One made from a picture has that one's size, in
    whole latent pixels; where a side is not between half the native size and twice it, its shape at the native area.
    A single given side keeps the shape. An outpainted picture has what is added to it; its sides may be any. Only the
    masked part of a picture is drawn at the native size.

    Raises:
        InputError: a side that is not a multiple of the model's latent pixels; a picture that cannot be read.
    """
    if request.outpaint is not None:
        return _extended(request)
    for name in ("width", "height"):
        _check(getattr(request, name), name, spec)
    if request.width is not None and request.height is not None:
        return request.width, request.height
    native = spec.native_size
    if request.init_image is None or request.only_masked:
        return request.width or native, request.height or native
    return _following(picture_size(request.init_image), request, spec)


def _extended(request: RequestFields) -> tuple[int, int]:
    assert request.init_image is not None and request.outpaint is not None
    width, height = picture_size(request.init_image)
    left, top, right, bottom = request.outpaint
    sides = width + left + right, height + top + bottom
    for name, side in zip(("width", "height"), sides, strict=True):
        if side > MAX_SIDE:
            raise InputError(f"outpaint makes the {name} {side} pixels: it may be at most {MAX_SIDE}; add less")
        if getattr(request, name) not in (None, side):
            raise InputError(f"{name} is {getattr(request, name)}: with this outpaint it is {side}; leave it out")
    return sides


def _following(size: tuple[int, int], request: RequestFields, spec: ModelSpec) -> tuple[int, int]:
    """The sides that are not given, from a picture's size."""
    unit, native = spec.autoencoder.downscale, spec.native_size
    width, height = size
    if request.width is not None:
        factor = request.width / width
    elif request.height is not None:
        factor = request.height / height
    else:
        fits = all(native // 2 <= side <= native * 2 for side in size)
        factor = 1.0 if fits else math.sqrt(native * native / (width * height))
    sides = [_whole(side * factor, unit) for side in size]
    return request.width or sides[0], request.height or sides[1]


def _whole(side: float, unit: int) -> int:
    """The nearest multiple of `unit` within the limits, ties to the lower one."""
    lowest = -(-MIN_SIDE // unit) * unit
    return min(max(math.ceil(side / unit - 0.5) * unit, lowest), MAX_SIDE // unit * unit)


def _check(side: int | None, name: str, spec: ModelSpec) -> None:
    unit = spec.autoencoder.downscale
    if side is not None and side % unit:
        near = [size for size in (side // unit * unit, -(-side // unit) * unit) if MIN_SIDE <= size <= MAX_SIDE]
        choices = " or ".join(str(size) for size in near)
        raise InputError(f"{name} is {side}: model {spec.name!r} needs a multiple of {unit} pixels; use {choices}")
