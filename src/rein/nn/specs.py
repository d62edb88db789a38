"""Every model family as a row of data: frozen configurations, made from one another with `dataclasses.replace`.

There is no class and no branch per family. A field that differs between families is a field here, read by the one class
that needs it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields, is_dataclass, replace
from typing import Any, Literal, get_args, get_origin, get_type_hints

from rein.errors import InputError, nearest

PredictionName = Literal["epsilon", "v", "x0", "flow"]
ScheduleKind = Literal["scaled_linear", "linear", "cosine", "flow"]
Form = Literal["plain", "depth", "editing", "inpainting", "unknown"]


def _positive(config: Any, *names: str) -> None:
    """Refuse a number below 1, and an empty list, in the named fields."""
    for name in names:
        value = getattr(config, name)
        if (not value or min(value) < 1) if isinstance(value, tuple) else value < 1:
            raise InputError(f"{name} is {value!r}, but must be at least 1")


def _divides(name: str, parts: int, whole: int) -> None:
    """Refuse a number of heads or groups that does not split `whole` channels evenly; 0 splits nothing."""
    if parts < 0 or (parts and whole % parts):
        raise InputError(f"{name} is {parts}, but must divide the {whole} channels that it splits")


@dataclass(frozen=True)
class UNetConfig:
    """Shape of the denoising U-Net. Levels are listed from the finest latent resolution to the coarsest.

    Source: Rombach et al. 2022 (latent diffusion); Podell et al. 2023 (SDXL: pooled text and size ids).
    """

    in_channels: int = 4
    out_channels: int = 4
    channels: tuple[int, ...] = (320, 640, 1280, 1280)
    blocks_per_level: int = 2
    transformer_depth: tuple[int, ...] = (1, 1, 1, 0)
    """Transformer blocks after each residual block, one number a level; 0 means no attention at that level."""
    middle_depth: int = 1
    heads: tuple[int, ...] = (8, 8, 8, 8)
    context_width: int = 768
    linear_projection: bool = False
    """Enter and leave the transformers by a linear layer (SD2, SDXL) instead of a 1x1 convolution (SD1)."""
    norm_groups: int = 32
    pooled_width: int = 0
    """Width of the pooled text vector added to the time embedding; 0 where the family has none."""
    size_ids: int = 0
    """How many numbers join the pooled text: SDXL has 6 (original size, crop, target size), its refiner 5 (original
    size, crop, aesthetic score)."""
    size_id_width: int = 256
    guidance_width: int = 0
    """Width of the guidance scale's features added to those of time (distilled LCM); 0 where the network has none."""

    def __post_init__(self) -> None:
        _positive(self, "in_channels", "out_channels", "channels", "blocks_per_level", "heads", "context_width")
        for name in ("heads", "transformer_depth"):
            count = len(getattr(self, name))
            if count != len(self.channels):
                raise InputError(f"{name} has {count} numbers, but there are {len(self.channels)} levels in channels")
        for channels, heads in zip(self.channels, self.heads, strict=True):
            _divides("heads", heads, channels)
            _divides("norm_groups", self.norm_groups, channels)


@dataclass(frozen=True)
class AutoencoderConfig:
    """Shape of the autoencoder. `patch` folds square pixel patches into channels before the first convolution.

    `design` is "kl" (Rombach et al. 2022) or "tiny" (TAESD, madebyollin/taesd), which has neither norms nor attention.
    """

    design: Literal["kl", "tiny"] = "kl"
    picture_channels: int = 3
    latent_channels: int = 4
    channels: tuple[int, ...] = (128, 256, 512, 512)
    blocks_per_level: int = 2
    norm_groups: int = 32
    """Groups of the group norm; 0 builds the network without norms, which makes it local and so exact when tiled."""
    middle_attention: bool = True
    patch: int = 1

    def __post_init__(self) -> None:
        _positive(self, "picture_channels", "latent_channels", "channels", "blocks_per_level", "patch")
        for channels in self.channels:
            _divides("norm_groups", self.norm_groups, channels)

    @property
    def downscale(self) -> int:
        """Picture pixels per latent pixel along one side."""
        return int(self.patch * 2 ** (len(self.channels) - 1))


@dataclass(frozen=True)
class TextTowerConfig:
    """Shape of a causal CLIP text transformer (Radford et al. 2021), and which of its states conditions the U-Net."""

    vocabulary_size: int = 49408
    context_length: int = 77
    width: int = 768
    layers: int = 12
    heads: int = 12
    feed_forward_width: int = 3072
    activation: Literal["quick_gelu", "gelu"] = "quick_gelu"
    projection_width: int = 0
    """Width of the projected pooled vector; 0 where the tower has no text projection."""
    end_token: int = 49407
    pad_token: int = 49407
    context_layer: Literal["last", "penultimate"] = "last"
    """`last` is the final state, normalised; `penultimate` the state before the last layer, without norm (SDXL)."""
    dropped_layers: int = 0
    """Layers of the published tower after those that are read, and left out here: 1 for SD2's."""

    def __post_init__(self) -> None:
        _positive(self, "vocabulary_size", "context_length", "width", "layers", "heads", "feed_forward_width")
        _divides("heads", self.heads, self.width)


