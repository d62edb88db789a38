"""How fast this machine is with a model: a few steps that are really drawn, and how many operations they were."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from itertools import pairwise

import torch

from rein.engines.cpu import SortedConv2d
from rein.formats.checkpoint import LoadedModel
from rein.pipeline.decode import decode_latents
from rein.pipeline.generate import run
from rein.pipeline.job import batch_size, prepare
from rein.pipeline.network import plan_request
from rein.pipeline.request import Request
from rein.pipeline.shapes import Cost, decoder_cost, encoder_cost, unet_cost

STEPS = 4
"""Are drawn to measure: the first is slow, as everything is for the first time; the last may be of another kind."""

_LONGEST_STEP = 1.0
"""Seconds that a measured step may take, as far as that is known before; a larger picture is measured in small."""

_SHORT_STEP = 2e10
"""Operations that are measured without a look at a smaller picture first."""

_LEAST_SIDE = 8
"""Latents of the smallest picture that is measured."""

_KEPT = (
    *("prompt", "negative_prompt", "guidance_scale", "guidance_rescale", "image_guidance_scale"),
    *("sampler", "spacing", "seed", "dialect", "emphasis", "clip_skip"),
    *("loras", "lora_folder", "embeddings", "embedding_folder"),
)
"""Fields of a request that a measured picture has too."""


@dataclass(frozen=True)
class Sized:
    """A pass at its size: the cost of a U-Net call for a batch, of decoding, and of encoding where it begins so."""

    network: Cost
    decoder: Cost
    encoder: Cost | None

    @property
    def bytes(self) -> int:
        """The most that any part takes."""
        return max(cost.bytes for cost in (self.network, self.decoder, self.encoder) if cost is not None)


@dataclass(frozen=True)
class Speed:
    """What was measured.

    Fields:
        size: width and height in pixels of the picture that was drawn.
        ready: seconds to encode the words.
        network: seconds of a step for each operation of a U-Net call.
        decoder: seconds for each operation of the decoder.
    """

    size: tuple[int, int]
    ready: float
    network: float
    decoder: float


def sized(parts: LoadedModel, request: Request, divisor: int = 1, tile: int | None = None) -> Sized:
    """The costs of a resolved request of one pass.

    Args:
        divisor: of both sides.
        tile: side in pixels of the parts in which the autoencoder works; None is the request's own.
    """
    spec, dtype = parts.spec, parts.dtype
    unit, side = spec.autoencoder.downscale, tile or request.tile
    width, height = (side // unit for side in smaller(parts, request, divisor))
    box = (height, width) if side is None else (min(height, side // unit), min(width, side // unit))
    rows, tokens = _rows(parts, request)
    decoder = decoder_cost(spec, dtype, *box)
    # Parts overlap a little, which costs time that is not counted.
    of_all = Cost(round(decoder.operations * height * width / (box[0] * box[1])), decoder.bytes)
    encoder = encoder_cost(spec, dtype, *box) if request.init_image is not None else None
    return Sized(unet_cost(spec, dtype, rows * batch_size(parts, request), height, width, tokens), of_all, encoder)


def smaller(parts: LoadedModel, request: Request, divisor: int) -> tuple[int, int]:
    """Width and height in pixels, divided, in whole latents."""
    assert request.width is not None and request.height is not None
    unit = parts.spec.autoencoder.downscale
    return max(1, request.width // unit // divisor) * unit, max(1, request.height // unit // divisor) * unit


def _rows(parts: LoadedModel, request: Request) -> tuple[int, int]:
    """How many answers of the U-Net a step needs for one picture, and the longest text in tokens."""
    steps = plan_request(parts, request).steps
    rows = max(len(words.rows) for words in steps)
    editing = request.image_guidance_scale is not None and rows > 1
    return rows + editing, max(row.context.shape[1] for words in steps for row in words.rows)


def coming_bytes(parts: LoadedModel) -> int:
    """Memory that the networks themselves take when they first draw: weights sorted for the CPU."""
    return sum(layer.weight.nbytes for layer in parts.unet.modules() if isinstance(layer, SortedConv2d))


def measure(parts: LoadedModel, request: Request) -> Speed:
    """Draw a few steps at the size of `request`, resolved and of one pass, or at one that does not take long."""
    divisors = [1]
    while min(smaller(parts, request, divisors[-1] * 2)) >= _LEAST_SIDE * parts.spec.autoencoder.downscale:
        divisors.append(divisors[-1] * 2)
    costs = {divisor: sized(parts, request, divisor) for divisor in divisors}
    if costs[1].network.operations <= _SHORT_STEP:
        return _measured(parts, request, 1, costs[1])
    first = divisors[-1]
    speed = _measured(parts, request, first, costs[first])
    best = next(
        each for each in divisors if each == first or costs[each].network.operations * speed.network < _LONGEST_STEP
    )
    return speed if best == first else _measured(parts, request, best, costs[best])


def _measured(parts: LoadedModel, request: Request, divisor: int, costs: Sized) -> Speed:
    size = smaller(parts, request, divisor)
    values = request.model_dump(include=set(_KEPT))
    values |= {"width": size[0], "height": size[1], "steps": STEPS, "count": batch_size(parts, request)}
    probe = Request.model_validate(values)
    began = time.perf_counter()
    job = prepare(parts, probe)
    moments = [time.perf_counter()]
    for step in run(job):
        _wait(parts.device)
        moments.append(time.perf_counter())
        latents = step.latents[:1]
    times = [after - before for before, after in pairwise(moments)]
    network = statistics.median(times[1:-1] or times) / costs.network.operations
    return Speed(size, moments[0] - began, network, _decoding(parts, latents, request.tile) / costs.decoder.operations)


def _decoding(parts: LoadedModel, latents: torch.Tensor, tile: int | None) -> float:
    """Seconds for one picture, when it is not the first."""
    seconds = 0.0
    for _ in range(2):
        began = time.perf_counter()
        decode_latents(parts, latents, tile)
        seconds = time.perf_counter() - began
    return seconds


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
