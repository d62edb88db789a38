"""Types of a request's fields, and what each may be in the words of its error message."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationError

from rein.devices import MAX_SEED
from rein.errors import nearest, quoted
from rein.pipeline.choices import EMBEDDINGS, LORAS

MIN_SIDE, MAX_SIDE = 16, 4096
MAX_PROMPT = 1_000_000
MAX_STEPS = MAX_COUNT = 1000
MAX_GUIDANCE = 100.0
MAX_CLIP_SKIP = 32
MAX_CHURN, MAX_NOISE = 1000.0, 2.0
MAX_STYLES = 32
MAX_ID = 65_536
MAX_BLUR, MAX_PADDING = 256.0, 1024
MAX_HIRES, MAX_LOOPS = 8.0, 100
MAX_URL = 400 * 2**20

RESIZES = ("stretch", "crop", "fill", "latent")
CONTENTS = ("original", "fill", "noise", "nothing")
SEAMLESS = ("none", "x", "y", "both")
NOISES = ("cpu", "philox")

_side = f"a whole number of pixels from {MIN_SIDE} to {MAX_SIDE}"
_picture = "a PNG, JPEG or WebP file, or a data URL"
ALLOWED: Mapping[str, str] = {
    "prompt": f"a text of at most {MAX_PROMPT:,} characters",
    "negative_prompt": f"a text of at most {MAX_PROMPT:,} characters",
    "width": _side,
    "height": _side,
    "steps": f"a whole number from 1 to {MAX_STEPS}",
    "guidance_scale": f"a number from 0 to {MAX_GUIDANCE:g}",
    "guidance_rescale": "a number from 0 to 1",
    "guidance_interval": "two noise levels (low, high) with 0 <= low < high",
    "sampler": "the name of a sampler",
    "spacing": 'the name of a spacing, or "automatic"',
    "eta": "a number from 0 to 1",
    "s_churn": f"a number from 0 to {MAX_CHURN:g}",
    "s_tmin": "a noise level of at least 0, at most s_tmax",
    "s_tmax": "a noise level of at least s_tmin",
    "s_noise": f"a number from 0 to {MAX_NOISE:g}",
    "rho": "a number above 0, at most 100",
    "sigma_min": "a noise level above 0, at most 2**20",
    "sigma_max": "a noise level above 0, at most 2**20",
    "seed": f"a whole number from 0 to {MAX_SEED}",
    "count": f"a whole number from 1 to {MAX_COUNT}",
    "noise_source": f"one of {', '.join(NOISES)}",
    "variation_seed": f"a whole number from 0 to {MAX_SEED}",
    "variation_strength": "a number from 0 to 1",
    "seed_resize_from": f"width and height, {MIN_SIDE} to {MAX_SIDE} pixels each",
    "dialect": "the name of a dialect of prompts",
    "emphasis": "the name of an emphasis mode",
    "clip_skip": f"a whole number from 1 to {MAX_CLIP_SKIP}",
    "styles": f"at most {MAX_STYLES} names of styles",
    "styles_file": "the path of a CSV file",
    "wildcards": "the path of a folder",
    "dynamic": "true or false",
    "original_size": f"width and height, 1 to {MAX_ID} pixels each",
    "crop": f"two numbers of pixels, left and top, 0 to {MAX_ID}",
    "target_size": f"width and height, 1 to {MAX_ID} pixels each",
    "aesthetic_score": "a number from 0 to 10",
    "negative_aesthetic_score": "a number from 0 to 10",
    "loras": LORAS,
    "lora_folder": "the path of a folder",
    "embeddings": EMBEDDINGS,
    "embedding_folder": "the path of a folder",
    "init_image": _picture,
    "strength": "a number from 0 to 1",
    "resize": f"one of {', '.join(RESIZES)}",
    "loops": f"a whole number from 1 to {MAX_LOOPS}",
    "loop_strength": "a number from 0.1 to 2",
    "mask": _picture,
    "mask_invert": "true or false",
    "mask_blur": f"a number of pixels from 0 to {MAX_BLUR:g}",
    "masked_content": f"one of {', '.join(CONTENTS)}",
    "only_masked": "true or false",
    "mask_padding": f"a whole number of pixels from 0 to {MAX_PADDING}",
    "soft_mask": "true or false",
    "outpaint": f"four numbers of pixels, left, top, right and bottom, 0 to {MAX_SIDE} each, not all 0",
    "depth_image": _picture,
    "depth_model": "the path of a folder",
    "image_guidance_scale": f"a number from 0 to {MAX_GUIDANCE:g}",
    "hires_scale": f"a number above 1, at most {MAX_HIRES:g}",
    "hires_upscaler": "latent, lanczos, or the path of an upscaler's file",
    "hires_steps": f"a whole number from 1 to {MAX_STEPS}",
    "hires_strength": "a number from 0 to 1",
    "seamless": f"one of {', '.join(SEAMLESS)}",
    "tile": f"a whole number of pixels from 64 to {MAX_SIDE}",
    "refiner": "the path of a model",
    "refiner_switch": "a number from 0 to 1",
}
"""What each field may be."""


def _well_formed(text: Any) -> Any:
    """Halves of a surrogate pair, which undecodable bytes on a command line become, have no place in a text."""
    if isinstance(text, str) and not text.isascii():
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def _as_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _as_picture(value: Any) -> Any:
    """A picture in memory as a data URL, a path as its text."""
    if hasattr(value, "__fspath__"):
        return value.__fspath__()
    if hasattr(value, "tobytes") and hasattr(value, "mode"):
        from rein.image_files import data_url

        return data_url(value)
    return value


Text = Annotated[str, BeforeValidator(_well_formed), Field(max_length=MAX_PROMPT)]
Side = Annotated[int, Field(ge=MIN_SIDE, le=MAX_SIDE)]
Share = Annotated[float, Field(ge=0, le=1)]
Scale = Annotated[float, Field(ge=0, le=MAX_GUIDANCE)]
Count = Annotated[int, Field(ge=1, le=MAX_COUNT)]
Seed = Annotated[int, Field(ge=0, le=MAX_SEED)]
Level = Annotated[float, Field(gt=0, le=2**20)]
Size = Annotated[
    tuple[Annotated[int, Field(ge=1, le=MAX_ID)], Annotated[int, Field(ge=1, le=MAX_ID)]], BeforeValidator(_as_tuple)
]
Sides = Annotated[tuple[Side, Side], BeforeValidator(_as_tuple)]
Place = Annotated[
    tuple[Annotated[int, Field(ge=0, le=MAX_ID)], Annotated[int, Field(ge=0, le=MAX_ID)]], BeforeValidator(_as_tuple)
]
Pair = Annotated[tuple[float, float], BeforeValidator(_as_tuple)]
Score = Annotated[float, Field(ge=0, le=10)]
Names = Annotated[tuple[str, ...], BeforeValidator(_as_tuple), Field(max_length=MAX_STYLES)]
Picture = Annotated[str, BeforeValidator(_as_picture), Field(min_length=1, max_length=MAX_URL, pattern=r"^[^\x00]*$")]
_Margin = Annotated[int, Field(ge=0, le=MAX_SIDE)]
Margins = Annotated[tuple[_Margin, _Margin, _Margin, _Margin], BeforeValidator(_as_tuple)]
Resize = Literal["stretch", "crop", "fill", "latent"]
Content = Literal["original", "fill", "noise", "nothing"]
Seamless = Literal["none", "x", "y", "both"]
NoiseName = Literal["cpu", "philox"]


def complaint(error: ValidationError) -> str:
    """The first complaint in our words."""
    details = error.errors(include_url=False, include_context=False)
    # An unknown name before a missing one: it may be that one misspelt.
    detail = next((entry for entry in details if entry["type"] == "extra_forbidden"), details[0])
    if not detail["loc"]:
        return f"a request must be an object of named fields, not {quoted(detail['input'])}"
    field = str(detail["loc"][0])
    if detail["type"] == "extra_forbidden" and len(detail["loc"]) == 1:
        return f"unknown option {quoted(field)}: {nearest(field, ALLOWED)}"
    if detail["type"] == "missing" and len(detail["loc"]) == 1:
        return f"{field} is missing: it must be {ALLOWED[field]}"
    return refusal(field, detail["input"])


def refusal(field: str, value: object) -> str:
    """The error message for a field's value."""
    shown = quoted(value) if not isinstance(value, float) or math.isfinite(value) else str(value)
    return f"{field} is {shown}: it must be {ALLOWED[field]}"
