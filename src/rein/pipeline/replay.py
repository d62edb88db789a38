"""A picture made again from the settings that it carries, and compared with itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from PIL import Image

from rein.images import pil_to_tensor, psnr, to_rgb

TOLERANCE = 40.0
"""PSNR in dB from which two pictures count as the same but for rounding: no eye sees the difference."""

Verdict = Literal["identical", "within tolerance", "different"]


@dataclass(frozen=True)
class Comparison:
    """How alike two pictures are, and which fields of their records differ.

    Fields:
        psnr: in dB; 100 for equal pixels, 0 for pictures of different sizes.
        changed: for each differing field of the manifests, by dotted name, its value (before, after).
    """

    verdict: Verdict
    psnr: float
    changed: Mapping[str, tuple[Any, Any]]


def compared(
    before: Image.Image, after: Image.Image, record: Mapping[str, Any], new_record: Mapping[str, Any]
) -> Comparison:
    """Compare a picture and its record with those of the one that was made again."""
    first, second = to_rgb(before), to_rgb(after)
    changed = {} if not record else differences(record, new_record)
    if first.size != second.size:
        return Comparison("different", 0.0, changed)
    if first.tobytes() == second.tobytes():
        return Comparison("identical", 100.0, changed)
    value = float(psnr(pil_to_tensor(second)[None], pil_to_tensor(first)[None])[0])
    return Comparison("within tolerance" if value >= TOLERANCE else "different", value, changed)


def differences(before: Mapping[str, Any], after: Mapping[str, Any], where: str = "") -> dict[str, tuple[Any, Any]]:
    """Fields in which two nested records differ, by dotted name."""
    found: dict[str, tuple[Any, Any]] = {}
    for key in sorted({*before, *after}):
        one, other, name = before.get(key), after.get(key), f"{where}{key}"
        if isinstance(one, dict) and isinstance(other, dict):
            found |= differences(one, other, f"{name}.")
        elif one != other:
            found[name] = (one, other)
    return found
