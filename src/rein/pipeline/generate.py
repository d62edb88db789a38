"""The one loop that makes pictures, as a generator of its steps.

What differs between kinds of pictures (starting latents, first noise level, extra channels, masks) is settled in
`prepare`, before the loop.

A picture depends on its own seed and the request, not on its batch. On the CPU in float32 that holds to the last bit,
because pictures are computed one by one: batched matrix products may add up in another order. On other devices
pictures are computed in batches (`batch_size`), start from the same noise, and may differ in the last bits.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cached_property

import torch
from PIL import Image
from torch import Tensor

from rein.diffusion.noise import PictureNoise
from rein.diffusion.prediction import Denoiser, find_prediction
from rein.diffusion.samplers import SamplerOptions, find_sampler
from rein.diffusion.schedule import NoiseSchedule, make_schedule
from rein.diffusion.spacing import SpacingOptions, spaced_sigmas
from rein.errors import NonFiniteError
from rein.formats.checkpoint import LoadedModel
from rein.pipeline.adapters import Chosen, adapted, adapted_denoiser, choose, wishes_of
from rein.pipeline.decode import decode_latents
from rein.pipeline.network import guided_denoiser, plan_request
from rein.pipeline.request import Request
from rein.pipeline.result import Result
from rein.pipeline.words import Drawn, WordSource

_LATENT_PIXELS_AT_ONCE = 8 * 128 * 128
"""On other devices than the CPU: eight SDXL pictures, thirty-two of SD1.5, 2048 of the embedded model."""

_MOST_AT_ONCE = 64


@dataclass(frozen=True, eq=False)
class Job:
    """A request made ready for the loop: every choice is made, words are encoded, nothing is drawn yet.

    Fields:
        denoise, chosen: for the words of the first picture, the network and what is added to it; where wildcards give
            others other words, theirs are made later.
        words: of each picture, in the order of `seeds`.
    """

    parts: LoadedModel
    request: Request
    schedule: NoiseSchedule
    sigmas: Tensor
    denoise: Denoiser
    words: tuple[Drawn, ...]
    chosen: Chosen

    @property
    def seeds(self) -> range:
        """The seed of each picture."""
        assert self.request.seed is not None
        return range(self.request.seed, self.request.seed + self.request.count)

    def groups(self) -> Iterator[range]:
        """Seeds of the pictures that are computed together: neighbours with the same words."""
        size = batch_size(self.parts, self.request)
        first = 0
        for place in range(1, len(self.seeds) + 1):
            if place == len(self.seeds) or place - first == size or self.words[place] != self.words[first]:
                yield self.seeds[first:place]
                first = place

    def words_of(self, seed: int) -> Drawn:
        """The words of the picture with `seed`."""
        return self.words[seed - self.seeds[0]]

    def latent_shape(self) -> tuple[int, int, int]:
        """(C, h, w) of one picture's latents."""
        config, request = self.parts.spec.autoencoder, self.request
        assert request.width is not None and request.height is not None
        return config.latent_channels, request.height // config.downscale, request.width // config.downscale


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

    @property
    def last(self) -> bool:
        """Whether the pictures with these seeds are finished; then there is a `result`."""
        return self.next_sigma == 0

    def preview(self, picture: int = 0) -> Image.Image:
        """What picture `picture` of the batch looks like so far: `denoised`, decoded."""
        return decode_latents(self.job.parts, self.denoised[picture : picture + 1])[0].image

    @cached_property
    def result(self) -> Result:
        """The finished pictures. Only the last step of each batch has them.

        Raises:
            NonFiniteError: the network gave NaN or infinity.
        """
        if not self.last:
            raise ValueError(f"step {self.index + 1} of {self.steps} has no result yet; the last one has")
        _check_finite(self.latents, self.job.parts)
        pictures = decode_latents(self.job.parts, self.latents)
        seconds = time.perf_counter() - self.started
        words = [self.job.words_of(seed) for seed in self.seeds]
        return Result.of(self.job.parts, self.job.request, pictures, self.seeds, words, self.chosen, seconds)


