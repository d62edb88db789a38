"""The settings that travel inside a picture: AUTOMATIC1111's infotext for people and other programs, JSON for Rein."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rein.diffusion.samplers import find_sampler
from rein.diffusion.spacing import SPACINGS
from rein.pipeline.request import Request
from rein.version import __version__

NOISE = "torch.Generator on the CPU, one a picture, float32"


@dataclass(frozen=True)
class Provenance:
    """What made a picture besides its request."""

    model: str
    model_hash: str
    device: str
    dtype: str
    torch: str


def infotext(request: Request, provenance: Provenance) -> str:
    """The text that AUTOMATIC1111's web UI writes into its pictures, for a resolved request of one picture.

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
        "Seed": request.seed,
        "Size": f"{request.width}x{request.height}",
        "Model hash": provenance.model_hash[:10] or None,
        "Model": provenance.model,
        "RNG": "CPU",
        "Eta": _number(request.eta),
        "Guidance rescale": _number(request.guidance_rescale or None),
        "Guidance interval": None if interval is None else f"{interval[0]:g} to {interval[1]:g}",
        "Version": f"rein {__version__}",
    }
    line = ", ".join(f"{key}: {quote(value)}" for key, value in settings.items() if value is not None)
    negative = f"\nNegative prompt: {request.negative_prompt}" if request.negative_prompt else ""
    return f"{request.prompt}{negative}\n{line}".strip()


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
        "noise": NOISE,
        "notes": list(notes),
        "request": request.model_dump(mode="json"),
    }
