"""A request: everything that decides a picture, with the range of each number.

The same object is what Python, the command line and every file of settings speak: it goes to JSON and back unchanged.
"""

from __future__ import annotations

import json
from typing import Any, Self

from pydantic import (
    ModelWrapValidatorHandler,
    ValidationError,
    model_validator,
)

from rein.devices import fresh_seed
from rein.diffusion.samplers import SamplerInfo, choose_sampler, find_sampler
from rein.diffusion.spacing import find_spacing, plain_spacing
from rein.errors import InputError
from rein.nn.specs import ModelSpec
from rein.pipeline.checks import check_model, check_request
from rein.pipeline.fields import complaint
from rein.pipeline.request_fields import RequestFields
from rein.pipeline.sizes import picture_sides
from rein.text.dialects import find_dialect, find_emphasis


class Request(RequestFields):
    """Every option of a picture, see `RequestFields`. What is None is the model's own choice: `resolved` fills it in.

    Raises:
        InputError: in one line, which field, its value and what is allowed.
    """

    @model_validator(mode="wrap")
    @classmethod
    def _one_line(cls, data: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        try:
            request = handler(data)
        except ValidationError as error:
            raise InputError(complaint(error)) from None
        check_request(request)
        return request

    @classmethod
    def from_json(cls, text: str) -> Request:
        """The request that `to_json` wrote. Raises `InputError`."""
        try:
            data = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise InputError(f"the request is not valid JSON: {str(error)[:100]}") from error
        return cls.model_validate(data)

    def to_json(self) -> str:
        """All fields as one line of JSON."""
        return self.model_dump_json()

    def replace(self, **changes: object) -> Request:
        """A request with some fields changed, and checked. Raises `InputError`."""
        return type(self).model_validate({**self.model_dump(), **changes})

    def resolved(self, spec: ModelSpec) -> Request:
        """The request with every `None` but eta and interval filled in for a model, and checked against it.

        The seed is fresh where there is none. A resolved request resolves to itself.

        Raises:
            InputError: a size or an option that this model or sampler does not have.
        """
        choice = choose_sampler(self.sampler or spec.default_sampler)
        info = choice.info
        check_model(self, spec, info)
        width, height = picture_sides(self, spec)
        # A model with words of its own has no pictures from elsewhere to make again.
        dialect = find_dialect(self.dialect or ("a1111" if spec.vocabulary == "clip" else "rein"), self.emphasis)
        guidance = spec.default_guidance if self.guidance_scale is None else self.guidance_scale
        return self.replace(
            width=width,
            height=height,
            sampler=info.name,
            steps=self.steps or spec.default_steps,
            spacing=self._spacing(spec, info, choice.spacing),
            guidance_scale=guidance,
            seed=fresh_seed() if self.seed is None else self.seed,
            strength=self._strength(spec),
            image_guidance_scale=self._image_guidance(spec),
            variation_seed=self._variation_seed(),
            dialect=dialect.name,
            emphasis=None if self.emphasis is None else find_emphasis(self.emphasis),
        )

    @property
    def step_count(self) -> int:
        """The steps of a resolved request."""
        if self.steps is None:
            raise ValueError("the request is not resolved: its steps are the model's choice")
        return self.steps

    def _spacing(self, spec: ModelSpec, info: SamplerInfo, named: str | None) -> str:
        """The spacing's name: as asked for, as the sampler's name has it ("DPM++ 2M Karras"), or what suits both."""
        # A sampler's own spacing is meant for discrete schedules; a flow keeps what it was tuned with.
        own = spec.schedule.kind == "flow" or info.name == find_sampler(spec.default_sampler).name
        chosen = named or (spec.default_spacing if own else info.default_spacing)
        if self.spacing is not None and not is_automatic(self.spacing):
            chosen = self.spacing
        name = find_spacing(chosen).name
        # Two tables were published under one name; models that are told sizes have the second.
        return "align_your_steps_sdxl" if name == "align_your_steps" and spec.unet.size_ids else name

    def _variation_seed(self) -> int | None:
        asked = self.variation_strength and self.variation_seed is None
        return fresh_seed() if asked else self.variation_seed

    def _strength(self, spec: ModelSpec) -> float | None:
        if self.init_image is None or self.strength is not None:
            return self.strength
        return 1.0 if self.outpaint is not None or spec.form == "editing" else 0.75

    def _image_guidance(self, spec: ModelSpec) -> float | None:
        given = self.image_guidance_scale is None and self.init_image is not None
        return 1.5 if given and spec.form == "editing" else self.image_guidance_scale


def is_automatic(spacing: str) -> bool:
    """ "Automatic", as AUTOMATIC1111's web UI calls the choice of the sampler's own."""
    return plain_spacing(spacing) == "automatic"
