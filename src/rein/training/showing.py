"""Pictures that show how far a training is, drawn by the pipeline that will draw them in the end."""

from __future__ import annotations

import copy
from dataclasses import replace

import torch
from PIL import Image
from torch import Tensor

from rein.formats.checkpoint import LoadedModel
from rein.pipeline.generate import collect, run
from rein.pipeline.inputs import Inputs
from rein.pipeline.job import denoiser_for, prepare
from rein.pipeline.request import Request

SAMPLE_STEPS = 16


def draw_with(
    parts: LoadedModel,
    prompt: str,
    seed: int,
    extra: Tensor | None = None,
    steps: int = SAMPLE_STEPS,
    embeddings: tuple[str, ...] = (),
) -> Image.Image:
    """A picture at the model's own size and defaults; `extra` (1, E, h, w) is what the further channels show.

    `embeddings` are files of learned words.
    """
    # A copy with the same weights has no compiled form, which would be compiled again for other shapes.
    parts = replace(parts, unet=copy.copy(parts.unet))
    request = Request(prompt=prompt, seed=seed, steps=steps, embeddings=embeddings)
    job = prepare(parts, request)
    if extra is not None:
        inputs = Inputs(extra=extra.to(parts.device).float())
        with torch.inference_mode():
            denoise, chosen = denoiser_for(
                parts, job.request, job.words[0], job.schedule, job.sigmas, inputs, job.doctor
            )
        job = replace(job, inputs=inputs, denoise=denoise, chosen=chosen)
    return collect(run(job)).images[0]
