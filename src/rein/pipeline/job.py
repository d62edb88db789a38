"""A request made ready for the loop: everything that differs between kinds of pictures is settled here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace

import torch
from torch import Tensor

from rein.diffusion.masking import Mask, masked
from rein.diffusion.noise import PictureNoise
from rein.diffusion.prediction import Denoiser, find_prediction
from rein.diffusion.samplers import find_sampler
from rein.diffusion.schedule import NoiseSchedule, make_schedule
from rein.diffusion.spacing import SpacingOptions, spaced_sigmas
from rein.formats.checkpoint import LoadedModel
from rein.image_files import picture_digest
from rein.pipeline.adapters import Chosen, adapted, adapted_denoiser, choose, wishes_of
from rein.pipeline.doctor import Doctor
from rein.pipeline.inputs import Given, Inputs, prepare_inputs
from rein.pipeline.memo import Memo
from rein.pipeline.network import guided_denoiser, plan_request
from rein.pipeline.noise import first_noise
from rein.pipeline.passes import Pass, passes_of
from rein.pipeline.refiner import refined
from rein.pipeline.request import Request
from rein.pipeline.words import Drawn, WordSource

_LATENT_PIXELS_AT_ONCE = 8 * 128 * 128
"""On other devices than the CPU: eight SDXL pictures, thirty-two of SD1.5, 2048 of the embedded model."""

_MOST_AT_ONCE = 64

PICTURES = ("init_image", "mask", "depth_image")
"""Fields of a request that are pictures."""


@dataclass(frozen=True, eq=False)
class Job:
    """A request made ready for the loop: every choice is made, words are encoded, nothing is drawn yet.

    Fields:
        sigmas: the levels that are visited: fewer than the request's steps where a picture is the start.
        denoise, chosen: for the words of the first picture, the network and what is added to it; where wildcards give
            others other words, theirs are made later.
        words: of each picture, in the order of `seeds`.
        inputs: what the pictures begin with.
        passes: of each picture, where there are several; the rest is then that of the first.
        all_sigmas: also the levels that are not visited; None where all are.
        doctor: what looks after answers that are not finite.
        memo: what its pictures and passes have in common.
        digests: SHA-256 of the pictures that the request begins with, by field.
        opening: of work in several passes, the first one of the first picture.
    """

    parts: LoadedModel
    request: Request
    schedule: NoiseSchedule
    sigmas: Tensor
    denoise: Denoiser
    words: tuple[Drawn, ...]
    chosen: Chosen
    inputs: Inputs = field(default_factory=Inputs)
    passes: tuple[Pass, ...] = ()
    all_sigmas: Tensor | None = None
    doctor: Doctor = field(default_factory=Doctor)
    memo: Memo = field(default_factory=Memo)
    digests: Mapping[str, str] = field(default_factory=dict)
    opening: Job | None = None

    @property
    def seeds(self) -> range:
        """The seed of each picture."""
        assert self.request.seed is not None
        return range(self.request.seed, self.request.seed + self.request.count)

    def groups(self) -> Iterator[range]:
        """Seeds of the pictures that are computed together: neighbours with the same words."""
        size = 1 if self.passes else batch_size(self.parts, self.request)
        first = 0
        for place in range(1, len(self.seeds) + 1):
            if place == len(self.seeds) or place - first == size or self.words[place] != self.words[first]:
                yield self.seeds[first:place]
                first = place

    def words_of(self, seed: int) -> Drawn:
        """The words of the picture with `seed`."""
        return self.words[seed - self.seeds[0]]

    def denoiser(self, seed: int) -> tuple[Denoiser, Chosen]:
        """What draws the picture with `seed`, whose words may be its own. Raises as `prepare`."""
        drawn = self.words_of(seed)
        if drawn == self.words[0]:
            return self.denoise, self.chosen
        sigmas = self.sigmas if self.all_sigmas is None else self.all_sigmas
        inputs, doctor = self.inputs, self.doctor
        return denoiser_for(self.parts, self.request, drawn, self.schedule, sigmas, inputs, doctor, self.memo)

    def latent_shape(self) -> tuple[int, int, int]:
        """(C, h, w) of one picture's latents."""
        config, request = self.parts.spec.autoencoder, self.request
        assert request.width is not None and request.height is not None
        return config.latent_channels, request.height // config.downscale, request.width // config.downscale

    def picture_size(self) -> tuple[int, int]:
        """(width, height) in pixels of the finished pictures."""
        if self.inputs.overlay is not None and not self.passes:
            return self.inputs.overlay.source.size
        request = self.request if self.request.outpaint is not None or not self.passes else self.passes[-1].request
        assert request.width is not None and request.height is not None
        return request.width, request.height


