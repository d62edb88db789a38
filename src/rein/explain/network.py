"""What a network consists of, from the network itself: blocks, shapes, parameters, multiply-adds, measured time.

Shapes and multiply-adds come from a twin of the network on PyTorch's "meta" device, which computes nothing; parameters
from the network itself, and time from asking it.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from rein.explain.observe import wait_for
from rein.formats.checkpoint import LoadedModel
from rein.nn.attention import PixelAttention, SpatialTransformer
from rein.nn.autoencoder import Autoencoder
from rein.nn.clip import TextLayer, TextTower, TokenEmbeddings
from rein.nn.discriminator import PatchDiscriminator
from rein.nn.layers import Downsample, EmbeddingMLP, ResidualBlock, Upsample
from rein.nn.specs import DiscriminatorConfig
from rein.nn.tiny import TinyBlock
from rein.nn.unet import UNet
from rein.pipeline.shapes import operations_within

KINDS: tuple[tuple[type[nn.Module], str], ...] = (
    (ResidualBlock, "residual block"),
    (TinyBlock, "residual block"),
    (SpatialTransformer, "transformer"),
    (PixelAttention, "attention"),
    (TextLayer, "transformer layer"),
    (Downsample, "halve"),
    (Upsample, "double"),
    (nn.Upsample, "double"),
    (EmbeddingMLP, "embedding"),
    (TokenEmbeddings, "embedding"),
    (nn.Conv2d, "convolution"),
    (nn.Linear, "projection"),
    (nn.GroupNorm, "norm"),
    (nn.LayerNorm, "norm"),
)
"""What counts as one block, and what it is called; a module that is none of these is looked into."""

DISCRIMINATOR_CHANNELS = 32
"""Of the first layer, unless a training recipe says otherwise; the discriminator is no part of a finished model."""

RUNS = 5
"""Calls of which the median is told, after one that is not counted."""

_SLOW = 3.0
"""Seconds after which the first call is taken as it is."""


@dataclass(frozen=True)
class Block:
    """One block of a network.

    Fields:
        name: path of the module, such as "down_blocks.0.resnets.0".
        kind: what it is, of `KINDS`.
        given, gives: shapes without the batch: (C, h, w), (T, D) or (D,).
        parameters: how many numbers it has learned.
        multiply_adds: multiplications, each with an addition, in one call.
        seconds: of one call, median; None where that was not measured.
    """

    name: str
    kind: str
    given: tuple[int, ...]
    gives: tuple[int, ...]
    parameters: int
    multiply_adds: int
    seconds: float | None = None


@dataclass(frozen=True)
class Network:
    """A network taken apart.

    Fields:
        name: "unet", "autoencoder", "text-tower", "text-tower-2" or "discriminator".
        title: what it is called.
        blocks: in the order in which they are asked.
        parameters: of the whole network, also those outside the blocks.
        seconds: of a whole call; None where that was not measured.
        size: width and height of the picture, in pixels.
    """

    name: str
    title: str
    blocks: tuple[Block, ...]
    parameters: int
    seconds: float | None
    size: tuple[int, int]

    @property
    def multiply_adds(self) -> int:
        """Of one call, all blocks together."""
        return sum(block.multiply_adds for block in self.blocks)


Ask = Callable[[Any, torch.device, torch.dtype], object]
"""Asks a network, or its twin, once, with values on a device."""


def networks(parts: LoadedModel, size: tuple[int, int] | None = None, timed: bool = True) -> Iterator[Network]:
    """The networks of a model, and the discriminator of its autoencoder's training, one after the other.

    Args:
        size: width and height in pixels; None is the model's native size. It is rounded up to what the model can draw.
        timed: whether to ask each of them for its time.
    """
    unit, native = parts.spec.autoencoder.downscale, parts.spec.native_size
    wanted = (native, native) if size is None else size
    width, height = (max(unit, -(-side // unit) * unit) for side in wanted)
    tokens = parts.spec.towers[0].context_length if parts.spec.towers else 1
    found: list[tuple[str, str, nn.Module, Ask]] = [
        ("unet", "U-Net", parts.unet, _ask_unet(height // unit, width // unit, tokens)),
        ("autoencoder", "Autoencoder", parts.autoencoder, _ask_autoencoder(height, width)),
    ]
    for number, tower in enumerate(parts.towers, 1):
        more = f" {number}" if len(parts.towers) > 1 else ""
        found.append(("text-tower" + (f"-{number}" if number > 1 else ""), f"Text tower{more}", tower, _ask_tower))
    # It is part of training alone, and not kept: this one has the same shape, and has learned nothing.
    judge = _discriminator(parts)
    found.append(("discriminator", "Discriminator", judge, _ask_picture(height, width)))
    for name, title, network, ask in found:
        yield network_of(name, title, network, ask, (width, height), timed)


def unet_of(parts: LoadedModel, size: tuple[int, int], tokens: int) -> Network:
    """The U-Net at a size in pixels, without its time."""
    unit = parts.spec.autoencoder.downscale
    ask = _ask_unet(size[1] // unit, size[0] // unit, tokens)
    return network_of("unet", "U-Net", parts.unet, ask, size, timed=False)


def network_of(name: str, title: str, network: nn.Module, ask: Ask, size: tuple[int, int], timed: bool) -> Network:
    """A network taken apart; its class must make a twin from its `config`."""
    with torch.device("meta"):
        twin = type(network)(network.config)
    kinds = {path: kind for path, _, kind in _walk(twin)}
    meta = torch.device("meta")
    counted = operations_within(
        twin, lambda: ask(twin, meta, torch.float32), {path: block for path, block, _ in _walk(twin)}
    )
    live = {path: network.get_submodule(path) for path in counted}
    seconds, whole = _timed(network, live, ask) if timed else ({}, None)
    blocks = [
        Block(
            path,
            _detailed(kinds[path], live[path]),
            shapes[0][1:],
            shapes[1][1:],
            parameters_of(live[path]),
            operations // 2,
            seconds.get(path),
        )
        for path, (operations, shapes) in counted.items()
    ]
    return Network(name, title, tuple(blocks), parameters_of(network), whole, size)


def parameters_of(module: nn.Module) -> int:
    """How many numbers a module has learned."""
    return sum(parameter.numel() for parameter in module.parameters())


def _walk(module: nn.Module, prefix: str = "") -> Iterator[tuple[str, nn.Module, str]]:
    """The blocks of a module: path, module, kind."""
    for name, child in module.named_children():
        path = f"{prefix}{name}"
        kind = next((kind for known, kind in KINDS if isinstance(child, known)), None)
        if kind is None:
            yield from _walk(child, f"{path}.")
        else:
            yield path, child, kind


def _detailed(kind: str, block: nn.Module) -> str:
    """The kind, and how many transformer blocks are in it."""
    depth = len(block.transformer_blocks) if isinstance(block, SpatialTransformer) else 1
    return f"{depth} × {kind}" if depth > 1 else kind


def _timed(network: nn.Module, blocks: Mapping[str, nn.Module], ask: Ask) -> tuple[dict[str, float], float]:
    """Seconds of each block and of the whole, medians of some calls."""
    example = next(network.parameters())
    device, dtype = example.device, example.dtype
    times: dict[str, list[float]] = {name: [] for name in blocks}
    began: dict[str, float] = {}
    whole: list[float] = []

    def before(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, given: object) -> None:
            wait_for(device)
            began[name] = time.perf_counter()

        return hook

    def after(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, given: object, result: object) -> None:
            wait_for(device)
            times[name].append(time.perf_counter() - began[name])

        return hook

    handles = [block.register_forward_pre_hook(before(name)) for name, block in blocks.items()]
    handles += [block.register_forward_hook(after(name)) for name, block in blocks.items()]
    try:
        with torch.inference_mode():
            for turn in range(RUNS + 1):
                start = time.perf_counter()
                ask(network, device, dtype)
                wait_for(device)
                whole.append(time.perf_counter() - start)
                if turn == 0 and whole[0] > _SLOW:
                    break
    finally:
        for handle in handles:
            handle.remove()
    first = 1 if len(whole) > 1 else 0
    return {name: statistics.median(found[first:]) for name, found in times.items()}, statistics.median(whole[first:])


def _ask_unet(height: int, width: int, tokens: int) -> Ask:
    def ask(unet: UNet, device: torch.device, dtype: torch.dtype) -> object:
        config = unet.config
        x = _filled((1, config.in_channels, height, width), device, dtype)
        x = x.contiguous(memory_format=torch.channels_last)
        pooled = _filled((1, config.pooled_width), device, dtype) if config.pooled_width else None
        sizes = _filled((1, config.size_ids), device, torch.float32) if config.size_ids else None
        scale = _filled((1,), device, torch.float32) if config.guidance_width else None
        context = _filled((1, tokens, config.context_width), device, dtype)
        return unet(x, _filled((1,), device, torch.float32), context, pooled, sizes, guidance=scale)

    return ask


def _ask_autoencoder(height: int, width: int) -> Ask:
    def ask(autoencoder: Autoencoder, device: torch.device, dtype: torch.dtype) -> object:
        pixels = _filled((1, autoencoder.config.picture_channels, height, width), device, dtype)
        return autoencoder.decode(autoencoder.encode(pixels).mode())

    return ask


def _ask_tower(tower: TextTower, device: torch.device, dtype: torch.dtype) -> object:
    return tower(torch.zeros(1, tower.config.context_length, dtype=torch.long, device=device))


def _ask_picture(height: int, width: int) -> Ask:
    def ask(network: nn.Module, device: torch.device, dtype: torch.dtype) -> object:
        return network(_filled((1, 3, height, width), device, dtype))

    return ask


def _filled(shape: tuple[int, ...], device: torch.device, dtype: torch.dtype) -> Tensor:
    return torch.full(shape, 0.5, device=device, dtype=dtype)


def _discriminator(parts: LoadedModel) -> PatchDiscriminator:
    """One with weights that are not those of any training; PyTorch's own random numbers stay as they were."""
    config = DiscriminatorConfig(parts.spec.autoencoder.picture_channels, DISCRIMINATOR_CHANNELS)
    with torch.random.fork_rng(devices=[]):
        network = PatchDiscriminator(config)
    return network.to(parts.device, parts.dtype).eval()
