"""8-bit weights with a scale beside them, as ComfyUI and its converters store them.

An 8-bit float has few magnitudes, so a weight is divided by a number before it is rounded, and that number is kept in
the file: `LAYER.scale_weight`, in newer files `LAYER.weight_scale`; one for the whole weight, or one for each row. The
weight is what is stored times the scale. Scales of a layer's input and marks of the format only tell how to compute in
8 bits, and are left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from rein.errors import DamagedFileError, quoted
from rein.formats.placed import PlacedTensor

if TYPE_CHECKING:
    import torch

SCALE_TEXT = "_quantization_metadata"
"""The free text that tells of scales in newer files; untrue once they are multiplied in."""

_SCALES = (".scale_weight", ".weight_scale")
_BESIDE = (".scale_input", ".input_scale", ".comfy_quant")
_MARK = "scaled_fp8"
_EIGHT_BITS = ("F8_E4M3", "F8_E5M2")


def scales_of(infos: Mapping[str, PlacedTensor]) -> dict[str, str]:
    """The name of the scale of each 8-bit weight that has one."""
    found = {}
    for name in infos:
        ending = next((ending for ending in _SCALES if name.endswith(ending)), None)
        weight = None if ending is None else name.removesuffix(ending) + ".weight"
        if weight is not None and weight in infos and infos[weight].dtype in _EIGHT_BITS:
            found[weight] = name
    return found


def without_scales(infos: Mapping[str, PlacedTensor], scales: Mapping[str, str]) -> Mapping[str, PlacedTensor]:
    """The tensors of a file but for its scales and marks; the very same where it has no scales."""
    if not scales:
        return infos
    left_out = set(scales.values())
    return {
        name: info
        for name, info in infos.items()
        if name not in left_out and not name.endswith(_BESIDE) and name.rpartition(".")[2] != _MARK
    }


def multiplied(name: str, stored: torch.Tensor, scale: torch.Tensor, path: Path) -> torch.Tensor:
    """The weight `name` (float32) of a file at `path` from what is stored and its scale.

    Raises:
        DamagedFileError: the scale is none for the whole weight or for its rows, or is not finite.
    """
    rows = stored.shape[0] if stored.ndim else 1
    if scale.numel() not in (1, rows) or not scale.is_floating_point():
        shapes = f"{tuple(scale.shape)} beside a weight {tuple(stored.shape)}"
        raise DamagedFileError(
            f"cannot use {path}: the scale of {quoted(name)} is {shapes}: read are one number, or one for each row"
        )
    factor = scale.float().reshape(-1, *[1] * (stored.ndim - 1)) if scale.numel() > 1 else scale.float().reshape(())
    if not bool(factor.isfinite().all()):
        raise DamagedFileError(f"cannot use {path}: the scale of {quoted(name)} is not finite")
    return stored.float() * factor
