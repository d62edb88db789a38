"""A picture made again from the settings that it carries, and compared with itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from PIL import Image

from rein.errors import InputError
from rein.image_files import resaved
from rein.images import pil_to_tensor, psnr, to_rgb

TOLERANCE = 40.0
"""PSNR in dB from which two pictures count as the same but for rounding: no eye sees the difference."""

LOSSY_TOLERANCE = 30.0
"""Likewise for a file that lost some of its pixels' levels nobody knows how, such as another program's JPEG."""

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
    before: Image.Image,
    after: Image.Image,
    record: Mapping[str, Any],
    new_record: Mapping[str, Any],
    tolerance: float = TOLERANCE,
) -> Comparison:
    """Compare a picture and its record with those of the one that was made again.

    Where the record tells how its file was written with a loss, the new picture is taken through the same loss first.

    Args:
        tolerance: PSNR in dB from which they count as the same.
    """
    after, written = _as_written(after, record)
    new_record = {**new_record, **written}
    first, second = to_rgb(before), to_rgb(after)
    changed = {} if not record else differences(record, new_record)
    if first.size != second.size:
        return Comparison("different", 0.0, changed)
    if first.tobytes() == second.tobytes():
        return Comparison("identical", 100.0, changed)
    value = float(psnr(pil_to_tensor(second)[None], pil_to_tensor(first)[None])[0])
    return Comparison("within tolerance" if value >= tolerance else "different", value, changed)


def _as_written(image: Image.Image, record: Mapping[str, Any]) -> tuple[Image.Image, dict[str, Any]]:
    """The picture as it comes out of a file like the record's, and what a record tells of that file."""
    file = record.get("file")
    if not isinstance(file, dict):
        return image, {}
    name, quality = file.get("format"), file.get("quality")
    if name not in ("jpeg", "webp") or not isinstance(quality, int):
        return image, {}
    try:
        return resaved(image, name, quality), {"file": file}
    except InputError:  # a quality that no file has
        return image, {}


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
