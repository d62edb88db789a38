"""Adapters written in the dialects that other programs read.

kohya   lora_unet_..._to_q.lora_down.weight, .alpha   the web UIs and kohya's scripts; LyCORIS for LoHa and LoKr
peft    unet. ... .to_q.lora_A.weight                 diffusers and PEFT, without alpha: the scale is in the tensors
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

from rein.errors import InputError
from rein.formats.adapters_names import Targets, kohya_name, peft_name
from rein.formats.tensors import write_tensors
from rein.nn.adapters import KINDS, Change, Place

Dialect = Literal["kohya", "peft"]

_LORA: dict[Dialect, dict[str, str]] = {
    "kohya": {"up": "lora_up.weight", "down": "lora_down.weight", "magnitude": "dora_scale"},
    "peft": {"up": "lora_B.weight", "down": "lora_A.weight", "magnitude": "lora_magnitude_vector"},
}
_LYCORIS = {"loha": "hada", "lokr": "lokr"}
_SCALED = {"lora": ("up",), "loha": ("w1_a",), "lokr": ("w1", "w1_a")}
"""The tensor that a change is linear in and that takes the scale where no alpha is written; the first that is there."""


def save_adapter(
    path: str | os.PathLike[str],
    changes: Mapping[Place, Change],
    targets: Targets,
    dialect: Dialect = "kohya",
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write LoRA, DoRA, LoHa or LoKr, all of it or nothing.

    Args:
        dialect: "kohya" for the web UIs, with an alpha for each layer; "peft" for diffusers, which reads no alpha of a
            layer: the scale is multiplied into one of the tensors.

    Raises:
        InputError: a change of another kind, or with tensors that the dialect has no name for.
        OutputError: the file cannot be written.
    """
    tensors: dict[str, Tensor] = {}
    for place, change in changes.items():
        alpha = _alpha(change) if dialect == "kohya" else None
        name = kohya_name(place, len(targets.spec.towers)) if dialect == "kohya" else peft_name(place)
        for role, tensor in (change.tensors if alpha is not None else _unscaled(place, change)).items():
            value = tensor.detach().contiguous()
            if role == "magnitude":
                value = _magnitude(value, targets.layers[place].weight, dialect)
            ending = _ending(place, change.kind, role, dialect)
            if role == "magnitude" and dialect == "peft" and place[0] != "unet":
                ending += ".weight"  # transformers, which reads the towers' part, wants PEFT's parameter in full
            tensors[f"{name}.{ending}"] = value
        if alpha is not None:
            tensors[f"{name}.alpha"] = torch.tensor(alpha)
    write_tensors(path, tensors, metadata)


def _alpha(change: Change) -> float | None:
    """What a file tells beside the tensors; None where they have no rank, so that a reader divides by nothing."""
    row = KINDS.get(change.kind)
    rank = None if row is None else row.rank_of(change.tensors)
    return None if rank is None else change.scale * rank


def _unscaled(place: Place, change: Change) -> dict[str, Tensor]:
    """The tensors of the same change at scale 1."""
    tensors = dict(change.tensors)
    role = next((name for name in _SCALED.get(change.kind, ()) if name in tensors), None)
    if role is None:
        raise _refusal(place, change.kind)
    tensors[role] = (tensors[role].float() * change.scale).to(tensors[role].dtype)
    return tensors


def _ending(place: Place, kind: str, role: str, dialect: Dialect) -> str:
    known = _LORA[dialect]
    if role == "magnitude" or (kind == "lora" and role in known):
        return known[role]
    if kind not in _LYCORIS or role not in {name for needed in KINDS[kind].needs for name in needed} | KINDS[kind].may:
        raise _refusal(place, kind)
    return f"{_LYCORIS[kind]}_{role}"


def _magnitude(value: Tensor, weight: tuple[int, ...], dialect: Dialect) -> Tensor:
    """DoRA's lengths in the shape of the dialect: PEFT has (out,) for a linear layer, the rest every further extent."""
    if dialect == "peft":
        return value.flatten() if len(weight) == 2 else value.reshape(1, -1, *[1] * (len(weight) - 2))
    return value.reshape(*value.shape, *[1] * (len(weight) - 2))


def _refusal(place: Place, kind: str) -> InputError:
    return InputError(f"layer {place[1]} has a change of kind {kind!r}: LoRA, DoRA, LoHa and LoKr can be saved")
