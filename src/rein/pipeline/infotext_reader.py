"""AUTOMATIC1111's infotext read back: prompt, negative prompt, and a line of settings.

The format has no grammar: the last line that begins with "Steps: " holds the settings, a line that begins with
"Negative prompt:" begins the negative prompt, and all else belongs to the one that was begun.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from rein.diffusion.samplers import choose_sampler
from rein.diffusion.spacing import find_spacing
from rein.errors import InputError
from rein.pipeline.infotext import HIRES_UPSCALERS, RARE

NEGATIVE = "Negative prompt:"
_SETTING = re.compile(r'\s*([A-Za-z][^:,"]*):\s*("(?:\\.|[^"\\])*"|[^,]*)(?:,|$)')
_SIZE = re.compile(r"(\d{1,6})x(\d{1,6})")
_SILENT = {"Version", "Model", "Model hash", "Lora hashes", "TI hashes", "Hashes", "VAE hash", "Template", "Styles"}
"""What needs no counterpart: it is told in another way, or only for the reader."""


@dataclass
class ForeignSettings:
    """Fields of a request as another program's picture tells them, and what has no place in one."""

    fields: dict[str, Any] = field(default_factory=dict)
    unread: list[str] = field(default_factory=list)
    model: str = ""
    model_hash: str = ""

    def take(self, name: str, value: Any, convert: Callable[[Any], Any], told_as: str | None = None) -> None:
        """Enter a field, or list it as unread where its value cannot be converted."""
        try:
            self.fields[name] = convert(value)
        except (InputError, ValueError, TypeError, KeyError, OverflowError):
            self.unread.append(f"{told_as or name}: {value}")

    def take_sampler(self, sampler: str, schedule: str | None, told_as: str = "Sampler") -> None:
        """Enter a sampler and its schedule, also from a combined name such as "DPM++ 2M Karras"."""
        try:
            choice = choose_sampler(sampler)
        except InputError:
            self.unread.append(f"{told_as}: {sampler}")
        else:
            self.fields["sampler"] = choice.info.name
            schedule = schedule if schedule is not None else choice.spacing
        if schedule is not None and schedule.lower() != "automatic":
            self.take("spacing", schedule, lambda name: find_spacing(name).name, "Schedule type")


def from_infotext(text: str) -> ForeignSettings:
    """The settings in an infotext; prompts are taken as they stand, in that program's dialect."""
    lines = text.strip().splitlines()
    read = ForeignSettings()
    settings: dict[str, str] = {}
    for place in range(len(lines) - 1, -1, -1):
        if lines[place].startswith("Steps: "):
            settings = {key.strip(): _plain(value) for key, value in _SETTING.findall(lines[place])}
            lines = lines[:place]
            break
    begins = next((place for place, line in enumerate(lines) if line.startswith(NEGATIVE)), len(lines))
    read.fields["prompt"] = "\n".join(lines[:begins]).strip()
    read.fields["negative_prompt"] = "\n".join(lines[begins:]).removeprefix(NEGATIVE).strip()
    _enter(read, settings)
    return read


_Reading = tuple[str, Callable[[str], Any]]

_SOURCES: dict[str, str] = {"cpu": "cpu", "gpu": "philox", "nv": "philox", "cuda": "philox"}
_UPSCALERS: dict[str, str] = {label.lower(): name for name, label in HIRES_UPSCALERS.items()}

_NUMBERS: dict[str, _Reading] = {
    "Steps": ("steps", int),
    "CFG scale": ("guidance_scale", float),
    "Image CFG scale": ("image_guidance_scale", float),
    "Seed": ("seed", int),
    "Clip skip": ("clip_skip", int),
    "Eta": ("eta", float),
    **{label: (name, float) for label, name in RARE.items()},
    "Guidance rescale": ("guidance_rescale", float),
    "Emphasis": ("emphasis", lambda name: name.lower().replace(" ", "_")),
    "Prompt dialect": ("dialect", str),
    "RNG": ("noise_source", lambda name: _SOURCES[name.lower()]),
    "Seed resize from": ("seed_resize_from", lambda text: _sides(text)),
    "Tiling": ("seamless", lambda text: _axes(text, "both")),
    "Tile X": ("seamless", lambda text: _axes(text, "x")),
    "Tile Y": ("seamless", lambda text: _axes(text, "y")),
}
"""Settings that stand alone."""

_VARIATION: dict[str, _Reading] = {
    "Variation seed": ("variation_seed", int),
    "Variation seed strength": ("variation_strength", float),
}
_HIRES: dict[str, _Reading] = {
    "Hires upscale": ("hires_scale", float),
    "Hires steps": ("hires_steps", int),
    "Hires upscaler": ("hires_upscaler", lambda name: _UPSCALERS[name.lower()]),
    "Denoising strength": ("hires_strength", float),
}
"""Settings that mean nothing alone."""


def _enter(read: ForeignSettings, settings: dict[str, str]) -> None:
    read.model, read.model_hash = settings.get("Model", ""), settings.get("Model hash", "")
    if "Sampler" in settings:
        read.take_sampler(settings["Sampler"], settings.get("Schedule type"))
    if read.fields.get("sampler") in ("dpm_fast", "dpm_adaptive"):
        read.fields["eta"] = 1.0  # what that program means where it writes none
    if settings:
        settings.setdefault("RNG", "GPU")  # likewise
    readings = dict(_NUMBERS)
    if settings.get("Variation seed strength", "0").strip("0.") and "Variation seed" in settings:
        readings |= _VARIATION
    if "Hires upscale" in settings:
        readings |= _HIRES
    for key, value in settings.items():
        if key in readings:
            name, convert = readings[key]
            read.take(name, value, convert, key)
        elif key == "Size":
            _enter_size(read, value)
        elif key not in _SILENT and key not in ("Sampler", "Schedule type"):
            read.unread.append(f"{key}: {value}")


def _enter_size(read: ForeignSettings, value: str) -> None:
    try:
        read.fields["width"], read.fields["height"] = _sides(value)
    except ValueError:
        read.unread.append(f"Size: {value}")


def _sides(text: str) -> tuple[int, int]:
    """Width and height of "512x768". Raises ValueError."""
    sides = _SIZE.fullmatch(text.strip())
    if sides is None:
        raise ValueError(text)
    return int(sides[1]), int(sides[2])


def _axes(text: str, axes: str) -> str:
    """The axes that "True" stands for. Raises ValueError."""
    if text.strip() != "True":
        raise ValueError(text)
    return axes


def _plain(value: str) -> str:
    """A value without the JSON quotes that it has where it holds a comma or a colon."""
    value = value.strip()
    if value.startswith('"') and value.endswith('"') and len(value) > 1:
        try:
            return str(json.loads(value))
        except ValueError:
            return value[1:-1]
    return value
