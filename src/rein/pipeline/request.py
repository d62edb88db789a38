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
from rein.diffusion.samplers import SAMPLERS, SamplerInfo, choose_sampler, find_sampler
from rein.diffusion.spacing import find_spacing, plain_spacing
from rein.errors import InputError, nearest, quoted
from rein.nn.specs import ModelSpec
from rein.pipeline.choices import EMBEDDINGS, LORAS, Embeddings, FilePath, Loras
from rein.text.dialects import find_dialect, find_emphasis

MIN_SIDE, MAX_SIDE = 16, 4096
MAX_PROMPT = 1_000_000
MAX_STEPS = MAX_COUNT = 1000
MAX_GUIDANCE = 100.0
MAX_CLIP_SKIP = 32
MAX_CHURN, MAX_NOISE = 1000.0, 2.0
MAX_STYLES = 32
MAX_ID = 65_536

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
    "spacing": 'the name of a spacing, or "automatic"',
    "eta": "a number from 0 to 1",
    "s_churn": f"a number from 0 to {MAX_CHURN:g}",
    "s_tmin": "a noise level of at least 0, at most s_tmax",
    "s_tmax": "a noise level of at least s_tmin",
    "s_noise": f"a number from 0 to {MAX_NOISE:g}",
    "rho": "a number above 0, at most 100",
    "sigma_min": "a noise level above 0, at most 2**20",
    "sigma_max": "a noise level above 0, at most 2**20",
    "seed": f"a whole number from 0 to {MAX_SEED}",
    "count": f"a whole number from 1 to {MAX_COUNT}",
    "dialect": "the name of a dialect of prompts",
    "emphasis": "the name of an emphasis mode",
    "clip_skip": f"a whole number from 1 to {MAX_CLIP_SKIP}",
    "styles": f"at most {MAX_STYLES} names of styles",
    "styles_file": "the path of a CSV file",
    "wildcards": "the path of a folder",
    "dynamic": "true or false",
    "original_size": f"width and height, 1 to {MAX_ID} pixels each",
    "crop": f"two numbers of pixels, left and top, 0 to {MAX_ID}",
    "target_size": f"width and height, 1 to {MAX_ID} pixels each",
    "aesthetic_score": "a number from 0 to 10",
    "negative_aesthetic_score": "a number from 0 to 10",
    "loras": LORAS,
    "lora_folder": "the path of a folder",
    "embeddings": EMBEDDINGS,
    "embedding_folder": "the path of a folder",
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
_Level = Annotated[float, Field(gt=0, le=2**20)]
_Size = Annotated[
    tuple[Annotated[int, Field(ge=1, le=MAX_ID)], Annotated[int, Field(ge=1, le=MAX_ID)]], BeforeValidator(_as_tuple)
]
_Place = Annotated[
    tuple[Annotated[int, Field(ge=0, le=MAX_ID)], Annotated[int, Field(ge=0, le=MAX_ID)]], BeforeValidator(_as_tuple)
]
_Score = Annotated[float, Field(ge=0, le=10)]
_Names = Annotated[tuple[str, ...], BeforeValidator(_as_tuple), Field(max_length=MAX_STYLES)]


