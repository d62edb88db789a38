"""What a file of weights is, from the names and shapes of its tensors and its free texts; never from its own name."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Protocol

from rein.errors import DamagedFileError, InputError
from rein.formats.adapters import looks_like_adapter
from rein.formats.adapters_dialects import is_hypernetwork
from rein.formats.averages import has_averages, with_plain_names
from rein.formats.embeddings import looks_like_embedding
from rein.formats.folder import check_numbers
from rein.formats.keys import Place, part_names
from rein.formats.places import (
    Shapes,
    UNetMeasures,
    autoencoder_config,
    find_autoencoder,
    find_towers,
    find_unet,
    unet_measures,
)
from rein.formats.upscaler_keys import find_upscaler
from rein.nn.specs import SD15, VARIANTS, ModelSpec, PredictionName, from_dict

Kind = Literal[
    "model",
    "unet",
    "autoencoder",
    "text tower",
    "adapter",
    "embedding",
    "upscaler",
    "controlnet",
    "hypernetwork",
    "other",
    "unknown",
]

SPEC_KEY = "rein.model"
"""The free text in which Rein's own single files tell their specification, as JSON."""


class Info(Protocol):
    """What is known of a tensor before it is read."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Its extents."""


@dataclass(frozen=True)
class Detection:
    """What a file was found to be.

    Fields:
        kind: "model" has a U-Net and more; "unet", "autoencoder" and "text tower" are lone parts.
        spec: the family's row, for a model or a U-Net of a known family.
        layout: where each part that was found lies.
        settled: whether names, shapes and texts tell the prediction; if not, `spec` has the likelier one.
        ema: whether there is an averaged U-Net.
        ema_only: whether that is the only one; `layout` and measures are then those of the plain one.
        note: what kind of other file it is, or why its family is unknown; "" where there is nothing to say.
    """

    kind: Kind
    spec: ModelSpec | None = None
    layout: Mapping[str, Place] = field(default_factory=dict)
    settled: bool = True
    ema: bool = False
    note: str = ""
    ema_only: bool = False

    @property
    def family(self) -> str:
        """The name of the family's row; "" for none."""
        return "" if self.spec is None else self.spec.name

    @property
    def absent(self) -> tuple[str, ...]:
        """Parts that the family has and the file lacks."""
        return () if self.spec is None else tuple(part for part in part_names(self.spec) if part not in self.layout)


_OTHERS = {
    "double_blocks.0.img_attn.qkv.weight": "a Flux model, of a family that Rein does not draw with",
    "joint_blocks.0.x_block.attn.qkv.weight": "a Stable Diffusion 3 model, of a family that Rein does not draw with",
    "transformer_blocks.0.attn.add_k_proj.weight": "a diffusion transformer, of a family that Rein does not draw with",
    "cond_stage_model.model.visual.proj": "an unCLIP model, of a family that Rein does not draw with",
    "vision_model.embeddings.patch_embedding.weight": "an image encoder",
}
_ADAPTER_PARTS = (
    ".lora_down.", ".lora_up.", ".lora_A.", ".lora_B.", ".lora.down.", ".lora.up.", "_lora.down.", "_lora.up.",
    ".hada_w1_a", ".lokr_w1", ".lokr_w1_a", ".dora_scale", ".on_input", ".oft_diag", ".oft_blocks", ".ia3_l",
)  # fmt: skip
_CONTROL_MARKS = (
    "control_model.input_hint_block.0.weight",
    "input_hint_block.0.weight",
    "controlnet_cond_embedding.conv_in.weight",
    "adapter.body.0.resnets.0.block1.weight",
    "body.0.block1.weight",
)


def detect(
    infos: Mapping[str, Info], metadata: Mapping[str, str], rows: Iterable[ModelSpec] | None = None
) -> Detection:
    """What a file with these tensors and texts is.

    Args:
        infos: shape of each tensor by name; `Weights.infos` or a safetensors header's tensors.
        rows: the families to choose from; None for all that Rein knows.
    """
    shapes: Shapes = {name: tuple(info.shape) for name, info in infos.items()}
    small = Detection("embedding") if looks_like_embedding(infos) else _small_kind(shapes)
    if small is not None:
        return small
    unet, autoencoder, towers = find_unet(shapes), find_autoencoder(shapes), find_towers(shapes)
    own, known = _own_row(metadata), list(VARIANTS.values() if rows is None else rows)
    ema, ema_only = has_averages(shapes), False
    if unet is None and ema:
        shapes = with_plain_names(shapes, own or known)
        unet = find_unet(shapes)
        ema_only = unet is not None
    if unet is None:
        return _without_unet(shapes, autoencoder, [place for place, _ in towers])
    measures = unet_measures(shapes, unet)
    fitting = own or [row for row in known if measures.may_be(UNetMeasures.of(row.unet))]
    kind: Kind = "unet" if autoencoder is None and not towers else "model"
    if not fitting:
        return Detection(kind, None, {"unet": unet}, ema=ema, note=_unknown_family(measures), ema_only=ema_only)
    spec, settled = _predicted(fitting, shapes, metadata)
    layout = {"unet": unet}
    if autoencoder is not None:
        layout["autoencoder"] = autoencoder
        spec = replace(spec, autoencoder=_fitted_autoencoder(shapes, autoencoder, spec))
    layout |= _matched_towers(spec, towers)
    return Detection(kind, spec, layout, settled, ema, ema_only=ema_only)


