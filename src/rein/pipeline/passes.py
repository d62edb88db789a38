"""Work in several passes, each an ordinary request that begins where the one before ended."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate

from rein.formats.upscalers import load_upscaler
from rein.image_files import read_image
from rein.nn.specs import ModelSpec
from rein.pipeline import outpaint
from rein.pipeline.fields import MAX_SIDE
from rein.pipeline.inputs import Given
from rein.pipeline.request import Request
from rein.pipeline.upscale import Upscaler, upscale

BEFORE = "(the pass before)"
"""Stands in a pass's request for the picture that is handed to it."""

LATENT = "latent"


@dataclass(frozen=True, eq=False)
class Finished:
    """What a pass made: the picture as it lies in its source, and its latents (1, C, h, w)."""

    image: Image.Image
    latents: Tensor


@dataclass(frozen=True, eq=False)
class Pass:
    """One pass: a request for one picture, its seed that of the first; `given` makes its start of what was before."""

    request: Request
    given: Callable[[Finished | None], Given | None] = lambda before: None


def passes_of(request: Request, spec: ModelSpec) -> list[Pass]:
    """The passes of a resolved request; a plain one has one.

    Raises:
        InputError: a picture or an upscaler that cannot be read, a size that is too large.
    """
    if request.outpaint is not None:
        return _outpainting(request, spec)
    if request.hires_scale is not None:
        return _enlarging(request, spec)
    if request.loops > 1:
        return _looping(request)
    return [Pass(request)]


def _looping(request: Request) -> list[Pass]:
    """Each result is the next start, with the next seed and a strength that changes."""
    assert request.seed is not None and request.strength is not None

    def begun(before: Finished | None) -> Given | None:
        return None if before is None else Given(picture=before.image)

    return [
        Pass(
            request.replace(
                loops=1,
                loop_strength=1.0,
                seed=request.seed + turn,
                strength=min(1.0, request.strength * request.loop_strength**turn),
            ),
            begun,
        )
        for turn in range(request.loops)
    ]


def _enlarging(request: Request, spec: ModelSpec) -> list[Pass]:
    """A picture, then a larger one over it ("hires fix")."""
    assert request.width is not None and request.height is not None and request.hires_scale is not None
    unit, scale = spec.autoencoder.downscale, request.hires_scale
    largest = MAX_SIDE // unit * unit
    sides = [min(largest, max(unit, round(side * scale / unit) * unit)) for side in (request.width, request.height)]
    plain = {"hires_scale": None, "hires_upscaler": "lanczos", "hires_steps": None, "hires_strength": 0.6}
    way, network = request.hires_upscaler, None
    if way not in (LATENT, "lanczos", "nearest"):
        network = load_upscaler(way)

    def enlarged(before: Finished | None) -> Given:
        assert before is not None
        if way == LATENT:
            size = sides[1] // unit, sides[0] // unit
            return Given(latents=interpolate(before.latents, size, mode="bilinear", align_corners=False))
        return Given(picture=_enlarged(before.image, (sides[0], sides[1]), network or way))

    second = request.replace(
        **plain,
        width=sides[0],
        height=sides[1],
        steps=request.hires_steps or request.steps,
        init_image=BEFORE,
        strength=request.hires_strength,
    )
    return [Pass(request.replace(**plain)), Pass(second, enlarged)]


def _enlarged(image: Image.Image, size: tuple[int, int], upscaler: str | Upscaler) -> Image.Image:
    factor = max(size[0] / image.width, size[1] / image.height)
    larger = upscale(image, factor, upscaler)
    return larger if larger.size == size else larger.resize(size, Image.Resampling.LANCZOS)


def _outpainting(request: Request, spec: ModelSpec) -> list[Pass]:
    """A larger canvas, and a pass for each window of it."""
    assert request.outpaint is not None and request.init_image is not None
    unit = spec.autoencoder.downscale
    picture = read_image(request.init_image)
    whole = outpaint.canvas(picture, request.outpaint)

    def given(window: outpaint.Window) -> Callable[[Finished | None], Given]:
        mask, share = outpaint.joined(outpaint.unknown(whole.size, window.known), request.mask_blur)
        return lambda before: Given(whole if before is None else before.image, None, mask, share, window.box)

    found = []
    for window in outpaint.windows(picture.size, request.outpaint, spec.native_size, unit):
        width, height = window.size(unit)
        # The mask is handed over; this one only says that there is one, so that its settings hold.
        single = request.replace(outpaint=None, mask=BEFORE, init_image=BEFORE, width=width, height=height)
        found.append(Pass(single, given(window)))
    return found