@dataclass(frozen=True)
class DiscriminatorConfig:
    """Shape of the patch discriminator (Isola et al. 2017): it judges patches, not whole pictures."""

    picture_channels: int = 3
    channels: int = 64
    layers: int = 3


@dataclass(frozen=True)
class ScheduleConfig:
    """Noise schedule by name and numbers; `rein.diffusion.schedule` turns it into sigmas."""

    kind: ScheduleKind = "scaled_linear"
    steps: int = 1000
    beta_start: float = 0.00085
    beta_end: float = 0.012
    zero_terminal_snr: bool = False
    shift: float = 1.0


@dataclass(frozen=True)
class ModelSpec:
    """A whole model: networks, what the U-Net predicts, noise schedule, latent scaling, native size in pixels."""

    name: str
    unet: UNetConfig = field(default_factory=UNetConfig)
    autoencoder: AutoencoderConfig = field(default_factory=AutoencoderConfig)
    towers: tuple[TextTowerConfig, ...] = (TextTowerConfig(),)
    prediction: PredictionName = "epsilon"
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    latent_scale: float = 0.18215
    latent_shift: float = 0.0
    native_size: int = 512
    vocabulary: Literal["clip", "own"] = "clip"
    """`clip` uses CLIP's byte-pair vocabulary; `own` means that the model's folder carries one."""
    zero_empty_negative: bool = False
    """An empty negative prompt is all zeros instead of the towers' answer to an empty text (SDXL base)."""
    default_sampler: str = "dpmpp_2m"
    default_spacing: str = "karras"
    default_guidance: float = 7.5
    default_steps: int = 20

    @property
    def conditioning_channels(self) -> int:
        """Channels of the U-Net's input beyond the latents."""
        return self.unet.in_channels - self.autoencoder.latent_channels

    @property
    def form(self) -> Form:
        """What those channels show, by their number: a depth map is one, the latents of a picture to edit as many as
        there are latents, a mask and the latents of what is round it one more."""
        latents = self.autoencoder.latent_channels
        forms: dict[int, Form] = {0: "plain", 1: "depth", latents: "editing", 1 + latents: "inpainting"}
        return forms.get(self.conditioning_channels, "unknown")


_CLIP_L = TextTowerConfig()
_OPENCLIP_H = TextTowerConfig(
    width=1024, layers=23, heads=16, feed_forward_width=4096, activation="gelu", pad_token=0, dropped_layers=1
)
_OPENCLIP_G = TextTowerConfig(
    width=1280,
    layers=32,
    heads=20,
    feed_forward_width=5120,
    activation="gelu",
    projection_width=1280,
    pad_token=0,
    context_layer="penultimate",
)

SD15 = ModelSpec(name="sd15")
SD21_BASE = replace(
    SD15,
    name="sd21-base",
    unet=replace(SD15.unet, heads=(5, 10, 20, 20), context_width=1024, linear_projection=True),
    towers=(_OPENCLIP_H,),
)
SD21 = replace(SD21_BASE, name="sd21", prediction="v", native_size=768)
SDXL = replace(
    SD15,
    name="sdxl",
    unet=UNetConfig(
        channels=(320, 640, 1280),
        transformer_depth=(0, 2, 10),
        middle_depth=10,
        heads=(5, 10, 20),
        context_width=2048,
        linear_projection=True,
        pooled_width=1280,
        size_ids=6,
    ),
    towers=(replace(_CLIP_L, context_layer="penultimate"), _OPENCLIP_G),
    latent_scale=0.13025,
    native_size=1024,
    zero_empty_negative=True,
)
SDXL_REFINER = replace(
    SDXL,
    name="sdxl-refiner",
    unet=UNetConfig(
        channels=(384, 768, 1536, 1536),
        transformer_depth=(0, 4, 4, 0),
        middle_depth=4,
        heads=(6, 12, 24, 24),
        context_width=1280,
        linear_projection=True,
        pooled_width=1280,
        size_ids=5,
    ),
    towers=(_OPENCLIP_G,),
    zero_empty_negative=False,
)
TAESD = AutoencoderConfig(
    design="tiny", channels=(64, 64, 64, 64), blocks_per_level=3, norm_groups=0, middle_attention=False
)
"""The tiny autoencoder of scaled latents: the `latent_scale` of a model with it is 1."""


