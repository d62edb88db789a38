"""Models found by name or place and read into memory, laid out for the device."""

from __future__ import annotations

import os
from pathlib import Path
from typing import get_args

import torch

from rein.engines.cpu import lay_out
from rein.errors import InputError, nearest, quoted
from rein.formats.checkpoint import LoadedModel, load_model
from rein.formats.diffusers_folder import lone_weights
from rein.formats.embedded import EMBEDDED, embedded_folder
from rein.formats.single import LoadOptions
from rein.nn.specs import PredictionName


def load_parts(
    source: str | os.PathLike[str] | None, device: torch.device, dtype: torch.dtype, options: LoadOptions | None = None
) -> LoadedModel:
    """The networks and words of a model. Raises as `rein.pipeline.model.load`."""
    parts = load_model(model_folder(source), device, dtype, options or LoadOptions())
    lay_out(parts.unet, sort=True)
    lay_out(parts.autoencoder)
    return parts


def model_folder(source: str | os.PathLike[str] | None) -> Path:
    """The folder of an embedded model, or the folder or file that is given.

    Raises:
        InputError: no such model.
        ReinError: an embedded model that is not there.
    """
    if source is None or source in EMBEDDED:
        return embedded_folder(str(source or EMBEDDED[0]))
    path = Path(source)
    if path.is_dir() or path.is_file():
        return path
    raise InputError(
        f"unknown model {quoted(str(source))}: {nearest(str(source), EMBEDDED)}; or give a model's folder or file"
    )


def find_prediction_name(name: str | None) -> PredictionName | None:
    """A prediction by its name. Raises `InputError`."""
    known: tuple[PredictionName, ...] = get_args(PredictionName)
    if name is not None and name not in known:
        raise InputError(f"unknown prediction {quoted(name)}: {nearest(name, known)}")
    return next((entry for entry in known if entry == name), None)


def autoencoder_file(path: str | os.PathLike[str]) -> Path:
    """The file that an autoencoder is to be taken from, also of one in a folder. Raises `InputError`."""
    if not Path(path).exists():
        raise InputError(f"there is no file {os.fspath(path)}: give a VAE, a TAESD or a whole model")
    return lone_weights(Path(path))
