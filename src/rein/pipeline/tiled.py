"""An autoencoder asked in overlapping parts, for pictures that it has no memory for at once.

Its middle, attention included, works at the size of the latents, which is small, and is done whole. What takes the
memory, the way from there to the pixels or back, is done in parts. Without norms it is local: a pixel depends on what
lies within its reach and on nothing else, so that parts which overlap by twice the reach, each trusted only outside it,
give what the whole gives, exact to rounding. A group norm sees all of a part; there the parts are gone through twice,
first for the statistics that all of them then share, and fade into one another. The tests measure what is left.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from rein.nn.autoencoder import Autoencoder
from rein.nn.norms import fixed_norms, group_norms, recorded_norms
from rein.nn.seamless import Axes, seamless, wrapped
from rein.nn.specs import AutoencoderConfig
from rein.pipeline.tiles import Box, Mosaic, tiles

Side = Literal["encoder", "decoder"]

MIN_LATENTS = 4
"""The side of the smallest part that is worked on."""

_LARGEST_OVERLAP = 0.75
"""A local autoencoder is made exact as long as so much of a part, at most, is asked for twice."""

Half = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class _Plan:
    """Side, overlap and trim of the parts, and what one latent is before and after the work, as pixels along a side."""

    side: int
    overlap: int
    trim: int
    wrap: Axes
    before: int = 1
    after: int = 1


def decode_tiled(
    autoencoder: Autoencoder, latents: Tensor, tile: int, overlap: int | None = None, wrap: Axes = "none"
) -> Tensor:
    """Pixels (B, 3, H, W) float32 of unscaled latents (B, C, h, w), decoded in parts.

    Args:
        tile: side of the parts in pixels.
        overlap: latents that neighbouring parts share, at most three quarters of a part; None is `overlap_for`.
        wrap: axes on which the picture goes on at its other side.
    """
    config = autoencoder.config
    plan = _plan(config, "decoder", (tile, overlap, wrap))
    if config.design == "tiny":
        return _in_parts(autoencoder.decoder, autoencoder.decode, latents, plan, config.picture_channels)
    with seamless(autoencoder, wrap):
        features = autoencoder.decoder.middle(autoencoder.post_quant_conv(latents))
    return _in_parts(autoencoder.decoder, autoencoder.decoder.enlarged, features, plan, config.picture_channels)


def encode_tiled(
    autoencoder: Autoencoder, pixels: Tensor, tile: int, overlap: int | None = None, wrap: Axes = "none"
) -> Tensor:
    """Means of the unscaled latents, (B, C, h, w) float32, of pixels (B, 3, H, W), encoded in parts.

    The arguments are those of `decode_tiled`; the sides of `pixels` are multiples of a latent pixel.
    """
    config = autoencoder.config
    plan = _plan(config, "encoder", (tile, overlap, wrap))
    if config.design == "tiny":
        return _in_parts(
            autoencoder.encoder, lambda part: autoencoder.encode(part).mode(), pixels, plan, config.latent_channels
        )
    reduced = _in_parts(autoencoder.encoder, autoencoder.encoder.reduced, pixels, plan, config.channels[-1])
    with seamless(autoencoder, wrap):
        moments = autoencoder.quant_conv(autoencoder.encoder.middle(reduced.to(pixels.dtype)))
    means: Tensor = moments.chunk(2, dim=1)[0].float()
    return means


def reach(config: AutoencoderConfig, side: Side) -> int | None:
    """How many latents away one is that still has an influence in what is done in parts; None where all have.

    Of a decoder: which latents, or features of the middle, a latent's pixels depend on. Of an encoder: the pixels of
    which latents a latent's features depend on.
    """
    if config.norm_groups:
        return None
    finest: int = 2 ** (len(config.channels) - 1)
    tiny, blocks = config.design == "tiny", config.blocks_per_level
    # A convolution of three reaches one pixel further, of the size that a pixel has there; the finest ones have 1.
    reached = 1 + (finest if tiny else 0)
    for level in range(len(config.channels)):
        pixel = 1 << level
        if tiny:
            reached += pixel * 3 * (blocks if level else 1)
        else:
            reached += pixel * 2 * (blocks + (1 if side == "decoder" else 0))
        if pixel < finest:
            reached += pixel  # the strided convolution, or the one after the doubling
    return -(-reached // finest)


def overlap_for(config: AutoencoderConfig, side: Side, latents: int) -> int:
    """How much parts of `latents` x `latents` overlap unless asked otherwise.

    A local autoencoder has twice its reach, which makes it exact, unless that is more than three quarters of a part;
    then, and for all others, a quarter.
    """
    local = reach(config, side)
    if local is not None and 2 * local <= latents * _LARGEST_OVERLAP:
        return 2 * local
    return latents // 4


def _plan(config: AutoencoderConfig, side: Side, wanted: tuple[int, int | None, Axes]) -> _Plan:
    """How the parts lie. `wanted`: side in pixels, overlap in latents, axes."""
    tile, overlap, wrap = wanted
    latents = max(MIN_LATENTS, tile // config.downscale)
    shared = overlap_for(config, side, latents) if overlap is None else overlap
    if not 0 <= shared <= latents * _LARGEST_OVERLAP:
        raise ValueError(f"overlap is {shared}: parts of {latents} latents share three quarters at most")
    local = reach(config, side)
    # Beside a cut all that it reaches is left out where that leaves any; else a quarter of what is shared.
    trim = local if local is not None and 2 * local <= shared else shared // 4
    before, after = (1, config.downscale) if side == "decoder" else (config.downscale, 1)
    return _Plan(latents, shared, trim, wrap, before, after)


def _in_parts(network: nn.Module, half: Half, values: Tensor, plan: _Plan, channels: int) -> Tensor:
    """`half(values)`, float32, with `channels` planes, asked in parts; `network` has the norms that it uses."""
    rows, columns = (plan.overlap * (plan.wrap in (axis, "both")) for axis in ("y", "x"))
    longer = wrapped(values, rows * plan.before, columns * plan.before)
    height, width = longer.shape[-2] // plan.before, longer.shape[-1] // plan.before
    boxes = tiles(width, height, plan.side, plan.overlap)
    size = width * plan.after, height * plan.after
    whole = Mosaic([_scaled(box, plan.after) for box in boxes], size, (len(values), channels), plan.trim * plan.after)
    with _agreeing(network, half, _apart(values, plan) if len(boxes) > 1 else ()):
        for box in boxes:
            part = half(_cut(longer, box, plan.before))
            whole.add(_scaled(box, plan.after), part.detach().float().cpu().numpy())
    made = torch.from_numpy(whole.values).to(values.device)
    top, left = rows * plan.after, columns * plan.after
    return made[..., top : size[1] - top, left : size[0] - left]


@contextlib.contextmanager
def _agreeing(network: nn.Module, half: Half, parts: Iterable[Tensor]) -> Iterator[None]:
    """Within the block the norms of `network` use the statistics of all `parts` together; without parts, their own."""
    if not group_norms(network):
        yield
        return
    with recorded_norms(network) as statistics:
        for part in parts:
            half(part)
    with fixed_norms(network, statistics):
        yield


def _apart(values: Tensor, plan: _Plan) -> Iterator[Tensor]:
    """The parts of `values` without overlap."""
    height, width = values.shape[-2] // plan.before, values.shape[-1] // plan.before
    return (_cut(values, box, plan.before) for box in tiles(width, height, plan.side, 0))


def _cut(values: Tensor, box: Box, unit: int) -> Tensor:
    left, top, right, bottom = _scaled(box, unit)
    return values[..., top:bottom, left:right].contiguous(memory_format=torch.channels_last)


def _scaled(box: Box, unit: int) -> Box:
    left, top, right, bottom = box
    return left * unit, top * unit, right * unit, bottom * unit