class Request(BaseModel):
    """Every option of a picture. `None` means the model's own choice, or a fresh seed; `resolved` fills it in.

    Fields:
        prompt, negative_prompt: what the picture should show, and what it should be led away from; both may be empty.
        width, height: pixels, 16 to 4096, in multiples of the model's latent pixels (8).
        steps: noise levels visited, 1 to 1000.
        guidance_scale: 0 to 100; 1 is the prompt as it is, without the negative prompt.
        guidance_rescale: 0 to 1, see `rein.diffusion.guidance.guided`.
        guidance_interval: noise levels (low, high] between which guidance acts.
        sampler, spacing: names, labels ("Euler a"), names in other programs. A sampler's may hold the spacing ("DPM++
            2M Karras"); the spacing "automatic" is the sampler's own.
        eta: 0 to 1, share of fresh noise in the samplers that read it.
        s_churn, s_tmin, s_tmax, s_noise: noise added on the way, see `rein.diffusion.step.SamplerOptions`; only for the
            samplers that read them. s_tmax None is no limit.
        rho, sigma_min, sigma_max: of the spacings that read them, see `rein.diffusion.spacing.SpacingOptions`.
        seed: 0 to 2**63 - 1; picture i of `count` has seed + i. PyTorch's generator on the CPU reads the low 32 bits
            only, so seeds that are equal modulo 2**32 give the same picture.
        count: pictures, 1 to 1000.
        dialect: how the prompts are read: "rein", "a1111", "comfy" or "compel", see `rein.text.dialects`.
        emphasis: what weights do, where the dialect has modes: "original", "no_norm", "ignore" or "none".
        clip_skip: which state of the text tower is read, counted from its last, 1 to 32; never a later one than the
            model was trained with.
        styles: names of styles to add to the prompts, in order; from `styles_file` (CSV), or those of Rein.
        wildcards: folder of the files that `__name__` in a prompt draws from.
        dynamic: whether `{a|b}` and `__name__` are drawn, from each picture's seed; else they are text.
        original_size, target_size: (width, height) that SDXL is told, in pixels; None is the picture's own size.
        crop: (left, top) that SDXL is told, in pixels.
        aesthetic_score, negative_aesthetic_score: 0 to 10, what SDXL's refiner is told of prompt and negative prompt;
            None is 6 and 2.5.
        loras: adapters, each a file or (file, weight) or (file, weight, text weight), see `rein.pipeline.choices`.
        lora_folder: where `<lora:name:weight>` in the prompt finds its file.
        embeddings: files of learned words, whose names then stand for them in the prompts.
        embedding_folder: more of them, of which those are read whose names stand in a prompt.

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
    s_churn: Annotated[float, Field(ge=0, le=MAX_CHURN)] = 0.0
    s_tmin: Annotated[float, Field(ge=0)] = 0.0
    s_tmax: Annotated[float, Field(ge=0)] | None = None
    s_noise: Annotated[float, Field(ge=0, le=MAX_NOISE)] = 1.0
    rho: Annotated[float, Field(gt=0, le=100)] | None = None
    sigma_min: _Level | None = None
    sigma_max: _Level | None = None
    seed: Annotated[int, Field(ge=0, le=MAX_SEED)] | None = None
    count: Annotated[int, Field(ge=1, le=MAX_COUNT)] = 1
    dialect: str | None = None
    emphasis: str | None = None
    clip_skip: Annotated[int, Field(ge=1, le=MAX_CLIP_SKIP)] = 1
    styles: _Names = ()
    styles_file: str | None = None
    wildcards: str | None = None
    dynamic: bool = True
    original_size: _Size | None = None
    crop: _Place = (0, 0)
    target_size: _Size | None = None
    aesthetic_score: _Score | None = None
    negative_aesthetic_score: _Score | None = None
    loras: Loras = ()
    lora_folder: FilePath | None = None
    embeddings: Embeddings = ()
    embedding_folder: FilePath | None = None

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
        if self.spacing is not None and not _is_automatic(self.spacing):
            find_spacing(self.spacing)
        if self.dialect is not None:
            find_dialect(self.dialect, self.emphasis)
        elif self.emphasis is not None:
            find_emphasis(self.emphasis)
        if self.guidance_interval is not None and not 0 <= self.guidance_interval[0] < self.guidance_interval[1]:
            raise InputError(_refusal("guidance_interval", self.guidance_interval))
        if self.s_tmax is not None and self.s_tmin > self.s_tmax:
            raise InputError(_refusal("s_tmin", self.s_tmin))
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
        choice = choose_sampler(self.sampler or spec.default_sampler)
        info = choice.info
        for name in _SAMPLER_FIELDS:
            value = getattr(self, name)
            if value != type(self).model_fields[name].default and name not in info.reads:
                readers = ", ".join(other.name for other in SAMPLERS.values() if name in other.reads)
                raise InputError(f"{name} is {value}: sampler {info.name!r} has none; leave it out, or use {readers}")
        self._check_sizes(spec)
        # A model with words of its own has no pictures from elsewhere to make again.
        dialect = find_dialect(self.dialect or ("a1111" if spec.vocabulary == "clip" else "rein"), self.emphasis)
        guidance = spec.default_guidance if self.guidance_scale is None else self.guidance_scale
        return self.replace(
            width=_fitting(self.width, "width", spec),
            height=_fitting(self.height, "height", spec),
            sampler=info.name,
            spacing=self._spacing(spec, info, choice.spacing),
            guidance_scale=guidance,
            seed=fresh_seed() if self.seed is None else self.seed,
            dialect=dialect.name,
            emphasis=None if self.emphasis is None else find_emphasis(self.emphasis),
        )

    def _spacing(self, spec: ModelSpec, info: SamplerInfo, named: str | None) -> str:
        """The spacing's name: as asked for, as the sampler's name has it ("DPM++ 2M Karras"), or what suits both."""
        # A sampler's own spacing is meant for discrete schedules; a flow keeps what it was tuned with.
        own = spec.schedule.kind == "flow" or info.name == find_sampler(spec.default_sampler).name
        chosen = named or (spec.default_spacing if own else info.default_spacing)
        if self.spacing is not None and not _is_automatic(self.spacing):
            chosen = self.spacing
        name = find_spacing(chosen).name
        # Two tables were published under one name; models that are told sizes have the second.
        return "align_your_steps_sdxl" if name == "align_your_steps" and spec.unet.size_ids else name

    def _check_sizes(self, spec: ModelSpec) -> None:
        """Numbers that SDXL or its refiner is told must have a model that listens."""
        told = {"original_size": self.original_size, "target_size": self.target_size, "crop": self.crop}
        scores = {name: getattr(self, name) for name in ("aesthetic_score", "negative_aesthetic_score")}
        given = [name for name, value in told.items() if value not in (None, (0, 0)) and not spec.unet.size_ids]
        given += [name for name, value in scores.items() if value is not None and spec.unet.size_ids != 5]
        if given:
            raise InputError(
                f"{given[0]} is {getattr(self, given[0])}: model {spec.name!r} is not told it; leave it out"
            )


_SAMPLER_FIELDS = ("eta", "s_churn", "s_tmin", "s_tmax", "s_noise")
"""What only some samplers read."""


def _is_automatic(spacing: str) -> bool:
    """ "Automatic", as AUTOMATIC1111's web UI calls the choice of the sampler's own."""
    return plain_spacing(spacing) == "automatic"


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
    details = error.errors(include_url=False, include_context=False)
    # An unknown name before a missing one: it may be that one misspelt.
    detail = next((entry for entry in details if entry["type"] == "extra_forbidden"), details[0])
    if not detail["loc"]:
        return f"a request must be an object of named fields, not {quoted(detail['input'])}"
    field = str(detail["loc"][0])
    if detail["type"] == "extra_forbidden" and len(detail["loc"]) == 1:
        return f"unknown option {quoted(field)}: {nearest(field, _ALLOWED)}"
    if detail["type"] == "missing" and len(detail["loc"]) == 1:
        return f"{field} is missing: it must be {_ALLOWED[field]}"
    return _refusal(field, detail["input"])


def _refusal(field: str, value: object) -> str:
    shown = quoted(value) if not isinstance(value, float) or math.isfinite(value) else str(value)
    return f"{field} is {shown}: it must be {_ALLOWED[field]}"
