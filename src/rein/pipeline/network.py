"""The denoiser of a request: the U-Net asked with all of its words, and guidance made of the answers."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from rein.diffusion.guidance import guided, selected
from rein.diffusion.prediction import Denoiser, find_prediction
from rein.diffusion.schedule import NoiseSchedule
from rein.formats.checkpoint import LoadedModel
from rein.nn.clip import TextTower
from rein.nn.seamless import Axes, seamless
from rein.nn.unet import UNet
from rein.pipeline.conditioning import blank_channels
from rein.pipeline.doctor import Doctor
from rein.pipeline.prompted import PromptedNetwork
from rein.pipeline.request import Request
from rein.pipeline.words import Drawn, drawn_words
from rein.text.dialects import find_dialect
from rein.text.encode import Conditioning
from rein.text.inversion import Embedding
from rein.text.plan import EncodingOptions, PromptPlan, StepWords, encode_prompts
from rein.text.reading import Recall

_WORDS_KEPT = 8
"""Of prompts that change from step to step, what is computed of so many different words is kept."""

AESTHETIC_SCORE, NEGATIVE_AESTHETIC_SCORE = 6.0, 2.5
"""What SDXL's refiner is asked for, and away from, unless the request says otherwise."""


def plan_request(
    parts: LoadedModel,
    request: Request,
    drawn: Drawn | None = None,
    embeddings: Mapping[str, Embedding] | None = None,
    doctor: Doctor | None = None,
    known: Callable[[TextTower], Recall] | None = None,
) -> PromptPlan:
    """What guides the U-Net at each step of a resolved request.

    The prompt is alone where guidance scale 1, or a network that guides itself, never asks for the negative one.

    Args:
        drawn: the words of one picture; None draws those of the request's first.
        embeddings: learned words by name.
        doctor: remembers what had to be done otherwise.
        known: for each tower, what it has said before, with the same adapters and learned words.

    Raises:
        NonFiniteError: the text features are NaN or infinite.
        InputError: words that cannot be read or do not fit the model.
    """
    drawn = drawn or drawn_words(request)
    config = parts.spec.unet
    alone = (request.guidance_scale == 1 and request.image_guidance_scale in (None, 1)) or config.guidance_width > 0
    assert request.dialect is not None
    dialect = find_dialect(request.dialect, request.emphasis)
    options = EncodingOptions(
        dialect,
        request.clip_skip,
        embeddings or {},
        parts.spec.zero_empty_negative,
        leave_negative=alone,
        known=known,
    )
    texts = drawn.text, drawn.negative_prompt

    def encoded(towers: Sequence[TextTower]) -> PromptPlan:
        return encode_prompts(*texts, request.step_count, towers, parts.tokenizers, options)

    plan = (doctor or Doctor()).encode(parts.towers, encoded)

    def completed(words: Conditioning, is_negative: bool) -> Conditioning:
        sizes = _size_ids(request, config.size_ids, is_negative)
        size_ids = torch.tensor([sizes], device=words.context.device) if sizes else None
        return replace(words, pooled=words.pooled if config.pooled_width else None, size_ids=size_ids)

    return plan.map(completed)


def _size_ids(request: Request, count: int, negative: bool) -> list[float]:
    """Sizes in pixels, height first: original, crop and wanted size (SDXL); or original, crop and a score (refiner).

    Source: Podell et al. 2023, section 2.2 and appendix; nothing of a new picture is cropped unless asked for.
    """
    if not count:
        return []
    assert request.width is not None and request.height is not None
    original = request.original_size or (request.width, request.height)
    target = request.target_size or (request.width, request.height)
    sizes = [original[1], original[0], request.crop[1], request.crop[0]]
    if count == 6:
        return [float(size) for size in (*sizes, target[1], target[0])]
    asked, default = request.aesthetic_score, AESTHETIC_SCORE
    if negative:
        asked, default = request.negative_aesthetic_score, NEGATIVE_AESTHETIC_SCORE
    return [float(size) for size in sizes] + [default if asked is None else asked]


class _Answers:
    """The U-Net asked with several rows of words: (x (B, C, h, w), sigma ()) -> one x0 (B, C, h, w) for each row.

    Rows with as many tokens are asked in one pass, which is faster than several (measured). A context that is repeated
    whole gives the same attention, so a row whose length divides the longest joins that pass.
    """

    def __init__(self, rows: Sequence[Conditioning], network: Callable[[Conditioning], PromptedNetwork]) -> None:
        longest = max(row.context.shape[1] for row in rows)
        groups: dict[int, list[int]] = {}
        for place, row in enumerate(rows):
            length = row.context.shape[1]
            groups.setdefault(length if longest % length else longest, []).append(place)
        self._count = len(rows)
        self._passes = [
            (places, network(Conditioning.cat([_lengthened(rows[place], length) for place in places])))
            for length, places in groups.items()
        ]

    def __call__(self, x: Tensor, sigma: Tensor) -> list[Tensor]:
        answers: list[Tensor] = [x] * self._count
        for places, network in self._passes:
            together = network(torch.cat([x] * len(places)), sigma)
            for place, answer in zip(places, together.chunk(len(places)), strict=True):
                answers[place] = answer
        return answers


