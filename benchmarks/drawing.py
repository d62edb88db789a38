"""Pictures of many prompts, computed together and kept: what the measuring scripts draw with.

On the CPU `rein generate` computes pictures one by one, so that each is the same in any company. A batch takes less
time, and its pictures differ from those by rounding only, which `check` makes sure of.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from rein.diffusion.noise import PictureNoise
from rein.diffusion.prediction import Denoiser
from rein.diffusion.samplers import SAMPLERS, SamplerOptions
from rein.evaluation.gallery import Gallery, Order
from rein.pipeline.decode import decode_latents
from rein.pipeline.job import Job, prepare, starting_latents
from rein.pipeline.memo import Memo
from rein.pipeline.model import Model
from rein.pipeline.network import guided_denoiser, plan_request
from rein.pipeline.request import Request
from rein.text.encode import Conditioning
from rein.text.plan import PromptPlan, StepWords

TOGETHER = 40
"""Pictures in one batch."""


@dataclass(frozen=True, eq=False)
class Together:
    """Pictures of a model, each of its own words, seed and depth map, that are computed as one batch.

    Fields:
        job: of the first, whose settings are those of all.
        denoise: for all of them, guided; row i has the words of picture i.
        seeds: of the pictures.
    """

    job: Job
    denoise: Denoiser
    seeds: tuple[int, ...]

    @classmethod
    @torch.inference_mode()
    def of(cls, model: Model, requests: Sequence[Request]) -> Together:
        """Encode what is asked. The requests may differ in words, seeds and depth maps; the rest is the first's."""
        parts, memo = model.parts, Memo()
        jobs = [prepare(parts, request, memo) for request in requests]
        first = jobs[0]
        plans = [plan_request(parts, job.request, known=memo.reader(job.chosen)).steps[0] for job in jobs]
        unwanted = [plan.unwanted for plan in plans if plan.unwanted is not None]
        words = StepWords(
            ((Conditioning.cat([plan.wanted[0][0] for plan in plans]), 1.0),),
            Conditioning.cat(unwanted) if unwanted else None,
        )
        shown = [job.inputs.extra for job in jobs if job.inputs.extra is not None]
        extra = torch.cat(shown) if shown else None
        denoise = guided_denoiser(parts, first.request, PromptPlan((words,)), first.schedule, first.sigmas, extra)
        return cls(first, denoise, tuple(job.seeds[0] for job in jobs))

    @torch.inference_mode()
    def latents(
        self, sampler: str | None = None, sigmas: Tensor | None = None, eta: float | None = None
    ) -> tuple[Tensor, int]:
        """The finished latents (B, C, h, w), and how often the network was asked.

        Sampler and noise levels are those of the request unless others are given.
        """
        job = self.job if sigmas is None else replace(self.job, sigmas=sigmas)
        noise, asked = PictureNoise(self.seeds), 0

        def counted(x: Tensor, sigma: Tensor) -> Tensor:
            nonlocal asked
            asked += 1
            return self.denoise(x, sigma)

        name = sampler or job.request.sampler
        assert name is not None
        options = SamplerOptions(eta, job.schedule.coordinates, schedule=job.schedule)
        *_, last = SAMPLERS[name].function(counted, starting_latents(job, noise), job.sigmas, noise, options)
        return last.x, asked


def requests_of(orders: Sequence[Order], **settings: Any) -> list[Request]:
    """A request for each prompt and seed, all with the same settings: fields of `Request`."""
    return [Request.model_validate({"prompt": words, "seed": seed, **settings}) for words, seed in orders]


def drawn_together(model: Model, orders: Sequence[Order], **settings: Any) -> Tensor:
    """Latents (B, C, h, w) of prompts with their seeds, computed as one batch."""
    return Together.of(model, requests_of(orders, **settings)).latents()[0]


def kept_pictures(
    model: Model, requests: Sequence[Request], folder: Path, together: int = TOGETHER
) -> NDArray[np.uint8]:
    """Pictures (N, H, W, 3) of requests that differ in words, seeds and depth maps only.

    They are kept in `folder`, by the weights and all settings: what is there is not drawn again, so a broken run goes
    on, and another run may use them.
    """

    def draw(written: list[str], seeds: list[int]) -> list[Image.Image]:
        asked = [Request.model_validate_json(text) for text in written]
        latents, _ = Together.of(model, asked).latents()
        return [decoded.image for decoded in decode_latents(model.parts, latents)]

    resolved = [request.resolved(model.spec) for request in requests]
    orders: list[Order] = [(request.to_json(), request.seed or 0) for request in resolved]
    gallery = Gallery(draw, folder, f"together {model.weights_hash}", together)
    for done in gallery.fill(orders):
        print(f"{model.name}, {resolved[0].steps} steps: {done} of {len(orders)} pictures", flush=True)
    return gallery.pictures(orders)


def check(model: Model, orders: Sequence[Order]) -> None:
    """The batch's first picture is the one that `Model.steps` draws, but for rounding."""
    few = orders[:3]
    *_, alone = model.steps(few[0][0], seed=few[0][1], steps=3)
    apart = float((drawn_together(model, few, steps=3)[:1] - alone.latents).abs().max())
    assert apart < 1e-3, f"a picture of the batch is {apart} from the same one alone"
