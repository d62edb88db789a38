"""Which family of models an adapter file was made for: told by names and shapes, never by the file's name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from rein.errors import InputError
from rein.formats.adapters_dialects import Group
from rein.formats.adapters_names import Targets
from rein.formats.weights import Weights

_FAMILIES = {768: "Stable Diffusion 1", 1024: "Stable Diffusion 2", 1280: "the SDXL refiner", 2048: "SDXL"}
"""By the width of the text that cross-attention reads."""

_OTHERS = {
    "double_blocks": "FLUX",
    "single_transformer_blocks": "FLUX",
    "joint_blocks": "Stable Diffusion 3",
    "lora_prior_": "Stable Cascade",
    "cross_attn_k": "a video model",
    "adaln_single": "PixArt",
}
"""Words in a layer's name that no Stable Diffusion U-Net or text tower has."""

_SECOND_TOWER = ("lora_te2_", "text_encoder_2.")
_READS_TEXT = ("attn2_to_k", "attn2_to_v", "attn2.to_k", "attn2.to_v", "attn2.processor.to_k", "attn2.processor.to_v")
_COLUMNS = {"down", "w1_b", "w2_b", "difference"}
_FACTORS = (("w1", "w1_b"), ("w2", "w2_b"))
"""Of LoKr: what has the columns of either factor."""


def refuse_other_family(path: Path, weights: Weights, groups: Mapping[str, Group], targets: Targets) -> None:
    """See that a file was made for the model's family, as far as it shows.

    Raises:
        InputError: it was made for another; the message names both.
    """
    width = targets.spec.unet.context_width
    theirs = text_width(weights, groups)
    other = foreign_family(groups)
    if other is None and theirs is not None and theirs != width:
        other = family_title(theirs)
    if other is None and len(targets.spec.towers) == 1 and any(layer.startswith(_SECOND_TOWER) for layer in groups):
        other = "SDXL, with two text towers"
    if other is not None:
        raise InputError(f"cannot use {path}: it was made for {other}; {targets.spec.name!r} is {family_title(width)}")


def foreign_family(groups: Mapping[str, Group]) -> str | None:
    """Which family of other makers' models the layers are of, as far as their names show it."""
    return next((name for word, name in _OTHERS.items() if any(word in layer for layer in groups)), None)


def family_title(width: int) -> str:
    """What people call the family of models with a text of `width`."""
    return _FAMILIES.get(width, f"a model with text of width {width}")


def text_width(weights: Weights, groups: Mapping[str, Group]) -> int | None:
    """The width of the text that the adapted model reads, None where the file does not show it."""
    for layer, group in groups.items():
        if not any(word in layer for word in _READS_TEXT):
            continue
        for (kind, role), name in group.names.items():
            shape = weights.infos[name].shape
            if kind in ("lora", "loha", "full") and role in _COLUMNS and len(shape) > 1:
                return shape[1]
        if "lokr" in group.kinds:
            return _columns_of_lokr(weights, group)
    return None


def _columns_of_lokr(weights: Weights, group: Group) -> int | None:
    """The columns of a Kronecker product: those of its factors, multiplied."""
    product = 1
    for roles in _FACTORS:
        name = next((group.names["lokr", role] for role in roles if ("lokr", role) in group.names), None)
        shape = () if name is None else weights.infos[name].shape
        if len(shape) < 2:
            return None
        product *= shape[1]
    return product