def _lengthened(words: Conditioning, length: int) -> Conditioning:
    times = length // words.context.shape[1]
    return words if times == 1 else replace(words, context=words.context.repeat(1, times, 1))


def guided_denoiser(
    parts: LoadedModel,
    request: Request,
    plan: PromptPlan,
    schedule: NoiseSchedule,
    sigmas: Tensor,
    extra: Tensor | None = None,
    doctor: Doctor | None = None,
) -> Denoiser:
    """The denoiser of a request: the U-Net with the words of every step, guidance, and edges that meet if asked for.

    Args:
        plan: one `StepWords` for each noise level of `sigmas` but the last; a level between two belongs to the noisier.
        extra: (1, C, h, w), what families with more channels than the latents see in them; None shows them nothing.
        doctor: looks after answers that are not finite.
    """
    unit = parts.spec.autoencoder.downscale
    assert request.width is not None and request.height is not None
    if extra is None:
        extra = blank_channels(parts, request.height // unit, request.width // unit)
    if extra is not None:
        plan = plan.map(lambda words, _: replace(words, extra=extra))
    scale = request.guidance_scale if parts.spec.unet.guidance_width else None
    guiding = request if scale is None else request.replace(guidance_scale=1.0)  # else it would be guided twice

    def network(words: Conditioning) -> PromptedNetwork:
        return PromptedNetwork(parts, words, schedule, sigmas, scale, doctor)

    def denoiser(words: StepWords) -> Denoiser:
        return _step_denoiser(words, network, guiding, parts.spec.prediction)

    if plan.constant:
        return _seamless(parts.unet, request.seamless, denoiser(plan.steps[0]))
    levels = [-float(sigma) for sigma in sigmas[:-1]]
    kept: dict[int, Denoiser] = {}

    def at(sigma: Tensor) -> Denoiser:
        step = max(0, bisect_right(levels, -float(sigma)) - 1)
        words = plan.steps[min(step, len(plan.steps) - 1)]
        if id(words) not in kept:
            if len(kept) == _WORDS_KEPT:
                del kept[next(iter(kept))]
            kept[id(words)] = denoiser(words)
        return kept[id(words)]

    return _seamless(parts.unet, request.seamless, selected(at, at(sigmas[0])))


def _seamless(unet: UNet, axes: Axes, denoise: Denoiser) -> Denoiser:
    return denoise if axes == "none" else selected(lambda sigma: denoise, denoise, lambda: seamless(unet, axes))


def _step_denoiser(
    words: StepWords, network: Callable[[Conditioning], PromptedNetwork], request: Request, prediction: str
) -> Denoiser:
    """The guided denoiser of fixed words.

    Parts joined by AND go from the negative prompt's answer u to u + sum of w_i (c_i - u), the sum of their directions
    (Liu et al. 2022, eq. 11), and guidance goes on from there. A model that edits pictures goes from its answer without
    words and picture e(0, 0) to e + s_I (e(c_I, 0) - e) + s_T (e(c_I, c_T) - e(c_I, 0)) (Brooks et al. 2023, eq. 3).
    """
    if words.unwanted is None:
        return network(words.wanted[0][0])
    # A model that edits pictures is asked a third time, without its picture.
    keep = request.image_guidance_scale
    blind = None if keep is None else _without_picture(words.unwanted)
    answers = _Answers(words.rows if blind is None else (*words.rows, blind), network)

    def pair(x: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        unwanted, *parts = answers(x, sigma)
        bare = unwanted if blind is None else parts.pop()
        wanted = parts[0]
        if not words.simple:
            wanted = unwanted
            for part, (_, weight) in zip(parts, words.wanted, strict=True):
                wanted = wanted + weight * (part - unwanted)
        if keep is None:
            return wanted, unwanted
        base = bare + keep * (unwanted - bare)
        return base + (wanted - unwanted), base

    alone: list[PromptedNetwork] = []  # made when it is asked for, which only a guidance interval does

    def conditional(x: Tensor, sigma: Tensor) -> Tensor:
        if not words.simple or keep not in (None, 1):
            return pair(x, sigma)[0]
        if not alone:
            alone.append(network(words.wanted[0][0]))
        return alone[0](x, sigma)

    assert request.guidance_scale is not None
    return guided(
        pair,
        conditional,
        request.guidance_scale,
        request.guidance_rescale,
        request.guidance_interval,
        find_prediction(prediction),
    )


def _without_picture(words: Conditioning) -> Conditioning:
    assert words.extra is not None
    return replace(words, extra=torch.zeros_like(words.extra))
