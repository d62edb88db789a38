"""A model that is ready to draw."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import get_args

import torch

from rein.devices import choose_device, choose_dtype
from rein.engines.cpu import lay_out
from rein.errors import InputError, ReinError, nearest, quoted
from rein.formats.checkpoint import LoadedModel, load_model
from rein.formats.single import LoadOptions
from rein.nn.specs import ModelSpec, PredictionName
from rein.pipeline.generate import GenerationStep, collect, prepare, run
from rein.pipeline.request import Request
from rein.pipeline.result import Result

__all__ = ["EMBEDDED", "GenerationStep", "Model", "Result", "load"]

EMBEDDED = ("pocket",)
"""Models that are part of the package."""


@dataclass(frozen=True, eq=False)
class Model:
    """Networks and words together. It keeps nothing between two pictures."""

    parts: LoadedModel

    @property
    def spec(self) -> ModelSpec:
        """What the model is."""
        return self.parts.spec

    @property
    def name(self) -> str:
        """Its name, as pictures tell it."""
        return self.parts.spec.name

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self.parts.device

    @property
    def dtype(self) -> torch.dtype:
        """In which number format the networks compute; latents are float32 outside them."""
        return self.parts.dtype

    @property
    def weights_hash(self) -> str:
        """SHA-256 over its weight files, as recorded when they were saved."""
        return self.parts.weights_hash

    def generate(self, prompt: str | Request, **options: object) -> Result:
        """Draw pictures.

        Args:
            prompt: what they should show, or a whole request.
            options: fields of `Request`; they take precedence over those of the request.

        Raises:
            InputError: an option that is unknown, out of its range or not for this model.
            NonFiniteError: the networks gave NaN or infinity.
        """
        return collect(self.steps(prompt, **options))

    def steps(self, prompt: str | Request, **options: object) -> Iterator[GenerationStep]:
        """The same work as `generate`, one noise level at a time. To cancel it, stop iterating.

        Wrong options are refused at once, before the first step. Pictures of a request that do not fit into one batch
        come one batch after the other; the last step of each (`step.last`) has their `result`.
        """
        request = prompt.replace(**options) if isinstance(prompt, Request) else _request(prompt, options)
        return run(prepare(self.parts, request))


def _request(prompt: str, options: dict[str, object]) -> Request:
    return Request.model_validate({"prompt": prompt, **options})


def load(
    source: str | os.PathLike[str] | None = None,
    device: str | None = None,
    dtype: str | None = None,
    *,
    vae: str | os.PathLike[str] | None = None,
    prediction: str | None = None,
    ema: bool = False,
    variant: str | None = None,
) -> Model:
    """Load a model.

    Args:
        source: a single file, a diffusers folder, one of Rein's folders, or the name of an embedded model; None is
            "pocket".
        device: "cpu", "cuda", "cuda:1", "mps", or None for the best there is.
        dtype: "float32", "bfloat16", "float16", or None for what suits the device.
        vae: a file whose autoencoder takes the place of the model's own: a VAE, a TAESD, another model.
        prediction: what the U-Net predicts ("epsilon", "v", "x0", "flow"); None goes by the file.
        ema: take the averaged U-Net where a single file has two.
        variant: which weights of a diffusers folder to read, such as "fp16"; None prefers the plain ones.

    Raises:
        InputError: no such model, device or number format; a file of another kind.
        DamagedFileError: the model's files cannot be read, or would leave a network unfilled.
    """
    where = choose_device(device)
    options = LoadOptions(None if vae is None else _existing(vae), _prediction(prediction), ema, variant)
    parts = load_model(model_folder(source), where, choose_dtype(dtype, where), options)
    lay_out(parts.unet, sort=True)
    lay_out(parts.autoencoder)
    return Model(parts)


def model_folder(source: str | os.PathLike[str] | None) -> Path:
    """The folder of an embedded model, or the folder or file that is given.

    Raises:
        InputError: no such model.
        ReinError: an embedded model that is not there.
    """
    if source is None or source in EMBEDDED:
        folder = Path(str(files("rein") / "assets" / (source or EMBEDDED[0])))
        if not folder.is_dir():
            raise ReinError(f"this copy of Rein has no embedded model ({folder} is missing): install Rein again")
        return folder
    path = Path(source)
    if path.is_dir() or path.is_file():
        return path
    raise InputError(
        f"unknown model {quoted(str(source))}: {nearest(str(source), EMBEDDED)}; or give a model's folder or file"
    )


def _prediction(name: str | None) -> PredictionName | None:
    """A prediction by its name. Raises `InputError`."""
    known: tuple[PredictionName, ...] = get_args(PredictionName)
    if name is not None and name not in known:
        raise InputError(f"unknown prediction {quoted(name)}: {nearest(name, known)}")
    return next((entry for entry in known if entry == name), None)


def _existing(path: str | os.PathLike[str]) -> Path:
    """A file that is there. Raises `InputError`."""
    if not Path(path).is_file():
        raise InputError(f"there is no file {os.fspath(path)}: give a VAE, a TAESD or a whole model")
    return Path(path)
