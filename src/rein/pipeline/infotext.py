"""The settings that travel inside a picture: AUTOMATIC1111's infotext for people and other programs, JSON for Rein."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rein.diffusion.samplers import find_sampler
from rein.diffusion.spacing import SPACINGS
from rein.pipeline.request import Request
from rein.text.dialects import EMPHASES
from rein.version import __version__

NOISE = {
    "cpu": "torch.Generator on the CPU, one a picture, float32",
    "philox": "Philox 4x32-10 as CUDA draws it, one a picture, float32",
}
"""How the manifest tells the sources of noise."""

RNG = {"cpu": "CPU", "philox": "NV"}
"""The sources of noise as that program calls them; "NV" is its own copy of what a GPU draws."""

MASKED_CONTENT = {"fill": "fill", "noise": "latent noise", "nothing": "latent nothing"}
"""What the painting begins with, as that program calls it; for "original" it writes nothing."""

HIRES_UPSCALERS = {"latent": "Latent", "lanczos": "Lanczos"}
"""Upscalers that need no file, as that program calls them."""

RARE = {
    "Schedule max sigma": "sigma_max",
    "Schedule min sigma": "sigma_min",
    "Schedule rho": "rho",
    "Sigma churn": "s_churn",
    "Sigma tmin": "s_tmin",
    "Sigma tmax": "s_tmax",
    "Sigma noise": "s_noise",
}
"""Settings that are told only where they are not the default, and their fields."""


@dataclass(frozen=True)
class Provenance:
    """What made a picture besides its request."""

    model: str
    model_hash: str
    device: str
    dtype: str
    torch: str
    pictures: Mapping[str, str] = field(default_factory=dict)
    """SHA-256 of the pictures that the request begins with, by field, so that a changed file is noticed."""


def infotext(
    request: Request,
    provenance: Provenance,
    asked: Mapping[str, Any] | None = None,
    records: Mapping[str, Any] | None = None,
) -> str:
    """The text that AUTOMATIC1111's web UI writes into its pictures, for a resolved request of one picture.

    `asked` is what the words were drawn from, told as the dynamic prompts extension does it. `records` are the adapters
    (`rein.pipeline.adapters.Chosen.records`), which that program tells by tags in the prompt and by their hashes.

    Prompt; a line for the negative prompt unless it is empty; a line of settings, those that Rein has in that
    program's order. Its format is ambiguous for a prompt that holds such lines itself; the manifest is not.
    """
    assert request.sampler is not None and request.spacing is not None
    interval = request.guidance_interval
    settings: dict[str, object] = {
        "Steps": request.steps,
        "Sampler": find_sampler(request.sampler).label,
        "Schedule type": SPACINGS[request.spacing].label,
        "CFG scale": _number(request.guidance_scale),
        "Image CFG scale": _number(request.image_guidance_scale),
        "Seed": request.seed,
        "Size": f"{request.width}x{request.height}",
        "Model hash": provenance.model_hash[:10] or None,
        "Model": provenance.model,
        **_variation(request),
        "Denoising strength": _number(_strength(request)),
        **_language(request),
        "RNG": RNG[request.noise_source],
        **_seamless(request),
        "Eta": _number(request.eta),
        **{label: _number(getattr(request, name)) for label, name in RARE.items() if request.is_set(name)},
        "Guidance rescale": _number(request.guidance_rescale or None),
        "Guidance interval": None if interval is None else f"{interval[0]:g} to {interval[1]:g}",
        **_painting(request),
        **_passes(request),
        **_templates(request, asked or {}),
        **_hashes(records or {}),
        "Version": f"rein {__version__}",
    }
    line = ", ".join(f"{key}: {quote(value)}" for key, value in settings.items() if value is not None)
    negative = f"\nNegative prompt: {request.negative_prompt}" if request.negative_prompt else ""
    tags = "".join(f" {_tag(record)}" for record in (records or {}).get("loras", ())[: len(request.loras)])
    return f"{request.prompt}{tags}{negative}\n{line}".strip()


def _variation(request: Request) -> dict[str, object]:
    size = request.seed_resize_from
    return {
        "Variation seed": request.variation_seed if request.variation_strength else None,
        "Variation seed strength": _number(request.variation_strength or None),
        "Seed resize from": None if size is None else f"{size[0]}x{size[1]}",
    }


def _strength(request: Request) -> float | None:
    """How much of the way is gone anew: from the first picture, or in the second pass."""
    return request.strength if request.hires_scale is None else request.hires_strength


def _seamless(request: Request) -> dict[str, object]:
    axes = request.seamless
    return {"Tiling": axes == "both" or None, "Tile X": axes == "x" or None, "Tile Y": axes == "y" or None}


def _painting(request: Request) -> dict[str, object]:
    """What is painted where, and from what; that program keeps the picture and the mask to itself."""
    if request.mask is None and request.outpaint is None:
        return {}
    sides = zip(("left", "top", "right", "bottom"), request.outpaint or (), strict=False)
    added = " ".join(f"{side} {count}" for side, count in sides if count)
    return {
        "Mask blur": _number(request.mask_blur or None),
        "Mask mode": "Inpaint not masked" if request.mask_invert else None,
        "Masked content": MASKED_CONTENT.get(request.masked_content),
        "Inpaint area": "Only masked" if request.only_masked else None,
        "Masked area padding": request.mask_padding if request.only_masked else None,
        "Soft mask": request.soft_mask or None,
        "Outpaint": added or None,
    }


def _passes(request: Request) -> dict[str, object]:
    """Passes after the first, and the model that ends it."""
    upscaler = request.hires_upscaler
    return {
        "Hires upscale": _number(request.hires_scale),
        "Hires steps": request.hires_steps,
        "Hires upscaler": None if request.hires_scale is None else HIRES_UPSCALERS.get(upscaler, Path(upscaler).stem),
        "Loops": request.loops if request.loops > 1 else None,
        "Denoising strength change factor": _number(request.loop_strength if request.is_set("loop_strength") else None),
        "Refiner": None if request.refiner is None else Path(request.refiner).stem,
        "Refiner switch at": None if request.refiner is None else _number(request.refiner_switch),
    }


def _tag(record: Mapping[str, Any]) -> str:
    """The tag that stands for an adapter in a prompt of that program: with two numbers, the text's is the first."""
    weight, text_weight = _number(record["weight"]), _number(record["text_weight"])
    both = weight if weight == text_weight else f"{text_weight}:{weight}"
    return f"<lora:{record['name']}:{both}>"


