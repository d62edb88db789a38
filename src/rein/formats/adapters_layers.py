"""The tensors of one layer of an adapter file made into a `Change`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from rein.formats.adapters_dialects import Group, PeftScales
from rein.formats.adapters_names import Target
from rein.nn.adapters import KINDS, Change, Kind, Place

_PEFT_PARTS = {"unet": "unet", "tower": "text_encoder", "tower_2": "text_encoder_2"}
_FILE_NAMES = {"up": "lora_up", "down": "lora_down", "difference": "diff"}


@dataclass(frozen=True, eq=False)
class LayerReader:
    """Reads the layers of one file."""

    weights: Mapping[str, Tensor]
    scales: PeftScales

    def change(self, layer: str, place: Place, group: Group, target: Target) -> Change:
        """What the file does to the layer that it calls `layer`.

        Raises:
            ValueError: the tensors are not finite, not complete, or of shapes without meaning.
        """
        if len(group.kinds) > 1:
            raise ValueError(f"it has tensors of the kinds {' and '.join(sorted(group.kinds))}")
        kind = next(iter(group.kinds), "bias")
        tensors = {role: self._finite(name) for (_, role), name in group.names.items()}
        alpha = tensors.pop("alpha", None)
        tensors = _gain(tensors, target, self.scales.on_input(place[1])) if kind == "ia3" else tensors
        _magnitude(tensors)
        row = KINDS[kind]
        _check_complete(row, tensors)
        rank = row.rank_of(tensors)
        if alpha is not None:
            scale = 1.0 if rank is None else _alpha(alpha) / rank
        elif kind in ("lora", "loha", "lokr"):
            scale = self.scales.scale(_PEFT_PARTS.get(place[0], place[0]), place[1], rank)
        else:
            scale = 1.0
        return Change(kind, tensors, scale)

    def _finite(self, name: str) -> Tensor:
        tensor = self.weights[name]
        if tensor.is_complex() or tensor.numel() == 0:
            raise ValueError(f"tensor {name!r} is empty or complex")
        if not bool(torch.isfinite(tensor.float()).all()):
            raise ValueError(f"tensor {name!r} has NaN or infinity: the file is damaged, or its training failed")
        return tensor


def _alpha(tensor: Tensor) -> float:
    alpha = float(tensor.item()) if tensor.numel() == 1 else math.nan
    if not math.isfinite(alpha) or alpha == 0:
        raise ValueError(f"its alpha is {alpha:g}, where a finite number other than 0 is needed")
    return alpha


def _check_complete(row: Kind, tensors: Mapping[str, Tensor]) -> None:
    if any(needed <= tensors.keys() for needed in row.needs):
        return
    missing = min((needed - tensors.keys() for needed in row.needs), key=len)
    has, lacks = (", ".join(sorted(_FILE_NAMES.get(role, role) for role in some)) for some in (tensors.keys(), missing))
    raise ValueError(f"it has {has} without {lacks}")


def _magnitude(tensors: dict[str, Tensor]) -> None:
    """DoRA's lengths as (out, 1) or (1, in). LyCORIS says which by the shape; PEFT has one for each row always."""
    ours, theirs = tensors.pop("dora_scale", None), tensors.pop("magnitude_vector", None)
    if theirs is not None:
        tensors["magnitude"] = theirs.reshape(-1, 1)
    elif ours is not None:
        columns = ours.ndim > 1 and ours.shape[0] == 1 != ours.shape[1]
        tensors["magnitude"] = ours.reshape(1, -1) if columns else ours.reshape(-1, 1)


def _gain(tensors: dict[str, Tensor], target: Target, on_input: bool) -> dict[str, Tensor]:
    """IA3's gains as (out, 1) or (1, in), less 1 where the file has factors, and with the bias, as PEFT does."""
    rest = {role: tensor for role, tensor in tensors.items() if role not in ("weight", "on_input", "ia3_l")}
    if "weight" in tensors:
        on_input = bool(tensors["on_input"].flatten()[0])
        return {**rest, "gain": tensors["weight"].reshape(1, -1) if on_input else tensors["weight"].reshape(-1, 1)}
    if "ia3_l" not in tensors:
        return rest
    factors = tensors["ia3_l"]
    count, (rows, columns) = factors.numel(), (*target.weight, 1)[:2]
    if factors.ndim == 2:
        on_input = factors.shape[0] == 1 != factors.shape[1]
    else:  # (1, n, 1, 1) for either side of a convolution
        on_input = count == columns and (on_input or columns != rows)
    gain = factors.float().reshape(1, -1) - 1 if on_input else factors.float().reshape(-1, 1) - 1
    return {**rest, "gain": gain} | ({"bias_gain": gain.flatten()} if target.bias and not on_input else {})
