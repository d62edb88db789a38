"""The configuration files of a diffusers folder, written from a specification."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rein.errors import InputError
from rein.formats.diffusers_configs import PREDICTIONS, SCHEDULES
from rein.nn.specs import ModelSpec, TextTowerConfig

_VERSION = "0.35.0"
"""The diffusers version that the layout is of."""

_PIPELINES = {
    (False, 0): "StableDiffusionPipeline",
    (False, 1): "StableDiffusionDepth2ImgPipeline",
    (False, 4): "StableDiffusionInstructPix2PixPipeline",
    (False, 5): "StableDiffusionInpaintPipeline",
    (True, 0): "StableDiffusionXLPipeline",
    (True, 4): "StableDiffusionXLInstructPix2PixPipeline",
    (True, 5): "StableDiffusionXLInpaintPipeline",
}
"""diffusers' class for a model with size ids or not, by its channels beyond the latents."""


@dataclass(frozen=True)
class Index:
    """model_index.json, and the folders of the parts in the order of `rein.formats.keys.part_names`."""

    content: dict[str, Any]
    folders: tuple[str, ...]


def write_index(spec: ModelSpec) -> Index:
    """The list of parts. Raises `InputError` where diffusers has no pipeline for the model."""
    sized = spec.unet.size_ids > 0
    kind = _PIPELINES.get((sized, spec.conditioning_channels))
    if kind is None:
        raise InputError(
            f"model {spec.name!r} has {spec.conditioning_channels} channels beyond the latents: "
            "diffusers has no pipeline for it"
        )
    lone_second = sized and len(spec.towers) == 1
    if lone_second:
        kind = "StableDiffusionXLImg2ImgPipeline"
    numbers = [""] * (not lone_second) + ["_2"] * (sized)
    content: dict[str, Any] = {"_class_name": kind, "_diffusers_version": _VERSION}
    content |= {"unet": ["diffusers", "UNet2DConditionModel"], "vae": ["diffusers", _autoencoder_class(spec)]}
    content["scheduler"] = ["diffusers", _scheduler_class(spec)]
    if lone_second:
        content |= {"text_encoder": [None, None], "tokenizer": [None, None]}
    for number, tower in zip(numbers, spec.towers, strict=True):
        content[f"text_encoder{number}"] = ["transformers", _tower_class(tower)]
        content[f"tokenizer{number}"] = ["transformers", "CLIPTokenizer"]
    if sized:
        key = "requires_aesthetics_score" if lone_second else "force_zeros_for_empty_prompt"
        content[key] = True if lone_second else spec.zero_empty_negative
    else:
        content |= {"safety_checker": [None, None], "feature_extractor": [None, None]}
        content["requires_safety_checker"] = False
    return Index(content, ("unet", "vae", *(f"text_encoder{number}" for number in numbers)))


def _autoencoder_class(spec: ModelSpec) -> str:
    return "AutoencoderTiny" if spec.autoencoder.design == "tiny" else "AutoencoderKL"


def _tower_class(tower: TextTowerConfig) -> str:
    return "CLIPTextModelWithProjection" if tower.projection_width else "CLIPTextModel"


def _scheduler_class(spec: ModelSpec) -> str:
    if spec.default_sampler == "lcm":
        return "LCMScheduler"
    return "DDIMScheduler" if spec.schedule.zero_terminal_snr else "EulerDiscreteScheduler"