def with_extra_channels(spec: ModelSpec, name: str, extra: int) -> ModelSpec:
    """The same model whose U-Net takes `extra` more input channels: see `ModelSpec.conditioning_channels`."""
    return replace(spec, name=name, unet=replace(spec.unet, in_channels=spec.autoencoder.latent_channels + extra))


POCKET = ModelSpec(
    name="pocket",
    unet=UNetConfig(
        in_channels=12,
        out_channels=12,
        channels=(96, 160, 192),
        blocks_per_level=1,
        transformer_depth=(0, 1, 1),
        heads=(3, 5, 6),
        context_width=256,
        linear_projection=True,
        pooled_width=256,
    ),
    autoencoder=AutoencoderConfig(
        latent_channels=12, channels=(128, 128), blocks_per_level=1, norm_groups=0, middle_attention=False, patch=4
    ),
    towers=(
        TextTowerConfig(
            vocabulary_size=2048,
            context_length=32,
            width=256,
            layers=2,
            heads=4,
            feed_forward_width=1024,
            activation="gelu",
            end_token=2047,
            pad_token=2047,
        ),
    ),
    prediction="flow",
    schedule=ScheduleConfig(kind="flow", shift=5.0),
    latent_scale=1.0,
    native_size=128,
    vocabulary="own",
    default_sampler="euler",
    default_spacing="linspace",
    default_guidance=4.0,
)

POCKET_DEPTH = with_extra_channels(POCKET, "pocket-depth", 1)

POCKET_FAST = replace(POCKET, name="pocket-fast", default_spacing="trailing", default_guidance=1.0, default_steps=4)
"""Its student (`rein.training.distil`): four steps, with the guidance folded in."""

VARIANTS: dict[str, ModelSpec] = {
    spec.name: spec
    for spec in (
        SD15,
        with_extra_channels(SD15, "sd15-inpainting", 5),
        with_extra_channels(SD15, "sd15-instruct-pix2pix", 4),
        SD21_BASE,
        SD21,
        with_extra_channels(SD21_BASE, "sd2-inpainting", 5),
        with_extra_channels(SD21_BASE, "sd2-depth", 1),
        SDXL,
        with_extra_channels(SDXL, "sdxl-inpainting", 5),
        with_extra_channels(SDXL, "sdxl-instruct-pix2pix", 4),
        SDXL_REFINER,
        POCKET,
        POCKET_DEPTH,
        POCKET_FAST,
    )
}


def variant(name: str) -> ModelSpec:
    """The specification called `name`; raises `InputError` with the nearest known names."""
    if name not in VARIANTS:
        raise InputError(f"model variant {name!r} is unknown: {nearest(name, VARIANTS)}")
    return VARIANTS[name]


def to_dict(config: Any) -> dict[str, Any]:
    """A configuration dataclass as plain JSON values; `from_dict` reads it back."""

    def plain(value: Any) -> Any:
        if is_dataclass(value):
            return to_dict(value)
        if isinstance(value, tuple):
            return [plain(entry) for entry in value]
        return value

    return {entry.name: plain(getattr(config, entry.name)) for entry in fields(config)}


def from_dict(kind: type[Any], values: Mapping[str, Any], where: str = "model") -> Any:
    """Build dataclass `kind` from JSON values.

    Raises:
        InputError: an unknown or missing name, a wrong type or a value out of range, with the path of the field.
    """
    if not isinstance(values, Mapping):
        raise InputError(f"{where} must be an object, not {type(values).__name__}")
    hints = get_type_hints(kind)
    unknown = sorted(set(values) - set(hints))
    if unknown:
        raise InputError(f"{where}.{unknown[0]} is unknown: {nearest(unknown[0], hints)}")
    missing = [e.name for e in fields(kind) if e.name not in values and e.default is e.default_factory is MISSING]
    if missing:
        raise InputError(f"{where}.{missing[0]} is missing")
    given = {name: _value(hints[name], value, f"{where}.{name}") for name, value in values.items()}
    try:
        return kind(**given)
    except InputError as error:
        raise InputError(f"{where}.{error}") from None


def _value(hint: Any, value: Any, where: str) -> Any:
    if is_dataclass(hint):
        return from_dict(hint, value, where)  # type: ignore[arg-type]
    if get_origin(hint) is tuple:
        if not isinstance(value, list | tuple):
            raise InputError(f"{where} is {value!r}, but must be a list")
        return tuple(_value(get_args(hint)[0], entry, f"{where}[{index}]") for index, entry in enumerate(value))
    if get_origin(hint) is Literal:
        if value not in get_args(hint):
            raise InputError(f"{where} is {value!r}: {nearest(str(value), get_args(hint))}")
        return value
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, hint if isinstance(hint, type) else object) or (hint is int and isinstance(value, bool)):
        raise InputError(f"{where} is {value!r}, but must be of type {getattr(hint, '__name__', hint)}")
    return value
