"""One picture, explained: the same request through the same loop as `Model.generate`, with everything noted on the way.

    explanation = rein.explain("a red apple, flat style", seed=7)
    for step in explanation:
        print(step.index, step.sigma, step.guidance.size)
    explanation.heat_maps.mean()        # (groups of tokens, height, width)
    explanation.result.images[0]        # byte for byte what `rein.load().generate` draws

Shapes: latents (C, h, w), one picture.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from torch import Tensor

from rein.diffusion.prediction import find_prediction
from rein.errors import InputError, ReinError
from rein.explain.heatmaps import HeatMaps, LayerMaps
from rein.explain.observe import Evaluation, Observer, wait_for
from rein.explain.words import TowerWatch, Words
from rein.pipeline.generate import GenerationStep, run
from rein.pipeline.job import Job, prepare
from rein.pipeline.model import Model, load
from rein.pipeline.request import Request
from rein.pipeline.result import Result

STEPS_KEPT = 48
"""Of longer runs the tensors of so many steps are kept, at equal distances; the numbers of all."""

_BYTES_KEPT = 256 * 2**20
"""Of very large pictures fewer: their tensors take at most so much memory."""

_TENSORS_OF_A_STEP = 5


@dataclass(frozen=True)
class Guidance:
    """What guidance added to the words' own answer at one step.

    Fields:
        size: length of what was added, relative to the length of the words' answer; 0 is nothing.
        apart: how far the answers with and without words are apart, relative to the former.
        turn: cosine between what was added at this step and at the one before, 1 being the same direction; None at the
            first step, and where nothing was added.
    """

    size: float
    apart: float
    turn: float | None


@dataclass(frozen=True, eq=False)
class StepRecord:
    """One step.

    Fields:
        index, steps: which, from 0, of how many.
        sigma, next_sigma: noise levels before and after it; timestep: how the network is told the first.
        before, latents: (C, h, w), before and after the step.
        denoised: the finished picture as the network, guided, saw it at this step, (C, h, w).
        wanted, unwanted: its answers with the words, and with the negative or empty prompt (None if not asked).
        guidance: what guidance did, in numbers; None where it did not act.
        evaluations: how often the denoiser was asked.
        seconds: wall time of the step, without the time for looking.
        attention: where each token was looked at, layer by layer.
    """

    index: int
    steps: int
    sigma: float
    next_sigma: float
    timestep: float
    before: Tensor
    latents: Tensor
    denoised: Tensor
    wanted: Tensor
    unwanted: Tensor | None
    guidance: Guidance | None
    evaluations: int
    seconds: float
    attention: tuple[LayerMaps, ...] = ()

    @property
    def added(self) -> Tensor:
        """What guidance added to the answer with the words, (C, h, w)."""
        return self.denoised - self.wanted


@dataclass(eq=False)
class Explanation:
    """A request made ready to be drawn and explained. Iterate over it for its steps; each iteration draws anew.

    Fields:
        model: that draws.
        words: tokens and text towers.
        heat_maps: of the steps so far.
        kept: the steps so far; of a long run at most `STEPS_KEPT`, without their attention.
        numbers: all steps so far, without tensors' values.
    """

    model: Model
    words: Words
    _job: Job
    heat_maps: HeatMaps = field(init=False)
    kept: list[StepRecord] = field(default_factory=list)
    numbers: list[StepNumbers] = field(default_factory=list)
    _result: Result | None = None

    @property
    def request(self) -> Request:
        """The request with nothing left open."""
        return self._job.request

    @property
    def sigmas(self) -> Tensor:
        """The noise levels, (steps + 1,), descending to 0."""
        return self._job.sigmas

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """(C, h, w)."""
        return self._job.latent_shape()

    @cached_property
    def curve(self) -> tuple[list[float], list[float]]:
        """Timesteps and noise levels of the model's whole schedule, 200 of them, noisiest first."""
        schedule = self._job.schedule
        ends = schedule.timestep(torch.tensor([schedule.sigma_max, schedule.sigma_min], dtype=torch.float64).float())
        times = torch.linspace(float(ends[0]), float(ends[1]), 200)
        return times.tolist(), schedule.sigma(times).tolist()

    @property
    def noise(self) -> Tensor:
        """What the network saw first, in its own units: for a picture from words alone, noise of unit variance."""
        first = self.kept[0]
        prediction = find_prediction(self.model.spec.prediction)
        return prediction.network_input(first.before, torch.tensor(first.sigma))

    @property
    def result(self) -> Result:
        """The finished picture. Iterate to the end first.

        Raises:
            ReinError: it is not finished.
        """
        if self._result is None:
            raise ReinError("the picture is not finished: iterate over the explanation to its end first")
        return self._result

    def finish(self) -> Explanation:
        """Draw to the end, and return itself."""
        for _ in self:
            pass
        return self

    def __iter__(self) -> Iterator[StepRecord]:
        steps = len(self.sigmas) - 1
        count = min(steps, STEPS_KEPT, max(2, _BYTES_KEPT // (_TENSORS_OF_A_STEP * 4 * math.prod(self.latent_shape))))
        chosen = {round(place * (steps - 1) / max(count - 1, 1)) for place in range(count)}
        self.heat_maps = HeatMaps(self.words.groups(), count)
        self.kept, self.numbers, self._result = [], [], None
        before: Tensor | None = None
        for record in self._records():
            self.heat_maps.add(record.index, record.steps, record.attention)
            self.numbers.append(StepNumbers.of(record, before))
            before = record.denoised
            if record.index in chosen:
                self.kept.append(replace(record, attention=()))
            yield record

    def _records(self) -> Iterator[StepRecord]:
        """The pipeline's own loop, watched while it computes and left alone while the caller looks."""
        _, height, width = self.latent_shape
        assert self.request.guidance_scale is not None
        weights = {reading.part: reading.weight for reading in self.words.readings}
        observer = Observer(
            self.model.parts,
            (height, width),
            self.request.guidance_scale,
            tuple(weights[part] for part in sorted(weights)),
        )
        loop = run(replace(self._job, denoise=observer.around(self._job.denoise)))
        before: Tensor | None = None
        while True:
            began = time.perf_counter()
            with observer.watching():
                step = next(loop, None)
                wait_for(self.model.device)
            if step is None:
                return
            record = self._record(step, observer, before, time.perf_counter() - began)
            before = record.added if record.guidance is not None else None
            if step.last:
                self._result = step.result
            yield record

    def _record(self, step: GenerationStep, observer: Observer, before: Tensor | None, seconds: float) -> StepRecord:
        first = observer.evaluations[0]
        return StepRecord(
            index=step.index,
            steps=step.steps,
            sigma=step.sigma,
            next_sigma=step.next_sigma,
            timestep=float(self._job.schedule.timestep(torch.tensor(step.sigma))),
            before=first.x,
            latents=step.latents[0].detach().to("cpu", torch.float32, copy=True),
            denoised=first.denoised,
            wanted=first.wanted,
            unwanted=first.unwanted,
            guidance=_guidance(first, before),
            evaluations=len(observer.evaluations),
            seconds=max(seconds - observer.overhead, 0.0),
            attention=tuple(observer.attention),
        )


@dataclass(frozen=True)
class StepNumbers:
    """A step without its tensors: what is kept of every step of a run of any length."""

    index: int
    sigma: float
    next_sigma: float
    timestep: float
    guidance: Guidance | None
    evaluations: int
    seconds: float
    change: float | None
    """How far the finished picture, as the network sees it, moved since the step before, relative to its length."""

    @classmethod
    def of(cls, record: StepRecord, before: Tensor | None) -> StepNumbers:
        """The numbers of a record; `before` is the `denoised` of the step before."""
        change = None
        if before is not None:
            change = _length(record.denoised - before) / max(_length(record.denoised), 1e-12)
        kept = (record.index, record.sigma, record.next_sigma, record.timestep, record.guidance, record.evaluations)
        return cls(*kept, record.seconds, change)


def explain(prompt: str | Request, model: Model | str | None = None, **options: object) -> Explanation:
    """Draw a picture and note everything that happens on the way.

    Args:
        prompt: what it should show, or a whole request; its `count` must be 1.
        model: a loaded one, or what `rein.load` takes; None is the embedded one.
        options: fields of `Request`.

    Raises:
        InputError: an option that is unknown, out of its range or not for this model.
        DamagedFileError: the model's files cannot be read.
    """
    if isinstance(prompt, Request):
        request = prompt.replace(**options)
    else:
        request = Request.model_validate({"prompt": prompt, **options})
    if request.count != 1:
        raise InputError(f"count is {request.count}: one picture is explained at a time; leave it out")
    loaded = model if isinstance(model, Model) else load(model)
    watch = TowerWatch(loaded.parts)
    with watch.watching():
        job = prepare(loaded.parts, request)
    if job.passes:
        raise InputError(
            "a picture made in several passes cannot be explained: leave out hires_scale, outpaint and loops"
        )
    if len(job.sigmas) == 1:
        raise InputError("strength is 0.0: nothing is drawn that could be explained; give more")
    return Explanation(loaded, watch.words(job), job)


def _guidance(answers: Evaluation, before: Tensor | None) -> Guidance | None:
    if answers.unwanted is None:
        return None
    length = max(_length(answers.wanted), 1e-12)
    added = answers.denoised - answers.wanted
    size = _length(added)
    turn = None
    if before is not None and size > 0 and _length(before) > 0:
        turn = float((added.double() * before.double()).sum() / (size * _length(before)))
    return Guidance(size / length, _length(answers.wanted - answers.unwanted) / length, turn)


def _length(tensor: Tensor) -> float:
    return float(tensor.double().norm())