def _small_kind(shapes: Shapes) -> Detection | None:
    """Adapters, control networks and upscalers, some of which have parts of other networks in them."""
    if any(mark in name for name in shapes for mark in _ADAPTER_PARTS):
        return Detection("adapter")
    if any(mark in shapes for mark in _CONTROL_MARKS):
        return Detection("controlnet", note="a control network, which changes how another model draws")
    if is_hypernetwork(shapes):
        return Detection("hypernetwork", note="a hypernetwork, which Rein does not use")
    upscaler = find_upscaler(shapes)
    return None if upscaler is None else Detection("upscaler", note=upscaler.note)


def _without_unet(shapes: Shapes, autoencoder: Place | None, towers: list[Place]) -> Detection:
    for name, note in _OTHERS.items():
        if any(found.endswith(name) for found in shapes):
            return Detection("other", note=note)
    if autoencoder is not None:
        return Detection("autoencoder", None, {"autoencoder": autoencoder})
    if sequential_side(shapes):
        return Detection("autoencoder", note=f"the {sequential_side(shapes)} of a tiny autoencoder")
    if looks_like_adapter(list(shapes)):
        return Detection("adapter")
    if towers:
        return Detection("text tower", None, {"tower": towers[0]})
    return Detection("unknown", note="its tensors belong to no kind of network that Rein knows")


def sequential_side(shapes: Shapes) -> str:
    """Which half of the original TAESD's a file is, "encoder" or "decoder"; "" for neither."""
    if len(shapes.get("1.weight", ())) == 4 and "3.conv.0.weight" in shapes and "0.weight" not in shapes:
        return "decoder"
    return "encoder" if len(shapes.get("0.weight", ())) == 4 and "1.conv.0.weight" in shapes else ""


def _own_row(metadata: Mapping[str, str]) -> list[ModelSpec]:
    """The specification that a file of Rein's own tells; one that is damaged counts for nothing."""
    try:
        told = json.loads(metadata.get(SPEC_KEY, ""))
        check_numbers(told, "model", Path(SPEC_KEY))  # a network of a billion layers would be built for ever
        spec = from_dict(ModelSpec, told)
    except (ValueError, RecursionError, InputError, DamagedFileError):
        return []
    return [spec] if isinstance(spec, ModelSpec) and spec.towers else []


def _unknown_family(found: UNetMeasures) -> str:
    return (
        f"a U-Net that no family has: {found.in_channels} channels in, levels {list(found.channels)}, "
        f"transformers {list(found.transformer_depth)}, words of width {found.context_width}"
    )


def _predicted(fitting: list[ModelSpec], shapes: Shapes, metadata: Mapping[str, str]) -> tuple[ModelSpec, bool]:
    """The row and whether its prediction is told: by texts, by markers among the tensors, or by there being one row."""
    told = told_prediction(shapes, metadata)
    if told is None:
        return fitting[0], len({row.prediction for row in fitting}) == 1
    return with_prediction(fitting[0], told, fitting, "ztsnr" in shapes), True


def with_prediction(
    spec: ModelSpec, prediction: PredictionName, rows: Iterable[ModelSpec] | None = None, zero_snr: bool = False
) -> ModelSpec:
    """`spec` for a U-Net that predicts `prediction`: the family's row of that prediction where there is one."""
    rows = VARIANTS.values() if rows is None else rows
    siblings = [row for row in rows if row.unet == spec.unet and row.prediction == prediction]
    chosen = spec if spec.prediction == prediction else (siblings or [replace(spec, prediction=prediction)])[0]
    if zero_snr:
        chosen = replace(chosen, schedule=replace(chosen.schedule, zero_terminal_snr=True), default_spacing="trailing")
    return chosen


def told_prediction(names: Iterable[str], metadata: Mapping[str, str]) -> PredictionName | None:
    """What a file's free texts or markers say that its U-Net predicts; None where they say nothing."""
    if "v_pred" in names or metadata.get("ss_v_parameterization", "").lower() == "true":
        return "v"
    text: Any = metadata.get("modelspec.prediction_type") or metadata.get("prediction_type") or ""
    text = text.lower()
    if text in ("v", "v_prediction", "v-prediction", "vpred"):
        return "v"
    if text in ("epsilon", "eps"):
        return "epsilon"
    architecture = metadata.get("modelspec.architecture", "")
    if architecture.startswith("stable-diffusion-v2-768-v"):
        return "v"
    return "epsilon" if architecture.startswith("stable-diffusion-v2-512") else None


def _fitted_autoencoder(shapes: Shapes, place: Place, spec: ModelSpec) -> Any:
    """The family's configuration unless the file's differs in more than shapes can tell."""
    found = autoencoder_config(shapes, place, spec.autoencoder)
    same = replace(found, norm_groups=spec.autoencoder.norm_groups) == spec.autoencoder
    return spec.autoencoder if same else found


def _matched_towers(spec: ModelSpec, towers: list[tuple[Place, int]]) -> dict[str, Place]:
    """Each tower of the family with the first tower of its width in the file that is not taken yet."""
    layout, left = {}, list(towers)
    for part, config in zip(part_names(spec)[2:], spec.towers, strict=True):
        found = next((entry for entry in left if entry[1] == config.width), None)
        if found is not None:
            layout[part] = found[0]
            left.remove(found)
    return layout


def lone_autoencoder(infos: Mapping[str, Info], spec: ModelSpec | None = None) -> tuple[Place, Any] | None:
    """The place and configuration of the autoencoder of a file; None where there is none.

    `spec` is the model that it is for, and tells what shapes do not.
    """
    shapes = {name: tuple(info.shape) for name, info in infos.items()}
    place = find_autoencoder(shapes)
    if place is None:
        return None
    return place, _fitted_autoencoder(shapes, place, spec or SD15)
