"""From one picture to another: the words along a line or an arc, the noise from seed to seed.

The first frame is the first picture, the last one the other, to the byte where the sampler draws no noise on the way.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor

from rein.diffusion.interpolation import lerp, slerp
from rein.errors import InputError, quoted
from rein.formats.checkpoint import LoadedModel
from rein.pipeline.adapters import adapted, adapted_denoiser
from rein.pipeline.generate import GenerationStep, run
from rein.pipeline.job import Job, prepare
from rein.pipeline.memo import Memo
from rein.pipeline.network import guided_denoiser, plan_request
from rein.pipeline.request import Request
from rein.pipeline.words import Drawn, drawn_words
from rein.text.encode import Conditioning
from rein.text.plan import PromptPlan, StepWords

Way = Literal["line", "arc"]

MOST_FRAMES = 1000

_ALONE = ("hires_scale", "outpaint", "refiner", "mask", "variation_strength")
"""What a picture on the way cannot have; loops and counts neither."""


def shares(frames: int) -> list[float]:
    """How far each frame is from the first to the last: 0 to 1.

    Raises:
        InputError: fewer than 2 frames, or more than `MOST_FRAMES`.
    """
    if not 2 <= frames <= MOST_FRAMES:
        raise InputError(f"frames is {frames}: it must be a whole number from 2 to {MOST_FRAMES}")
    return [place / (frames - 1) for place in range(frames)]


def interpolated(
    parts: LoadedModel, start: Request, to: str, frames: int, to_seed: int | None = None, way: Way = "line"
) -> Iterator[tuple[int, GenerationStep]]:
    """The steps of every frame, with the frame's number from 0; the last step of each has its `result`.

    Args:
        start: the request of the first frame, of one picture.
        to: the prompt of the last frame.
        to_seed: its seed; None keeps that of the first. Only the first noise goes from seed to seed, as a variation
            does (`Request.variation_strength`); what a sampler adds on the way is always the first seed's.
        way: how words are mixed: along the line between their features, or along the arc of each token's.

    Raises:
        InputError: an option that frames cannot have; prompts with different adapters, or of several parts; a number
            of frames that is out of range.
    """
    places = shares(frames)
    start = start.replace(count=1).resolved(parts.spec)
    _check(start)
    other = drawn_words(start.replace(prompt=to))
    if other.networks != drawn_words(start).networks:
        raise InputError("the two prompts name different adapters in <...>: give both the same")
    return _frames(parts, start, other, places, to_seed, way)


def _check(request: Request) -> None:
    for name in _ALONE:
        if request.is_set(name):
            raise InputError(f"{name} is {quoted(getattr(request, name))}: frames between two pictures have none")
    if request.loops > 1:
        raise InputError(f"loops is {request.loops}: frames between two pictures have one pass")


def _frames(
    parts: LoadedModel, start: Request, other: Drawn, places: Sequence[float], to_seed: int | None, way: Way
) -> Iterator[tuple[int, GenerationStep]]:
    memo = Memo()
    for number, share in enumerate(places):
        request = start
        if to_seed is not None and share:
            request = start.replace(variation_seed=to_seed, variation_strength=share)
        job = prepare(parts, request, memo)
        if share and other != job.words[0]:
            job = _between(job, other, share, way)
        for step in run(job):
            yield number, step


@torch.inference_mode()
def _between(job: Job, other: Drawn, share: float, way: Way) -> Job:
    """The job with words on the way to others."""
    parts, request = job.parts, job.request
    sigmas = job.sigmas if job.all_sigmas is None else job.all_sigmas
    with adapted(parts, job.chosen) as embeddings:
        known = job.memo.reader(job.chosen)
        plans = [plan_request(parts, request, drawn, embeddings, job.doctor, known) for drawn in (job.words[0], other)]
        plan = mixed(plans[0], plans[1], share, way)
        denoise = guided_denoiser(parts, request, plan, job.schedule, sigmas, job.inputs.extra, job.doctor)
    return replace(job, denoise=adapted_denoiser(parts, job.chosen, denoise))


def mixed(first: PromptPlan, last: PromptPlan, share: float, way: Way = "line") -> PromptPlan:
    """The plan at `share` (0 to 1) of the way between two of as many steps.

    Raises:
        InputError: a prompt of several parts (AND), or weights in it.
    """
    made: dict[tuple[int, int], StepWords] = {}
    steps = []
    for one, other in zip(first.steps, last.steps, strict=True):
        key = (id(one), id(other))
        if key not in made:
            if not (one.simple and other.simple):
                raise InputError("prompts with AND cannot be mixed: give two without it")
            wanted = _mixed_words(one.wanted[0][0], other.wanted[0][0], share, way)
            unwanted = one.unwanted
            if unwanted is not None and other.unwanted is not None:
                unwanted = _mixed_words(unwanted, other.unwanted, share, way)
            made[key] = StepWords(((wanted, 1.0),), unwanted)
        steps.append(made[key])
    return PromptPlan(tuple(steps))


def _mixed_words(one: Conditioning, other: Conditioning, share: float, way: Way) -> Conditioning:
    """A context that is repeated whole gives the same attention: so two of different lengths are made equal."""
    length = math.lcm(one.context.shape[1], other.context.shape[1])
    first, last = (words.context.repeat(1, length // words.context.shape[1], 1) for words in (one, other))
    pooled = one.pooled
    if pooled is not None and other.pooled is not None:
        pooled = _mixed_tensor(pooled, other.pooled, share, way)
    return replace(one, context=_mixed_tensor(first, last, share, way), pooled=pooled)


def _mixed_tensor(one: Tensor, other: Tensor, share: float, way: Way) -> Tensor:
    """Vectors lie along the last axis. The sums are in float32, whatever the networks' number format."""
    if torch.equal(one, other):
        return one
    first, last = one.float(), other.float()
    between = lerp(first, last, share) if way == "line" else _arc(first, last, share)
    return between.to(one.dtype)


def _arc(one: Tensor, other: Tensor, share: float) -> Tensor:
    """Tokens of both texts that are alike stay so; the angle of each other one is its own."""
    lengths = [torch.linalg.vector_norm(each, dim=-1, keepdim=True) for each in (one, other)]
    if min(float(length.min()) for length in lengths) == 0:  # an empty text may be all zeros, which has no direction
        return lerp(one, other, share)
    return slerp(one, other, share, -1)


def record(start: Request, to: str, frames: int, to_seed: int | None, way: Way) -> dict[str, Any]:
    """What is written into the file of an animation or a sheet beside the first frame's settings."""
    last = start.replace(prompt=to, seed=start.seed if to_seed is None else to_seed)
    return {"interpolation": {"to": last.model_dump(mode="json"), "frames": frames, "way": way}}