def _hashes(records: Mapping[str, Any]) -> dict[str, object]:
    loras = {record["name"]: record["short_hash"] for record in records.get("loras", ())}
    words = {record["name"]: record["sha256"][:12] for record in records.get("embeddings", ())}
    listed = (", ".join(f"{name}: {digest}" for name, digest in table.items()) or None for table in (loras, words))
    return dict(zip(("Lora hashes", "TI hashes"), listed, strict=True))


def _language(request: Request) -> dict[str, object]:
    """How the prompts are read, where it is not that program's default."""
    has_brackets = any(sign in request.prompt + request.negative_prompt for sign in "([")
    return {
        "Clip skip": request.clip_skip if request.clip_skip > 1 else None,
        "Emphasis": EMPHASES[request.emphasis] if request.emphasis not in (None, "original") and has_brackets else None,
        "Prompt dialect": request.dialect if request.dialect in ("comfy", "compel") else None,
    }


def _templates(request: Request, asked: Mapping[str, Any]) -> dict[str, object]:
    names = {"Template": "prompt", "Negative Template": "negative_prompt"}
    texts = {key: (asked.get(name), getattr(request, name)) for key, name in names.items()}
    styles = ", ".join(asked.get("styles", ())) or None
    return {"Styles": styles, **{key: text if text and text != drawn else None for key, (text, drawn) in texts.items()}}


def quote(value: object) -> str:
    """A value as it stands in the line of settings: as JSON if it holds a comma, a colon or a line break."""
    text = str(value)
    return json.dumps(text, ensure_ascii=False) if any(sign in text for sign in ",:\n") else text


def _number(value: float | None) -> str | None:
    """7 rather than 7.0; otherwise every digit that tells it from its neighbours."""
    if value is None:
        return None
    return str(int(value)) if value == int(value) else repr(value)


def manifest(request: Request, provenance: Provenance, notes: Sequence[str] = ()) -> dict[str, Any]:
    """Everything that a picture was made with, as JSON values; the request in it makes the same picture again.

    It holds nothing that differs between two runs, neither a date nor a duration: the same request gives the same file.
    """
    return {
        "rein": __version__,
        "torch": provenance.torch,
        "model": {"name": provenance.model, "sha256": provenance.model_hash},
        "device": provenance.device,
        "dtype": provenance.dtype,
        "noise": NOISE[request.noise_source],
        "notes": list(notes),
        **({"pictures": dict(provenance.pictures)} if provenance.pictures else {}),
        "request": request.model_dump(mode="json"),
    }