def write_unet_config(spec: ModelSpec) -> dict[str, Any]:
    """unet/config.json."""
    config = spec.unet
    attends = [depth > 0 for depth in config.transformer_depth]
    written: dict[str, Any] = {
        "_class_name": "UNet2DConditionModel",
        "_diffusers_version": _VERSION,
        "sample_size": spec.native_size // spec.autoencoder.downscale,
        "in_channels": config.in_channels,
        "out_channels": config.out_channels,
        "block_out_channels": list(config.channels),
        "down_block_types": ["CrossAttnDownBlock2D" if here else "DownBlock2D" for here in attends],
        "up_block_types": ["CrossAttnUpBlock2D" if here else "UpBlock2D" for here in reversed(attends)],
        "mid_block_type": "UNetMidBlock2DCrossAttn",
        "layers_per_block": config.blocks_per_level,
        "transformer_layers_per_block": [max(depth, 1) for depth in config.transformer_depth[:-1]]
        + [config.middle_depth],
        "attention_head_dim": list(config.heads),
        "cross_attention_dim": config.context_width,
        "use_linear_projection": config.linear_projection,
        "norm_num_groups": config.norm_groups,
    }
    if config.guidance_width:
        written["time_cond_proj_dim"] = config.guidance_width
    if config.size_ids:
        added = config.pooled_width + config.size_ids * config.size_id_width
        written |= {"addition_embed_type": "text_time", "addition_time_embed_dim": config.size_id_width}
        written["projection_class_embeddings_input_dim"] = added
    return written


def write_autoencoder_config(spec: ModelSpec) -> dict[str, Any]:
    """vae/config.json."""
    config = spec.autoencoder
    written: dict[str, Any] = {"_class_name": _autoencoder_class(spec), "_diffusers_version": _VERSION}
    written |= {"latent_channels": config.latent_channels, "in_channels": config.picture_channels}
    written["out_channels"] = config.picture_channels
    written["scaling_factor"] = spec.latent_scale
    if config.design == "tiny":
        before = [config.blocks_per_level] * (len(config.channels) - 1)
        written |= {"encoder_block_out_channels": list(config.channels), "num_encoder_blocks": [1, *before]}
        written |= {"decoder_block_out_channels": list(config.channels[::-1]), "num_decoder_blocks": [*before, 1]}
        return written
    count = len(config.channels)
    return written | {
        "shift_factor": spec.latent_shift or None,
        "block_out_channels": list(config.channels),
        "down_block_types": ["DownEncoderBlock2D"] * count,
        "up_block_types": ["UpDecoderBlock2D"] * count,
        "layers_per_block": config.blocks_per_level,
        "norm_num_groups": config.norm_groups,
        "mid_block_add_attention": config.middle_attention,
        "sample_size": spec.native_size,
    }


def write_tower_config(tower: TextTowerConfig) -> dict[str, Any]:
    """text_encoder/config.json."""
    return {
        "architectures": [_tower_class(tower)],
        "model_type": "clip_text_model",
        "vocab_size": tower.vocabulary_size,
        "max_position_embeddings": tower.context_length,
        "hidden_size": tower.width,
        "num_hidden_layers": tower.layers,
        "num_attention_heads": tower.heads,
        "intermediate_size": tower.feed_forward_width,
        "hidden_act": tower.activation,
        "projection_dim": tower.projection_width or tower.width,
        "bos_token_id": tower.end_token - 1,
        "eos_token_id": tower.end_token,
        "pad_token_id": tower.pad_token,
    }


def write_scheduler_config(spec: ModelSpec) -> dict[str, Any]:
    """scheduler/scheduler_config.json."""
    schedule = spec.schedule
    predictions = {ours: theirs for theirs, ours in PREDICTIONS.items()}
    kinds = {ours: theirs for theirs, ours in SCHEDULES.items()}
    return {
        "_class_name": _scheduler_class(spec),
        "_diffusers_version": _VERSION,
        "beta_schedule": kinds[schedule.kind],
        "beta_start": schedule.beta_start,
        "beta_end": schedule.beta_end,
        "num_train_timesteps": schedule.steps,
        "prediction_type": predictions[spec.prediction],
        "rescale_betas_zero_snr": schedule.zero_terminal_snr,
        "timestep_spacing": "trailing" if schedule.zero_terminal_snr else "leading",
        "steps_offset": 1,
        "clip_sample": False,
        "set_alpha_to_one": schedule.zero_terminal_snr,
    }
