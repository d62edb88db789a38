"""The one loop that makes pictures, as a generator of its steps.

What differs between kinds of pictures (starting latents, first noise level, extra channels, masks) is settled in
`prepare`, before the loop. Work in several passes (outpainting, "hires fix", loop-back) runs this loop for each.

A picture depends on its own seed and the request, not on its batch. On the CPU in float32 that holds to the last bit,
because pictures are computed one by one: batched matrix products may add up in another order. On other devices
pictures are computed in batches (`batch_size`), start from the same noise, and may differ in the last bits.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from PIL import Image
from torch import Tensor

from rein.diffusion.noise import picture_noise
from rein.diffusion.samplers import SamplerOptions, find_sampler
from rein.errors import NonFiniteError
from rein.formats.checkpoint import LoadedModel
from rein.pipeline.adapters import Chosen
from rein.pipeline.decode import Decoded, decode_latents
from rein.pipeline.job import Job, prepare_pass, starting_latents, visited
from rein.pipeline.passes import Finished
from rein.pipeline.request import Request
from rein.pipeline.result import Result, provenance_of
from rein.pipeline.words import told


@dataclass(frozen=True, eq=False)
class GenerationStep:
    """One noise level of the pictures with `seeds`, finished.

    Fields:
        index, steps: this step, from 0, of how many.
        sigma, next_sigma: noise levels before and after it.
        latents: (B, C, h, w) float32 after the step, x0 + next_sigma * noise.
        denoised: (B, C, h, w) float32, the pictures that the network saw before the step, as latents.
        seeds: of the B pictures; all of the request's where they fit in one batch, else those in work.
        chosen: adapters and learned words that they are made with.
        whole: of work in several passes all of it; `job` is then that of the pass, and index and steps count through.
        final: whether this pass is the last one.
        earlier: notes on the passes before.

    The tensors were made in inference mode: clone them before you change them or need gradients.
    """

    job: Job
    index: int
    steps: int
    sigma: float
    next_sigma: float
    latents: Tensor
    denoised: Tensor
    seeds: range
    chosen: Chosen
    started: float
    whole: Job | None = None
    final: bool = True
    earlier: tuple[str, ...] = ()

    @property
    def last(self) -> bool:
        """Whether the pictures with these seeds are finished; then there is a `result`."""
        return self.next_sigma == 0 and self.final

    def preview(self, picture: int = 0) -> Image.Image:
        """What picture `picture` of the batch looks like so far: `denoised`, decoded."""
        return _decoded(self.job, self.denoised[picture : picture + 1])[0].image

    def pictures(self) -> list[Decoded]:
        """The latents decoded, each laid into its source where it is a part of one.

        Raises:
            NonFiniteError: the network gave NaN or infinity.
        """
        _check_finite(self.latents, self.job.parts)
        notes, overlay = (*self.earlier, *self.job.doctor.notes), self.job.inputs.overlay
        found = [replace(entry, notes=(*notes, *entry.notes)) for entry in _decoded(self.job, self.latents)]
        return found if overlay is None else [replace(entry, image=overlay.laid(entry.image)) for entry in found]

    @cached_property
    def result(self) -> Result:
        """The finished pictures. Only the last step of each batch has them.

        Raises:
            NonFiniteError: the network gave NaN or infinity.
        """
        if not self.last:
            raise ValueError(f"step {self.index + 1} of {self.steps} has no result yet; the last one has")
        pictures, whole = self.pictures(), self.whole or self.job
        seconds = time.perf_counter() - self.started
        words = [whole.words_of(seed) for seed in self.seeds]
        made = provenance_of(whole.parts, whole.digests)
        return Result.of(made, whole.request, pictures, self.seeds, words, self.chosen, seconds)


def _decoded(job: Job, latents: Tensor) -> list[Decoded]:
    return decode_latents(job.parts, latents, job.request.tile, job.request.seamless)


def run(job: Job) -> Iterator[GenerationStep]:
    """The steps of all pictures, batch after batch. To cancel, stop iterating."""
    for seeds in job.groups():
        yield from _through_passes(job, seeds[0]) if job.passes else _draw(job, seeds)


def _through_passes(job: Job, seed: int) -> Iterator[GenerationStep]:
    """One picture from pass to pass."""
    started, before, done = time.perf_counter(), None, 0
    notes: tuple[str, ...] = ()
    ahead, drawn = seed - job.seeds[0], job.words_of(seed)
    requests = [told(_ahead(entry.request, ahead), drawn) for entry in job.passes]
    counts = [max(1, len(visited(torch.zeros(request.step_count + 1), request)) - 1) for request in requests]
    for place, (entry, request) in enumerate(zip(job.passes, requests, strict=True)):
        part = job.opening if place == 0 and ahead == 0 else None
        if part is None:
            part = prepare_pass(job.parts, request, entry.given(before), job.memo)
        final = place == len(requests) - 1
        assert request.seed is not None
        for step in _draw(part, range(request.seed, request.seed + 1)):
            finished = step.next_sigma == 0
            yield replace(
                step,
                index=done + step.index,
                steps=sum(counts),
                seeds=range(seed, seed + 1),
                started=started,
                whole=job,
                final=final,
                earlier=notes,
            )
            if finished and not final:
                [picture] = replace(step, earlier=notes).pictures()
                before, notes = Finished(picture.image, step.latents), picture.notes
        done += counts[place]


def _ahead(request: Request, pictures: int) -> Request:
    """The request of a later picture, alone."""
    assert request.seed is not None
    varied = request.variation_seed
    varied = None if varied is None else varied + pictures
    return request.replace(seed=request.seed + pictures, count=1, variation_seed=varied)


@torch.inference_mode()
def _draw(job: Job, seeds: range) -> Iterator[GenerationStep]:
    started = time.perf_counter()
    request = job.request
    assert request.sampler is not None
    noise = picture_noise(request.noise_source, seeds)
    job.doctor.begin(job.sigmas, job.words_of(seeds[0]) == job.words[0])
    denoise, chosen = job.denoiser(seeds[0])
    count = len(job.sigmas) - 1
    start = starting_latents(job, noise)
    if count == 0:
        yield GenerationStep(job, 0, 1, 0.0, 0.0, start, start, seeds, chosen, started)
        return
    sampler = find_sampler(request.sampler).function
    options = SamplerOptions(
        eta=request.eta,
        coordinates=job.schedule.coordinates,
        s_churn=request.s_churn,
        s_tmin=request.s_tmin,
        s_tmax=math.inf if request.s_tmax is None else request.s_tmax,
        s_noise=request.s_noise,
        schedule=job.schedule,
    )
    for step in sampler(denoise, start, job.sigmas, noise, options):
        # A sampler that chooses its own levels may take more steps than were asked for, or fewer.
        place = job, step.index, max(count, step.index + 1), step.sigma, step.next_sigma
        yield GenerationStep(*place, step.x, step.denoised, seeds, chosen, started)


def _check_finite(latents: Tensor, parts: LoadedModel) -> None:
    if not bool(torch.isfinite(latents).all()):
        hint = "" if parts.dtype == torch.float32 else f"; {parts.dtype} may be too narrow: load the model in float32"
        raise NonFiniteError(f"the U-Net gave NaN or infinity{hint}")


def collect(steps: Iterator[GenerationStep]) -> Result:
    """Run to the end and join the results of all batches."""
    return Result.join([step.result for step in steps if step.last])