def batch_size(parts: LoadedModel, request: Request) -> int:
    """How many pictures are computed together: one on the CPU, so that each is the same in any company."""
    if parts.device.type == "cpu" or (request.sampler and find_sampler(request.sampler).one_at_a_time):
        return 1
    unit = parts.spec.autoencoder.downscale
    assert request.width is not None and request.height is not None
    return max(1, min(_MOST_AT_ONCE, _LATENT_PIXELS_AT_ONCE * unit**2 // (request.width * request.height)))


@torch.inference_mode()
def prepare(parts: LoadedModel, request: Request) -> Job:
    """Make `request` ready for a model: fill it in, encode its words, choose its noise levels.

    Raises:
        InputError: the request does not fit the model.
    """
    request = request.resolved(parts.spec)
    assert request.spacing is not None and request.sampler is not None
    schedule = make_schedule(**asdict(parts.spec.schedule))
    discard = find_sampler(request.sampler).discards_penultimate and schedule.coordinates == "sigma"
    spacing = SpacingOptions(request.rho, request.sigma_min, request.sigma_max, discard)
    sigmas = spaced_sigmas(request.spacing, request.steps, schedule, spacing)
    source = WordSource(request)
    assert request.seed is not None
    words = tuple(source.drawn(seed) for seed in range(request.seed, request.seed + request.count))
    denoise, chosen = denoiser_for(parts, request, words[0], schedule, sigmas)
    return Job(parts, request, schedule, sigmas, denoise, words, chosen)


def denoiser_for(
    parts: LoadedModel, request: Request, drawn: Drawn, schedule: NoiseSchedule, sigmas: Tensor
) -> tuple[Denoiser, Chosen]:
    """The denoiser of a resolved request for pictures of these words, and the adapters that it works with.

    Raises:
        InputError: words or an adapter that do not fit the model.
        DamagedFileError: an adapter that cannot be used.
    """
    chosen = choose(parts, wishes_of(request, drawn))
    with adapted(parts, chosen) as embeddings:
        plan = plan_request(parts, request, drawn, embeddings)
        denoise = guided_denoiser(parts, request, plan, schedule, sigmas)
    return adapted_denoiser(parts, chosen, denoise), chosen


def run(job: Job) -> Iterator[GenerationStep]:
    """The steps of all pictures, batch after batch. To cancel, stop iterating."""
    for seeds in job.groups():
        yield from _draw(job, seeds)


@torch.inference_mode()
def _draw(job: Job, seeds: range) -> Iterator[GenerationStep]:
    started = time.perf_counter()
    request = job.request
    assert request.sampler is not None
    noise = PictureNoise(seeds)
    drawn, denoise, chosen = job.words_of(seeds[0]), job.denoise, job.chosen
    if drawn != job.words[0]:
        denoise, chosen = denoiser_for(job.parts, request, drawn, job.schedule, job.sigmas)
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
    count = len(job.sigmas) - 1
    for step in sampler(denoise, starting_latents(job, noise), job.sigmas, noise, options):
        # A sampler that chooses its own levels may take more steps than were asked for, or fewer.
        place = job, step.index, max(count, step.index + 1), step.sigma, step.next_sigma
        yield GenerationStep(*place, step.x, step.denoised, seeds, chosen, started)


def starting_latents(job: Job, noise: PictureNoise) -> Tensor:
    """Where a picture made from words alone begins: latents (B, C, h, w) that the network sees as noise itself."""
    drawn = noise.draw(job.latent_shape()).to(job.parts.device)
    return find_prediction(job.parts.spec.prediction).start(drawn, job.sigmas[0])


def _check_finite(latents: Tensor, parts: LoadedModel) -> None:
    if not bool(torch.isfinite(latents).all()):
        hint = "" if parts.dtype == torch.float32 else f"; {parts.dtype} may be too narrow: load the model in float32"
        raise NonFiniteError(f"the U-Net gave NaN or infinity{hint}")


def collect(steps: Iterator[GenerationStep]) -> Result:
    """Run to the end and join the results of all batches."""
    return Result.join([step.result for step in steps if step.last])