def batch_size(parts: LoadedModel, request: Request) -> int:
    """How many pictures are computed together: one on the CPU, so that each is the same in any company."""
    if parts.device.type == "cpu" or (request.sampler and find_sampler(request.sampler).one_at_a_time):
        return 1
    unit = parts.spec.autoencoder.downscale
    assert request.width is not None and request.height is not None
    return max(1, min(_MOST_AT_ONCE, _LATENT_PIXELS_AT_ONCE * unit**2 // (request.width * request.height)))


def prepare(parts: LoadedModel, request: Request, memo: Memo | None = None) -> Job:
    """Make `request` ready for a model: fill it in, read its pictures, encode its words, choose its noise levels.

    `memo` is what other jobs for the same model may have in common with this one.

    Raises:
        InputError: the request does not fit the model; a picture that cannot be read.
    """
    request = request.resolved(parts.spec)
    passes = passes_of(request, parts.spec)
    first = prepare_pass(parts, passes[0].request, passes[0].given(None), memo)
    # Now, since the file may be another one when the pictures are finished, or none.
    given = {name: getattr(request, name) for name in PICTURES if getattr(request, name) is not None}
    digests = {name: picture_digest(source) for name, source in given.items()}
    if passes[0].request == request:
        return replace(first, digests=digests)
    whole = replace(first, request=request, words=_words(request), passes=tuple(passes))
    return replace(whole, digests=digests, opening=first)


@torch.inference_mode()
def prepare_pass(parts: LoadedModel, request: Request, given: Given | None, memo: Memo | None = None) -> Job:
    """A resolved request of a single pass, made ready."""
    assert request.spacing is not None and request.sampler is not None
    schedule = make_schedule(**asdict(parts.spec.schedule))
    discard = find_sampler(request.sampler).discards_penultimate and schedule.coordinates == "sigma"
    spacing = SpacingOptions(request.rho, request.sigma_min, request.sigma_max, discard)
    sigmas = spaced_sigmas(request.spacing, request.step_count, schedule, spacing)
    words = _words(request)
    doctor, memo = Doctor(), memo or Memo()
    inputs = prepare_inputs(parts, request, given, memo)
    denoise, chosen = denoiser_for(parts, request, words[0], schedule, sigmas, inputs, doctor, memo)
    visits = visited(sigmas, request)
    return Job(parts, request, schedule, visits, denoise, words, chosen, inputs, (), sigmas, doctor, memo)


def _words(request: Request) -> tuple[Drawn, ...]:
    source = WordSource(request)
    assert request.seed is not None
    return tuple(source.drawn(seed) for seed in range(request.seed, request.seed + request.count))


def visited(sigmas: Tensor, request: Request) -> Tensor:
    """The levels after those that a picture to start from makes needless: `strength` of them, rounded down.

    At least one is left unless the strength is 0, which leaves none.
    """
    if request.init_image is None or request.strength is None:
        return sigmas
    steps = len(sigmas) - 1
    count = max(int(steps * request.strength + 1e-9), 1) if request.strength > 0 else 0
    return sigmas[steps - count :]


def denoiser_for(
    parts: LoadedModel,
    request: Request,
    drawn: Drawn,
    schedule: NoiseSchedule,
    sigmas: Tensor,
    inputs: Inputs,
    doctor: Doctor,
    memo: Memo | None = None,
) -> tuple[Denoiser, Chosen]:
    """The denoiser of a resolved request for pictures of these words, and the adapters that it works with.

    Raises:
        InputError: words or an adapter that do not fit the model.
        DamagedFileError: an adapter that cannot be used.
    """
    chosen, memo = choose(parts, wishes_of(request, drawn)), memo or Memo()
    with adapted(parts, chosen) as embeddings:
        plan = plan_request(parts, request, drawn, embeddings, doctor, memo.reader(chosen))
        denoise = guided_denoiser(parts, request, plan, schedule, sigmas, inputs.extra, doctor)
    denoise = adapted_denoiser(parts, chosen, denoise)
    denoise = refined(parts, request, drawn, schedule, sigmas, denoise, doctor, memo)
    if inputs.mask is not None and inputs.latents is not None:
        levels = tuple(visited(sigmas, request)[:-1].tolist()) if request.soft_mask else ()
        denoise = masked(denoise, inputs.latents, Mask(inputs.mask, levels))
    return denoise, chosen


def starting_latents(job: Job, noise: PictureNoise) -> Tensor:
    """Where the pictures begin, (B, C, h, w): latents that the network sees as noise itself, or a picture under noise.

    Of a masked picture the painted part may begin with other noise, or with none of the picture.
    """
    inputs, request = job.inputs, job.request
    drawn = first_noise(request, noise, job.latent_shape()).to(job.parts.device)
    sigma = job.sigmas[0]
    if inputs.latents is None or (inputs.fresh and len(job.sigmas) > 1):
        return find_prediction(job.parts.spec.prediction).start(drawn, sigma)
    begun = inputs.latents.expand_as(drawn)
    if inputs.mask is not None and request.masked_content in ("noise", "nothing"):
        content = drawn if request.masked_content == "noise" else torch.zeros_like(drawn)
        begun = begun * (1 - inputs.mask) + content * inputs.mask
    return begun + drawn * sigma
