"""A model that is ready to draw."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from rein.devices import choose_device, choose_dtype
from rein.formats.checkpoint import LoadedModel
from rein.formats.single import LoadOptions
from rein.nn.specs import ModelSpec
from rein.pipeline.generate import GenerationStep, collect, run
from rein.pipeline.job import prepare
from rein.pipeline.loading import autoencoder_file, find_prediction_name, load_parts, model_folder
from rein.pipeline.request import Request
from rein.pipeline.result import Result

__all__ = ["GenerationStep", "Model", "Result", "load", "model_folder"]


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
        vae: a file or folder whose autoencoder takes the place of the model's own: a VAE, a TAESD, another model.
        prediction: what the U-Net predicts ("epsilon", "v", "x0", "flow"); None goes by the file.
        ema: take the averaged U-Net where a single file has two.
        variant: which weights of a diffusers folder to read, such as "fp16"; None prefers the plain ones.

    Raises:
        InputError: no such model, device or number format; a file of another kind.
        DamagedFileError: the model's files cannot be read, or would leave a network unfilled.
    """
    where = choose_device(device)
    lone = None if vae is None else autoencoder_file(vae)
    options = LoadOptions(lone, find_prediction_name(prediction), ema, variant)
    return Model(load_parts(source, where, choose_dtype(dtype, where), options))
