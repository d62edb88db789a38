"""How far away things are in a picture, estimated by a model of the transformers library from a folder on this disk."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.nn.functional import interpolate

from rein.errors import DamagedFileError, InputError, ReinError, require
from rein.formats.transformers_models import silent
from rein.images import pil_to_tensor
from rein.masks import Array

_PREPROCESSOR = "preprocessor_config.json"
_DEFAULT_SIDE = 384
_MAX_JSON = 2**20
_DISTANCES = ("zoedepth", "depth_pro")
"""Model types that give metres, large being far; all others give the inverse, large being near."""


@torch.inference_mode()
def estimate_depth(folder: str, picture: Image.Image) -> Array:
    """Nearness of every pixel of `picture`, (H, W), large being near; its scale is the model's own.

    Args:
        folder: a depth model as transformers' `save_pretrained` writes it (DPT, Depth Anything, GLPN, ZoeDepth ...),
            with safetensors weights; nothing is fetched and nothing in it is executed.

    Raises:
        MissingExtraError: transformers is not installed.
        InputError: there is no such folder.
        DamagedFileError: it holds no depth model that can be read.
    """
    transformers = require("transformers", "depth")
    path = Path(folder)
    if not (path / "config.json").is_file():
        raise InputError(f"depth_model {folder}: it must be a folder with config.json and model.safetensors in it")
    settings = _settings(path / _PREPROCESSOR)
    try:
        with silent(transformers):
            model = transformers.AutoModelForDepthEstimation.from_pretrained(
                os.fspath(path), local_files_only=True, use_safetensors=True, trust_remote_code=False
            ).eval()
    except Exception as error:  # a library's errors are of many kinds
        raise DamagedFileError(f"depth_model {folder} cannot be read: {str(error).splitlines()[0][:200]}") from error
    found = model(pixel_values=_seen(picture, settings)).predicted_depth.float()
    plane = interpolate(found.reshape(1, 1, *found.shape[-2:]), (picture.height, picture.width), mode="bicubic")[0, 0]
    if not bool(torch.isfinite(plane).all()):
        raise ReinError(f"depth_model {folder} gave NaN or infinity: its weights are damaged")
    if model.config.model_type in _DISTANCES or getattr(model.config, "depth_estimation_type", "") == "metric":
        plane = 1 / plane.clamp(min=1e-3)
    return np.asarray(plane.numpy(), dtype=np.float32)


def depth_channel(nearness: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Nearness (B, 1, H, W) of any scale as a U-Net sees it, (B, 1, h, w): each map from -1, far, to 1, near.

    A map that says the same everywhere becomes 0, which stands for no map.
    """
    small = interpolate(nearness, size, mode="bicubic", align_corners=False)
    low, high = small.amin((1, 2, 3), keepdim=True), small.amax((1, 2, 3), keepdim=True)
    span = high - low
    return torch.where(span > 0, 2 * (small - low) / span.where(span > 0, torch.ones_like(span)) - 1, 0.0)


def _seen(picture: Image.Image, settings: dict[str, Any]) -> torch.Tensor:
    """The picture as such a model sees it, (1, 3, H, W): at its size in its steps, by its mean and deviation."""
    size = settings.get("size")
    size = size if isinstance(size, dict) else {}
    height, width = (int(size.get(name, _DEFAULT_SIDE)) for name in ("height", "width"))
    step = max(1, int(settings.get("ensure_multiple_of", 1)))
    if settings.get("keep_aspect_ratio"):
        # The side that has to change least decides, as those models were trained.
        factor = min((height / picture.height, width / picture.width), key=lambda value: abs(1 - value))
        height, width = round(picture.height * factor / step) * step, round(picture.width * factor / step) * step
    resized = picture.resize((max(step, width), max(step, height)), Image.Resampling.BICUBIC)
    unit = (pil_to_tensor(resized) + 1) / 2
    mean, deviation = (
        torch.tensor(settings.get(name, [0.5] * 3)).float()[:, None, None] for name in ("image_mean", "image_std")
    )
    return ((unit - mean) / deviation)[None]


def _settings(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_bytes()[:_MAX_JSON])
    except ValueError as error:
        raise DamagedFileError(f"{path} is not valid JSON: {str(error)[:100]}") from error
    return found if isinstance(found, dict) else {}
