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
from rein.pipeline.infotext import RARE

NEGATIVE = "Negative prompt:"
_SETTING = re.compile(r'\s*([A-Za-z][^:,"]*):\s*("(?:\\.|[^"\\])*"|[^,]*)(?:,|$)')
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
        except (InputError, ValueError, TypeError, OverflowError):
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


_NUMBERS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "Steps": ("steps", int),
    "CFG scale": ("guidance_scale", float),
    "Seed": ("seed", int),
    "Clip skip": ("clip_skip", int),
    "Eta": ("eta", float),
    **{label: (name, float) for label, name in RARE.items()},
    "Guidance rescale": ("guidance_rescale", float),
    "Emphasis": ("emphasis", lambda name: name.lower().replace(" ", "_")),
    "Prompt dialect": ("dialect", str),
}


def _enter(read: ForeignSettings, settings: dict[str, str]) -> None:
    read.model, read.model_hash = settings.get("Model", ""), settings.get("Model hash", "")
    if "Sampler" in settings:
        read.take_sampler(settings["Sampler"], settings.get("Schedule type"))
    if read.fields.get("sampler") in ("dpm_fast", "dpm_adaptive"):
        read.fields["eta"] = 1.0  # what that program means where it writes none
    for key, value in settings.items():
        if key in _NUMBERS:
            name, convert = _NUMBERS[key]
            read.take(name, value, convert, key)
        elif key == "Size":
            _enter_size(read, value)
        elif key == "RNG":
            read.unread += [f"RNG: {value} (Rein draws its noise on the CPU)"] if value != "CPU" else []
        elif key not in _SILENT and key not in ("Sampler", "Schedule type"):
            read.unread.append(f"{key}: {value}")
    if settings and "RNG" not in settings:
        read.unread.append("RNG: GPU, that program's default (Rein draws its noise on the CPU)")


def _enter_size(read: ForeignSettings, value: str) -> None:
    sides = re.fullmatch(r"(\d{1,6})x(\d{1,6})", value.strip())
    if sides is None:
        read.unread.append(f"Size: {value}")
        return
    read.fields["width"], read.fields["height"] = int(sides[1]), int(sides[2])


def _plain(value: str) -> str:
    """A value without the JSON quotes that it has where it holds a comma or a colon."""
    value = value.strip()
    if value.startswith('"') and value.endswith('"') and len(value) > 1:
        try:
            return str(json.loads(value))
        except ValueError:
            return value[1:-1]
    return value
