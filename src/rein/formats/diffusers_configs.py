"""The configuration files of a diffusers folder, read into a specification and written from one.

A field that Rein's networks have no counterpart for must have the value that means its absence; otherwise the folder is
refused with the field's name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from rein.errors import InputError, quoted
from rein.nn.specs import (
    TAESD,
    VARIANTS,
    AutoencoderConfig,
    ModelSpec,
    PredictionName,
    ScheduleConfig,
    ScheduleKind,
    TextTowerConfig,
    UNetConfig,
)

Json = Mapping[str, Any]

CLIP_VOCABULARY = 49408

PREDICTIONS: dict[str, PredictionName] = {
    "epsilon": "epsilon",
    "v_prediction": "v",
    "sample": "x0",
}
SCHEDULES: dict[str, ScheduleKind] = {
    "scaled_linear": "scaled_linear",
    "linear": "linear",
    "squaredcos_cap_v2": "cosine",
}
_SAMPLERS = {"LCMScheduler": "lcm"}
"""Schedulers that a distilled model needs; for others the default of the family holds."""

_DISTILLED_STEPS = 4

_UNET_PLAIN: dict[str, tuple[Any, ...]] = {
    "act_fn": ("silu", "swish"),
    "mid_block_type": ("UNetMidBlock2DCrossAttn", "UNetMidBlock2D", None),
    "only_cross_attention": (False, None),
    "dual_cross_attention": (False, None),
    "conv_in_kernel": (3,),
    "conv_out_kernel": (3,),
    "time_embedding_type": ("positional",),
    "resnet_time_scale_shift": ("default",),
    "encoder_hid_dim_type": (None,),
    "encoder_hid_dim": (None,),
    "num_class_embeds": (None,),
    "addition_embed_type": (None, "text_time"),
    "class_embed_type": (None, "projection"),
    "attention_type": ("default",),
    "center_input_sample": (False,),
    "flip_sin_to_cos": (True,),
    "freq_shift": (0,),
    "reverse_transformer_layers_per_block": (None,),
    "cross_attention_norm": (None,),
    "timestep_post_act": (None,),
}
_VAE_PLAIN: dict[str, tuple[Any, ...]] = {
    "act_fn": ("silu", "swish"),
    "use_quant_conv": (True,),
    "use_post_quant_conv": (True,),
    "latents_mean": (None,),
    "latents_std": (None,),
}


def _check_plain(config: Json, plain: Mapping[str, tuple[Any, ...]], where: str) -> None:
    for name, allowed in plain.items():
        if name in config and config[name] not in allowed:
            raise InputError(f"{where} has {name} {quoted(config[name])}, which Rein's networks do not have")


def _number(config: Json, name: str, where: str, default: int | None = None) -> int:
    value = config.get(name)
    value = default if value is None else value
    if type(value) is not int or not 0 <= value <= 2**20:
        raise InputError(f"{where} has {name} {quoted(value)}: it must be a whole number from 0 to {2**20}")
    return value


def _numbers(config: Json, name: str, where: str, length: int = 0, default: Any = None) -> tuple[int, ...]:
    """A list of whole numbers; a single one stands for `length` of them."""
    value = config.get(name, default)
    values = [value] * length if type(value) is int and length else value
    if not isinstance(values, list | tuple) or not 0 < len(values) <= 64 or not all(type(n) is int for n in values):
        raise InputError(f"{where} has {name} {quoted(value)}: it must be a list of whole numbers")
    return tuple(values)


def read_unet(config: Json, towers: Sequence[TextTowerConfig], where: str) -> UNetConfig:
    """unet/config.json of a model with `towers`. Raises `InputError`."""
    _check_plain(config, _UNET_PLAIN, where)
    channels = _numbers(config, "block_out_channels", where)
    levels = len(channels)
    kinds = config.get("down_block_types")
    if not isinstance(kinds, list | tuple) or len(kinds) != levels:
        raise InputError(f"{where} has {levels} block_out_channels and down_block_types {quoted(kinds)}")
    for kind in (*kinds, *config.get("up_block_types", ())):
        if kind not in ("DownBlock2D", "CrossAttnDownBlock2D", "UpBlock2D", "CrossAttnUpBlock2D"):
            raise InputError(f"{where} has blocks of type {quoted(kind)}, which Rein's networks do not have")
    depths = _numbers(config, "transformer_layers_per_block", where, levels, 1)
    heads_name = "num_attention_heads" if config.get("num_attention_heads") is not None else "attention_head_dim"
    middle = config.get("mid_block_type", "UNetMidBlock2DCrossAttn") == "UNetMidBlock2DCrossAttn"
    size_width = _number(config, "addition_time_embed_dim", where, 256) or 256
    added = _number(config, "projection_class_embeddings_input_dim", where, 0)
    pooled = min(added, towers[-1].projection_width or towers[-1].width) if added else 0
    return UNetConfig(
        in_channels=_number(config, "in_channels", where, 4),
        out_channels=_number(config, "out_channels", where, 4),
        channels=channels,
        blocks_per_level=_number(config, "layers_per_block", where, 2),
        transformer_depth=tuple(d if k.startswith("CrossAttn") else 0 for d, k in zip(depths, kinds, strict=True)),
        middle_depth=depths[-1] if middle else 0,
        heads=_numbers(config, heads_name, where, levels, 8),
        context_width=_number(config, "cross_attention_dim", where, 1280),
        linear_projection=bool(config.get("use_linear_projection", False)),
        norm_groups=_number(config, "norm_num_groups", where, 32),
        pooled_width=pooled,
        size_ids=(added - pooled) // size_width,
        size_id_width=size_width,
        guidance_width=_number(config, "time_cond_proj_dim", where, 0),
    )


def read_autoencoder(config: Json, where: str) -> tuple[AutoencoderConfig, float, float]:
    """vae/config.json: the network, and scale and shift of its latents. Raises `InputError`."""
    if str(config.get("_class_name")) == "AutoencoderTiny":
        widths = _numbers(config, "decoder_block_out_channels", where, 0, TAESD.channels)
        blocks = _numbers(config, "num_decoder_blocks", where, 0, (3, 3, 3, 1))
        latent = _number(config, "latent_channels", where, 4)
        tiny = replace(TAESD, channels=widths, blocks_per_level=blocks[0], latent_channels=latent)
        return tiny, float(config.get("scaling_factor", 1.0)), 0.0
    _check_plain(config, _VAE_PLAIN, where)
    network = AutoencoderConfig(
        picture_channels=_number(config, "in_channels", where, 3),
        latent_channels=_number(config, "latent_channels", where, 4),
        channels=_numbers(config, "block_out_channels", where),
        blocks_per_level=_number(config, "layers_per_block", where, 2),
        norm_groups=_number(config, "norm_num_groups", where, 32),
        middle_attention=bool(config.get("mid_block_add_attention", True)),
    )
    scale, shift = config.get("scaling_factor", 0.18215), config.get("shift_factor") or 0.0
    if not isinstance(scale, int | float) or not isinstance(shift, int | float) or not scale > 0:
        raise InputError(f"{where} has scaling_factor {quoted(scale)}: it must be a number above 0")
    return network, float(scale), float(shift)


def read_tower(config: Json, pad: str | None, penultimate: bool, where: str) -> TextTowerConfig:
    """text_encoder/config.json of a tower whose tokenizer pads with `pad`. Raises `InputError`."""
    config = config.get("text_config", config) if "hidden_size" not in config else config
    activation = config.get("hidden_act", "quick_gelu")
    if activation not in ("quick_gelu", "gelu"):
        raise InputError(f"{where} has hidden_act {quoted(activation)}: Rein's towers have quick_gelu or gelu")
    vocabulary = _number(config, "vocab_size", where, 49408)
    projected = "CLIPTextModelWithProjection" in (config.get("architectures") or ())
    end = min(vocabulary, CLIP_VOCABULARY) - 1  # tokens that were added to CLIP's come after its end
    return TextTowerConfig(
        vocabulary_size=vocabulary,
        context_length=_number(config, "max_position_embeddings", where, 77),
        width=_number(config, "hidden_size", where, 512),
        layers=_number(config, "num_hidden_layers", where, 12),
        heads=_number(config, "num_attention_heads", where, 8),
        feed_forward_width=_number(config, "intermediate_size", where, 2048),
        activation="gelu" if activation == "gelu" else "quick_gelu",
        projection_width=_number(config, "projection_dim", where, 512) if projected else 0,
        end_token=end,
        pad_token=0 if pad == "!" else end,
        context_layer="penultimate" if penultimate else "last",
    )


def read_schedule(config: Json, where: str) -> tuple[PredictionName, ScheduleConfig]:
    """scheduler/scheduler_config.json: what is predicted, and the noise schedule. Raises `InputError`."""
    predicts, kind = config.get("prediction_type", "epsilon"), config.get("beta_schedule", "linear")
    if predicts not in PREDICTIONS or kind not in SCHEDULES:
        raise InputError(
            f"{where} has prediction_type {quoted(predicts)} and beta_schedule {quoted(kind)}; known are "
            f"{', '.join(PREDICTIONS)} and {', '.join(SCHEDULES)}"
        )
    schedule = ScheduleConfig(
        kind=SCHEDULES[kind],
        steps=_number(config, "num_train_timesteps", where, 1000),
        beta_start=float(config.get("beta_start", 0.0001)),
        beta_end=float(config.get("beta_end", 0.02)),
        zero_terminal_snr=bool(config.get("rescale_betas_zero_snr", False)),
    )
    return PREDICTIONS[predicts], schedule


def named(spec: ModelSpec, scheduler: Json, sample_size: Any) -> ModelSpec:
    """`spec` with name, defaults and size of the family's row where its U-Net is one of those."""
    rows = [row for row in VARIANTS.values() if row.unet == spec.unet]
    row = next((row for row in rows if row.prediction == spec.prediction), rows[0] if rows else None)
    side = sample_size * spec.autoencoder.downscale if type(sample_size) is int and 0 < sample_size < 1024 else 0
    size = side or (row.native_size if row else 512)
    spec = replace(spec, native_size=size)
    if row is not None:
        spec = replace(spec, name=row.name, default_spacing=row.default_spacing, default_guidance=row.default_guidance)
        spec = replace(spec, towers=tuple(_known_tower(tower, row) for tower in spec.towers))
    sampler = _SAMPLERS.get(str(scheduler.get("_class_name")))
    if spec.schedule.zero_terminal_snr:
        spec = replace(spec, default_spacing="trailing")
    return (
        spec
        if sampler is None
        else replace(spec, default_sampler=sampler, default_guidance=1.0, default_steps=_DISTILLED_STEPS)
    )


def _known_tower(tower: TextTowerConfig, row: ModelSpec) -> TextTowerConfig:
    """The family's tower of the same shape, with what a folder does not tell of it."""
    known = (known for known in row.towers if replace(known, dropped_layers=0, pad_token=tower.pad_token) == tower)
    found = next(known, None)
    return tower if found is None else replace(tower, dropped_layers=found.dropped_layers)
