"""A request: everything that decides a picture, with the range of each number.

The same object is what Python, the command line and every file of settings speak: it goes to JSON and back unchanged.
"""

from __future__ import annotations

import json
import math
from typing import Annotated, Any, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    ValidationError,
    model_validator,
)

from rein.devices import MAX_SEED, fresh_seed
from rein.diffusion.samplers import SAMPLERS, find_sampler
from rein.diffusion.spacing import SPACINGS
from rein.errors import InputError, nearest, quoted
from rein.nn.specs import ModelSpec

MIN_SIDE, MAX_SIDE = 16, 4096
MAX_PROMPT = 1_000_000
MAX_STEPS = MAX_COUNT = 1000
MAX_GUIDANCE = 100.0

_side = f"a whole number of pixels from {MIN_SIDE} to {MAX_SIDE}"
_ALLOWED = {
    "prompt": f"a text of at most {MAX_PROMPT:,} characters",
    "negative_prompt": f"a text of at most {MAX_PROMPT:,} characters",
    "width": _side,
    "height": _side,
    "steps": f"a whole number from 1 to {MAX_STEPS}",
    "guidance_scale": f"a number from 0 to {MAX_GUIDANCE:g}",
    "guidance_rescale": "a number from 0 to 1",
    "guidance_interval": "two noise levels (low, high) with 0 <= low < high",
    "sampler": "the name of a sampler",
    "spacing": "the name of a spacing",
    "eta": "a number from 0 to 1",
    "seed": f"a whole number from 0 to {MAX_SEED}",
    "count": f"a whole number from 1 to {MAX_COUNT}",
}
"""What each field may be, in the words of its error message."""


def _well_formed(text: Any) -> Any:
    """Halves of a surrogate pair, which undecodable bytes on a command line become, have no place in a text."""
    if isinstance(text, str) and not text.isascii():
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def _as_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


_Text = Annotated[str, BeforeValidator(_well_formed), Field(max_length=MAX_PROMPT)]
_Side = Annotated[int, Field(ge=MIN_SIDE, le=MAX_SIDE)]
_Share = Annotated[float, Field(ge=0, le=1)]


class Request(BaseModel):
    """Every option of a picture. `None` means the model's own choice, or a fresh seed; `resolved` fills it in.

    Fields:
        prompt, negative_prompt: what the picture should show, and what it should be led away from; both may be empty.
        width, height: pixels, 16 to 4096, in multiples of the model's latent pixels (8).
        steps: noise levels visited, 1 to 1000.
        guidance_scale: 0 to 100; 1 is the prompt as it is, without the negative prompt.
        guidance_rescale: 0 to 1, see `rein.diffusion.guidance.guided`.
        guidance_interval: noise levels (low, high] between which guidance acts.
        sampler, spacing: names; a sampler's label ("Euler a") counts as its name.
        eta: 0 to 1, share of fresh noise in the samplers that read it.
        seed: 0 to 2**63 - 1; picture i of `count` has seed + i. PyTorch's generator on the CPU reads the low 32 bits
            only, so seeds that are equal modulo 2**32 give the same picture.
        count: pictures, 1 to 1000.

    Raises:
        InputError: in one line, which field, its value and what is allowed.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    prompt: _Text
    negative_prompt: _Text = ""
    width: _Side | None = None
    height: _Side | None = None
    steps: Annotated[int, Field(ge=1, le=MAX_STEPS)] = 20
    guidance_scale: Annotated[float, Field(ge=0, le=MAX_GUIDANCE)] | None = None
    guidance_rescale: _Share = 0.0
    guidance_interval: Annotated[tuple[float, float], BeforeValidator(_as_tuple)] | None = None
    sampler: str | None = None
    spacing: str | None = None
    eta: _Share | None = None
    seed: Annotated[int, Field(ge=0, le=MAX_SEED)] | None = None
    count: Annotated[int, Field(ge=1, le=MAX_COUNT)] = 1

    @model_validator(mode="wrap")
    @classmethod
    def _one_line(cls, data: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        try:
            request = handler(data)
        except ValidationError as error:
            raise InputError(_message(error)) from None
        request._check()
        return request

    def _check(self) -> None:
        """What a single field does not show; the sampler's and the spacing's names."""
        if self.sampler is not None:
            find_sampler(self.sampler)
        if self.spacing is not None:
            find_spacing(self.spacing)
        if self.guidance_interval is not None and not 0 <= self.guidance_interval[0] < self.guidance_interval[1]:
            raise InputError(_refusal("guidance_interval", self.guidance_interval))
        if self.seed is not None and self.seed + self.count - 1 > MAX_SEED:
            most = MAX_SEED + 1 - self.count
            raise InputError(f"seed is {self.seed}: with {self.count} pictures it may be at most {most}")

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
        info = find_sampler(self.sampler or spec.default_sampler)
        if self.eta is not None and not info.reads_eta:
            readers = ", ".join(name for name, other in SAMPLERS.items() if other.reads_eta)
            raise InputError(f"eta is {self.eta}: sampler {info.name!r} has none; leave it out, or use {readers}")
        # A sampler's own spacing is meant for discrete schedules; a flow keeps what it was tuned with.
        own = spec.schedule.kind == "flow" or info.name == find_sampler(spec.default_sampler).name
        guidance = spec.default_guidance if self.guidance_scale is None else self.guidance_scale
        return self.replace(
            width=_fitting(self.width, "width", spec),
            height=_fitting(self.height, "height", spec),
            sampler=info.name,
            spacing=find_spacing(self.spacing or (spec.default_spacing if own else info.default_spacing)),
            guidance_scale=guidance,
            seed=fresh_seed() if self.seed is None else self.seed,
        )


def find_spacing(name: str) -> str:
    """The spacing's name for its name or label in any case. Raises `InputError` with the nearest names."""
    wanted = name.strip().lower()
    if wanted not in SPACINGS:
        raise InputError(f"unknown spacing {quoted(name)}: {nearest(wanted, SPACINGS)}")
    return wanted


def _fitting(side: int | None, name: str, spec: ModelSpec) -> int:
    unit = spec.autoencoder.downscale
    if side is None:
        return spec.native_size
    if side % unit:
        near = [size for size in (side // unit * unit, -(-side // unit) * unit) if MIN_SIDE <= size <= MAX_SIDE]
        choices = " or ".join(str(size) for size in near)
        raise InputError(f"{name} is {side}: model {spec.name!r} needs a multiple of {unit} pixels; use {choices}")
    return side


def _message(error: ValidationError) -> str:
    """The first complaint in our words."""
    detail = error.errors(include_url=False, include_context=False)[0]
    if not detail["loc"]:
        return f"a request must be an object of named fields, not {quoted(detail['input'])}"
    field = str(detail["loc"][0])
    if detail["type"] == "extra_forbidden":
        return f"unknown option {quoted(field)}: {nearest(field, _ALLOWED)}"
    if detail["type"] == "missing":
        return f"{field} is missing: it must be {_ALLOWED[field]}"
    return _refusal(field, detail["input"])


def _refusal(field: str, value: object) -> str:
    shown = quoted(value) if not isinstance(value, float) or math.isfinite(value) else str(value)
    return f"{field} is {shown}: it must be {_ALLOWED[field]}"
