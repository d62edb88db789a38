"""What a single field of a request does not show: fields that need each other, and what a model has no use for."""

from __future__ import annotations

from rein.devices import MAX_SEED
from rein.diffusion.samplers import SAMPLERS, SamplerInfo, find_sampler
from rein.diffusion.spacing import find_spacing, plain_spacing
from rein.errors import InputError, quoted
from rein.formats.embedded import EMBEDDED
from rein.nn.specs import VARIANTS, ModelSpec
from rein.pipeline.fields import refusal
from rein.pipeline.request_fields import RequestFields
from rein.text.dialects import find_dialect, find_emphasis

_NEEDS: dict[str, tuple[str, ...]] = {
    "strength": ("init_image",),
    "resize": ("init_image",),
    "loops": ("init_image",),
    "loop_strength": ("init_image",),
    "mask": ("init_image",),
    "outpaint": ("init_image",),
    "depth_model": ("init_image",),
    "image_guidance_scale": ("init_image",),
    "mask_invert": ("mask",),
    "mask_blur": ("mask", "outpaint"),
    "masked_content": ("mask", "outpaint"),
    "only_masked": ("mask",),
    "mask_padding": ("mask", "outpaint"),
    "soft_mask": ("mask",),
    "hires_upscaler": ("hires_scale",),
    "hires_steps": ("hires_scale",),
    "hires_strength": ("hires_scale",),
    "refiner_switch": ("refiner",),
    "variation_seed": ("variation_strength",),
}
"""Fields that mean nothing without one of others."""

_EXCLUDES = (
    ("outpaint", ("mask", "loops", "resize")),
    ("hires_scale", ("init_image",)),
    ("depth_image", ("depth_model",)),
    ("resize", ("only_masked",)),
    ("seamless", ("outpaint", "only_masked")),  # a part that is drawn alone would go on at its own other side
)
"""A field, and those that cannot be given with it."""

_FORMS = {"depth_image": "depth", "depth_model": "depth", "image_guidance_scale": "editing"}
"""What only models of one form are told."""

_SAMPLER_FIELDS = ("eta", "s_churn", "s_tmin", "s_tmax", "s_noise")
"""What only some samplers read."""


def check_request(request: RequestFields) -> None:
    """Names, and fields that do not go together. Raises `InputError`."""
    _check_names(request)
    interval = request.guidance_interval
    if interval is not None and not 0 <= interval[0] < interval[1]:
        raise InputError(refusal("guidance_interval", interval))
    if request.s_tmax is not None and request.s_tmin > request.s_tmax:
        raise InputError(refusal("s_tmin", request.s_tmin))
    for name in ("seed", "variation_seed"):
        seed = getattr(request, name)
        if seed is not None and seed + request.count - 1 > MAX_SEED:
            most = MAX_SEED + 1 - request.count
            raise InputError(f"{name} is {seed}: with {request.count} pictures it may be at most {most}")
    if request.outpaint is not None and not any(request.outpaint):
        raise InputError(refusal("outpaint", request.outpaint))
    for name, others in _NEEDS.items():
        if request.is_set(name) and not any(request.is_set(other) for other in others):
            raise InputError(f"{name} is {quoted(getattr(request, name))}: it means nothing without {_or(others)}")
    for name, others in _EXCLUDES:
        for other in others:
            if request.is_set(name) and request.is_set(other):
                value = quoted(getattr(request, other))
                raise InputError(f"{other} is {value}: it does not go with {name}; leave one of them out")


def _check_names(request: RequestFields) -> None:
    if request.sampler is not None:
        find_sampler(request.sampler)
    if request.spacing is not None and plain_spacing(request.spacing) != "automatic":
        find_spacing(request.spacing)
    if request.dialect is not None:
        find_dialect(request.dialect, request.emphasis)
    elif request.emphasis is not None:
        find_emphasis(request.emphasis)


def _or(names: tuple[str, ...]) -> str:
    return " or ".join(names)


def check_model(request: RequestFields, spec: ModelSpec, sampler: SamplerInfo) -> None:
    """What this sampler does not read, and what this model is not told. Raises `InputError`."""
    for name in _SAMPLER_FIELDS:
        if request.is_set(name) and name not in sampler.reads:
            readers = ", ".join(other.name for other in SAMPLERS.values() if name in other.reads)
            value = getattr(request, name)
            raise InputError(f"{name} is {value}: sampler {sampler.name!r} has none; leave it out, or use {readers}")
    told = {
        "original_size": spec.unet.size_ids,
        "target_size": spec.unet.size_ids,
        "crop": spec.unet.size_ids,
        "aesthetic_score": spec.unet.size_ids == 5,
        "negative_aesthetic_score": spec.unet.size_ids == 5,
    } | {name: spec.form == form for name, form in _FORMS.items()}
    for name, listens in told.items():
        if request.is_set(name) and not listens:
            value = quoted(getattr(request, name))
            raise InputError(f"{name} is {value}: model {spec.name!r} is not told it; leave it out{_listener(name)}")


def _listener(name: str) -> str:
    """Which model to take for a field that this one is not told; nothing where no form of model is made for it."""
    form = _FORMS.get(name)
    if form is None:
        return ""
    ready = [model for model in EMBEDDED if VARIANTS[model].form == form]
    return f", or take a model for {form}" + (f", such as {' or '.join(ready)}" if ready else "")
