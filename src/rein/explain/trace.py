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

from rein.diffusion.masking import MaskedDenoiser
from rein.diffusion.prediction import find_prediction
from rein.errors import InputError, ReinError
from rein.explain.given import Beginning, LayerChange, beginning_of, layer_changes
from rein.explain.heatmaps import HeatMaps
from rein.explain.observe import Observer, wait_for
from rein.explain.records import StepNumbers, StepRecord, guidance_of
from rein.explain.words import TowerWatch, Words
from rein.pipeline.generate import GenerationStep, run
from rein.pipeline.job import Job, prepare
from rein.pipeline.model import Model, load
from rein.pipeline.request import Request
from rein.pipeline.result import Result
from rein.text.dialects import find_dialect

STEPS_KEPT = 48
"""Of longer runs the tensors of so many steps are kept, at equal distances; the numbers of all."""

_BYTES_KEPT = 256 * 2**20
"""Of very large pictures fewer: their tensors take at most so much memory."""

_TENSORS_OF_A_STEP = 5


@dataclass(eq=False)
class Explanation:
    """A request made ready to be drawn and explained. Iterate over it for its steps; each iteration draws anew.

    Fields:
        model: that draws.
        words: tokens and text towers.
        maps: heat maps of the steps so far, of each part of the prompt that AND joins.
        kept: the steps so far; of a long run at most `STEPS_KEPT`, without their attention.
        numbers: all steps so far, without tensors' values.
    """

    model: Model
    words: Words
    _job: Job
    maps: tuple[HeatMaps, ...] = ()
    kept: list[StepRecord] = field(default_factory=list)
    numbers: list[StepNumbers] = field(default_factory=list)
    _result: Result | None = None

    @property
    def request(self) -> Request:
        """The request with nothing left open."""
        return self._job.request

    @property
    def heat_maps(self) -> HeatMaps:
        """Heat maps of the prompt; of several parts joined by AND, those of the first."""
        return self.maps[0]

    @property
    def sigmas(self) -> Tensor:
        """The noise levels that are visited, (steps + 1,), descending to 0."""
        return self._job.sigmas

    @cached_property
    def beginning(self) -> Beginning:
        """What was given besides words and noise, and where it made the picture begin."""
        return beginning_of(self._job)

    @cached_property
    def adapters(self) -> tuple[LayerChange, ...]:
        """How much the adapters of the request change each layer, the most changed first."""
        return layer_changes(self.model.parts, self._job.chosen.uses)

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """(C, h, w)."""
        return self._job.latent_shape()

    @property
    def notes(self) -> tuple[str, ...]:
        """What did not go as asked, one line each: of adapters, of learned words, of the drawing."""
        drawn = () if self._result is None else self._result.notes.get(self._result.seeds[0], ())
        return tuple(dict.fromkeys((*self.model.parts.notes, *self._job.chosen.notes, *drawn)))

    @cached_property
    def curve(self) -> tuple[list[float], list[float]]:
        """Timesteps and noise levels of the model's whole schedule, 200 of them, noisiest first."""
        schedule = self._job.schedule
        ends = schedule.timestep(torch.tensor([schedule.sigma_max, schedule.sigma_min], dtype=torch.float64).float())
        times = torch.linspace(float(ends[0]), float(ends[1]), 200)
        return times.tolist(), schedule.sigma(times).tolist()

    @property
    def left_out(self) -> list[tuple[float, float]]:
        """Timestep and noise level of each step that a picture to start from makes needless."""
        levels = self.beginning.left_out
        return [(float(self._job.schedule.timestep(torch.tensor(sigma))), sigma) for sigma in levels]

    @property
    def noise(self) -> Tensor:
        """What the network saw first, in its own units: for a picture from words alone, noise of unit variance.

        Of a picture to start from it is the sum of that and noise.
        """
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
        parts = self.words.parts
        assert self.request.dialect is not None
        repeats = find_dialect(self.request.dialect, self.request.emphasis).fill == "none"
        length = max(len(part.tokens) for part in parts) if repeats else None
        self.maps = tuple(HeatMaps(part.groups(), count, place, length) for place, part in enumerate(parts))
        self.kept, self.numbers, self._result = [], [], None
        before: Tensor | None = None
        for record in self._records():
            for maps in self.maps:
                maps.add(record.index, record.steps, record.attention)
            self.numbers.append(StepNumbers.of(record, before))
            before = record.denoised
            if record.index in chosen:
                self.kept.append(replace(record, attention=()))
            yield record

    def _records(self) -> Iterator[StepRecord]:
        """The pipeline's own loop, watched while it computes and left alone while the caller looks."""
        _, height, width = self.latent_shape
        denoise = self._job.denoise
        observer = Observer(
            self.model.parts,
            (height, width),
            self.words.weights,
            self.request.image_guidance_scale,
            denoise.kept if isinstance(denoise, MaskedDenoiser) else None,
        )
        loop = run(replace(self._job, denoise=observer.around(denoise)))
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
            guidance=guidance_of(first, before),
            evaluations=len(observer.evaluations),
            seconds=max(seconds - observer.overhead, 0.0),
            attention=observer.attention,
        )


def explain(prompt: str | Request, model: Model | str | None = None, **options: object) -> Explanation:
    """Draw a picture and note everything that happens on the way.

    Args:
        prompt: what it should show, or a whole request; its `count` must be 1.
        model: a loaded one, or what `rein.load` takes; None is the embedded one.
        options: fields of `Request`.

    Raises:
        InputError: an option that is unknown, out of its range or not for this model; a model without text tower; a
            picture of several passes.
        DamagedFileError: the model's files cannot be read.
    """
    if isinstance(prompt, Request):
        request = prompt.replace(**options)
    else:
        request = Request.model_validate({"prompt": prompt, **options})
    if request.count != 1:
        raise InputError(f"count is {request.count}: one picture is explained at a time; leave it out")
    loaded = model if isinstance(model, Model) else load(model)
    if not loaded.parts.towers:
        raise InputError(f"model {loaded.name!r} has no text tower: there are no words to explain")
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
