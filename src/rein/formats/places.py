"""Where the networks lie in a file, and their measures, from names and shapes alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from rein.formats.keys import Naming, Place
from rein.nn.specs import AutoencoderConfig, UNetConfig

Shapes = Mapping[str, tuple[int, ...]]
"""Shape of each tensor of a file by its name."""

PUBLISHED_UNET = "model.diffusion_model."

_UNET_MARKS: dict[Naming, tuple[str, str, str]] = {
    "original": ("time_embed.0.weight", "input_blocks.0.0.weight", "out.2.weight"),
    "native": ("time_embedding.linear_1.weight", "conv_in.weight", "conv_out.weight"),
}


@dataclass(frozen=True)
class UNetMeasures:
    """What the shapes of a U-Net tell. The number of attention heads is not among it."""

    in_channels: int
    out_channels: int
    channels: tuple[int, ...]
    blocks_per_level: int
    transformer_depth: tuple[int, ...]
    middle_depth: int
    context_width: int
    linear_projection: bool
    added_width: int
    guidance_width: int

    @classmethod
    def of(cls, config: UNetConfig) -> UNetMeasures:
        """The measures of a configuration."""
        return cls(
            config.in_channels,
            config.out_channels,
            config.channels,
            config.blocks_per_level,
            config.transformer_depth,
            config.middle_depth,
            config.context_width if any(config.transformer_depth) or config.middle_depth else 0,
            config.linear_projection,
            config.pooled_width + config.size_ids * config.size_id_width if config.pooled_width else 0,
            config.guidance_width,
        )

    def may_be(self, known: UNetMeasures) -> bool:
        """Whether these are the measures of a known U-Net, or would be if its first and last layer were there."""
        first, last = self.in_channels or known.in_channels, self.out_channels or known.out_channels
        return replace(self, in_channels=first, out_channels=last) == known


def find_unet(shapes: Shapes) -> Place | None:
    """The place of a U-Net; the published one is preferred where a file has several.

    It has times and a first or a last layer: one that lacks a tensor is a U-Net still, and refused for what it lacks.
    """
    found = [
        Place(prefix, naming)
        for naming, (times, *ends) in _UNET_MARKS.items()
        for prefix in _prefixes(shapes, times)
        if any(f"{prefix}{end}" in shapes for end in ends)
    ]
    return min(found, key=lambda place: (place.prefix != PUBLISHED_UNET, len(place.prefix)), default=None)


def find_autoencoder(shapes: Shapes) -> Place | None:
    """The place of a KL or a tiny autoencoder, of whichever only a decoder may be there."""
    markers: dict[str, str] = {
        "decoder.mid.block_1.conv1.weight": "original",
        "decoder.mid_block.attentions.0.query.weight": "old attention",
        "decoder.mid_block.resnets.0.conv1.weight": "native",
        "decoder.layers.0.weight": "native",
    }
    for marker, naming in markers.items():
        for prefix in _prefixes(shapes, marker):
            return Place(prefix, naming)  # type: ignore[arg-type]
    return None


def find_towers(shapes: Shapes) -> list[tuple[Place, int]]:
    """The place and width of each text tower, in the order of their prefixes."""
    found: dict[str, tuple[Place, int]] = {}
    for prefix in _prefixes(shapes, "token_embedding.weight"):
        width = shapes[f"{prefix}token_embedding.weight"][-1]
        if f"{prefix}positional_embedding" in shapes:
            found[prefix] = Place(prefix, "openclip"), width
        elif prefix.endswith("text_model.embeddings."):
            outer = prefix.removesuffix("text_model.embeddings.")
            found[outer] = Place(outer, "native"), width
        elif prefix.endswith("embeddings."):
            outer = prefix.removesuffix("embeddings.")
            found[outer] = Place(outer, "headless"), width
    return [found[prefix] for prefix in sorted(found)]


def _prefixes(names: Iterable[str], marker: str) -> list[str]:
    """What stands before `marker` in the names that end with it, the shortest first."""
    found = {name[: -len(marker)] for name in names if name.endswith(marker)}
    return sorted((prefix for prefix in found if not prefix or prefix.endswith(".")), key=lambda one: (len(one), one))


def unet_measures(shapes: Shapes, place: Place) -> UNetMeasures:
    """The measures of the U-Net at `place`. What cannot be read is 0; a level of unequal blocks has depth -1."""
    inner = {name[len(place.prefix) :]: shape for name, shape in shapes.items() if name.startswith(place.prefix)}
    original = place.naming == "original"
    levels = list(_original_levels(inner) if original else _native_levels(inner))
    first, last = ("input_blocks.0.0", "out.2") if original else ("conv_in", "conv_out")
    middle = "middle_block.1" if original else "mid_block.attentions.0"
    added = "label_emb.0.0" if original else "add_embedding.linear_1"
    guidance = "time_embed.cond_proj" if original else "time_embedding.cond_proj"
    context = next((shape[-1] for name, shape in inner.items() if name.endswith("attn2.to_k.weight")), 0)
    entry = next((len(shape) for name, shape in inner.items() if name.endswith(".proj_in.weight")), 0)
    return UNetMeasures(
        in_channels=_extent(inner, f"{first}.weight", 1),
        out_channels=_extent(inner, f"{last}.weight", 0),
        channels=tuple(level[0][0] for level in levels),
        blocks_per_level=len(levels[0]) if levels else 0,
        transformer_depth=tuple(depths.pop() if len(depths := {d for _, d in level}) == 1 else -1 for level in levels),
        middle_depth=_depth(inner, middle),
        context_width=context,
        linear_projection=entry == 2,
        added_width=_extent(inner, f"{added}.weight", 1),
        guidance_width=_extent(inner, f"{guidance}.weight", 1),
    )


Level = list[tuple[int, int]]
"""Channels and transformer depth of each block of a level."""


def _original_levels(inner: Shapes) -> Iterator[Level]:
    level: Level = []
    place = 1
    while True:
        here = f"input_blocks.{place}"
        if f"{here}.0.op.weight" in inner:
            yield level
            level = []
        elif f"{here}.0.out_layers.3.weight" in inner:
            level.append((_extent(inner, f"{here}.0.out_layers.3.weight", 0), _depth(inner, f"{here}.1")))
        else:
            break
        place += 1
    if level:
        yield level


def _native_levels(inner: Shapes) -> Iterator[Level]:
    index = 0
    while f"down_blocks.{index}.resnets.0.conv2.weight" in inner:
        level: Level = []
        while f"down_blocks.{index}.resnets.{len(level)}.conv2.weight" in inner:
            here, block = f"down_blocks.{index}", len(level)
            channels = _extent(inner, f"{here}.resnets.{block}.conv2.weight", 0)
            level.append((channels, _depth(inner, f"{here}.attentions.{block}")))
        yield level
        index += 1


def _depth(inner: Shapes, transformer: str) -> int:
    depth = 0
    while f"{transformer}.transformer_blocks.{depth}.norm1.weight" in inner:
        depth += 1
    return depth


def _extent(inner: Shapes, name: str, dimension: int) -> int:
    shape = inner.get(name, ())
    return shape[dimension] if len(shape) > dimension else 0


def autoencoder_config(shapes: Shapes, place: Place, base: AutoencoderConfig) -> AutoencoderConfig:
    """The configuration of the autoencoder at `place`; what shapes do not tell is as in `base`, or as published."""
    inner = {name[len(place.prefix) :]: shape for name, shape in shapes.items() if name.startswith(place.prefix)}
    if "decoder.layers.0.weight" in inner:
        return _tiny_config(inner)
    original = place.naming == "original"
    levels = "decoder.up.{}.block.{}.conv2.weight" if original else "decoder.up_blocks.{}.resnets.{}.conv2.weight"
    channels: list[int] = []
    while levels.format(len(channels), 0) in inner:
        channels.append(_extent(inner, levels.format(len(channels), 0), 0))
    blocks = 0
    while levels.format(0, blocks) in inner:
        blocks += 1
    query = "decoder.mid.attn_1.norm.weight" if original else "decoder.mid_block.attentions.0.group_norm.weight"
    normed = ("decoder.norm_out.weight" if original else "decoder.conv_norm_out.weight") in inner
    colours = _extent(inner, "decoder.conv_out.weight", 0)
    patch = next((side for side in range(1, 9) if colours == base.picture_channels * side * side), 1)
    return AutoencoderConfig(
        picture_channels=colours // (patch * patch),
        latent_channels=_extent(inner, "decoder.conv_in.weight", 1),
        channels=tuple(channels if original else channels[::-1]),
        blocks_per_level=blocks - 1,
        norm_groups=(base.norm_groups or 32) if normed else 0,
        middle_attention=query in inner,
        patch=patch,
    )


def _tiny_config(inner: Shapes) -> AutoencoderConfig:
    """A tiny autoencoder's: blocks between its bare convolutions are counted."""
    indices = [int(name.split(".")[2]) for name in inner if name.startswith("decoder.layers.")]
    bare = sorted({i for i in indices if f"decoder.layers.{i}.weight" in inner})
    width = _extent(inner, "decoder.layers.0.weight", 0)
    first = bare[1] if len(bare) > 1 else 0  # a convolution, ReLU, the blocks, a doubling, the next convolution
    return AutoencoderConfig(
        design="tiny",
        picture_channels=_extent(inner, f"decoder.layers.{bare[-1]}.weight", 0),
        latent_channels=_extent(inner, "decoder.layers.0.weight", 1),
        channels=(width,) * (len(bare) - 1),
        blocks_per_level=max(first - 3, 1),
        norm_groups=0,
        middle_attention=False,
    )
