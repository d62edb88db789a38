"""A second model for the last steps: SDXL's refiner, or any other with the same latents."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from rein.diffusion.guidance import selected
from rein.diffusion.prediction import Denoiser
from rein.diffusion.schedule import NoiseSchedule
from rein.errors import InputError
from rein.formats.checkpoint import LoadedModel
from rein.pipeline.adapters import Chosen
from rein.pipeline.doctor import Doctor
from rein.pipeline.loading import load_parts
from rein.pipeline.memo import Memo
from rein.pipeline.network import guided_denoiser, plan_request
from rein.pipeline.request import Request
from rein.pipeline.words import Drawn


def refined(
    parts: LoadedModel,
    request: Request,
    drawn: Drawn,
    schedule: NoiseSchedule,
    sigmas: Tensor,
    denoise: Denoiser,
    doctor: Doctor,
    memo: Memo,
) -> Denoiser:
    """`denoise` until `refiner_switch` of the steps are done, then the refiner; `denoise` itself where there is none.

    Args:
        sigmas: all levels of the request, before any is left out for a picture to start from.

    Raises:
        InputError: a refiner that is not there, or whose latents or noise are others.
    """
    if request.refiner is None:
        return denoise
    place = int(len(sigmas[:-1]) * request.refiner_switch + 1e-9)
    if place >= len(sigmas) - 1:
        return denoise
    other = refiner_parts(request.refiner, parts.device, parts.dtype)
    _check(parts, other, request.refiner)
    plan = plan_request(other, request, drawn, doctor=doctor, known=memo.reader(Chosen()))
    last = guided_denoiser(other, request, plan, schedule, sigmas, doctor=doctor)
    switch = float(sigmas[place]) * (1 + 1e-6)
    return selected(lambda sigma: last if float(sigma) <= switch else denoise, denoise)


def refiner_parts(path: str, device: torch.device, dtype: torch.dtype) -> LoadedModel:
    """The refiner, read once while its file stays as it is."""
    stamp = Path(path).stat().st_mtime_ns if Path(path).exists() else 0
    return _kept(path, stamp, device, dtype)


@lru_cache(maxsize=1)
def _kept(path: str, stamp: int, device: torch.device, dtype: torch.dtype) -> LoadedModel:
    return load_parts(path, device, dtype)


def _check(parts: LoadedModel, other: LoadedModel, path: str) -> None:
    for name in ("latent_channels", "downscale"):
        one, two = getattr(parts.spec.autoencoder, name), getattr(other.spec.autoencoder, name)
        if one != two:
            raise InputError(f"refiner {path}: its latents have {name} {two}, those of {parts.spec.name!r} {one}")
    if other.spec.schedule != parts.spec.schedule:
        raise InputError(f"refiner {path}: it was trained with another noise schedule than {parts.spec.name!r}")
    if other.spec.conditioning_channels:
        raise InputError(f"refiner {path}: a model for inpainting, depth or editing cannot refine")
