"""What a network costs at a size, from shapes alone: it runs on PyTorch's "meta" device, which computes nothing.

Two things are counted as the operators go by: multiplications and additions, and the bytes of all values that are alive
at once. Attention is counted as the fused kernels do it, which never hold the whole table of weights.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry
from torch.utils.weak import WeakIdKeyDictionary

from rein.nn.autoencoder import Autoencoder
from rein.nn.specs import ModelSpec
from rein.nn.unet import UNet

_REMEMBERED = 64
"""Costs that are kept: counting one takes up to a second."""


@dataclass(frozen=True)
class Cost:
    """Of one call of a network.

    Fields:
        operations: multiplications and additions, each counted.
        bytes: the most that its values take at once, its weights not among them.
    """

    operations: int
    bytes: int


@lru_cache(_REMEMBERED)
def unet_cost(spec: ModelSpec, dtype: torch.dtype, rows: int, height: int, width: int, tokens: int) -> Cost:
    """Of the U-Net for latents (rows, C, height, width) and contexts of `tokens` tokens."""
    config = spec.unet
    with torch.device("meta"):
        network = UNet(config).to(dtype)
        x = torch.empty(rows, config.in_channels, height, width, dtype=dtype)
        x = x.contiguous(memory_format=torch.channels_last)
        context = torch.empty(rows, tokens, config.context_width, dtype=dtype)
        pooled = torch.empty(rows, config.pooled_width, dtype=dtype) if config.pooled_width else None
        sizes = torch.empty(rows, config.size_ids) if config.size_ids else None
        scale = torch.empty(rows) if config.guidance_width else None
        time = torch.empty(rows)
    return cost_of(network, lambda: network(x, time, context, pooled, sizes, guidance=scale), (x, context))


@lru_cache(_REMEMBERED)
def decoder_cost(spec: ModelSpec, dtype: torch.dtype, height: int, width: int) -> Cost:
    """Of decoding latents (1, C, height, width)."""
    network = _autoencoder(spec, dtype)
    latents = torch.empty(1, spec.autoencoder.latent_channels, height, width, dtype=dtype, device="meta")
    return cost_of(network, lambda: network.decode(latents), (latents,))


@lru_cache(_REMEMBERED)
def encoder_cost(spec: ModelSpec, dtype: torch.dtype, height: int, width: int) -> Cost:
    """Of encoding a picture whose latents are (1, C, height, width)."""
    network, config = _autoencoder(spec, dtype), spec.autoencoder
    size = height * config.downscale, width * config.downscale
    pixels = torch.empty(1, config.picture_channels, *size, dtype=dtype, device="meta")
    return cost_of(network, lambda: network.encode(pixels).mean, (pixels,))


def _autoencoder(spec: ModelSpec, dtype: torch.dtype) -> Autoencoder:
    with torch.device("meta"):
        return Autoencoder(spec.autoencoder).to(dtype)


def cost_of(network: nn.Module, call: Callable[[], Tensor], given: Sequence[Tensor]) -> Cost:
    """Of `call()`, which asks `network`; all on the meta device. `given` are what it is asked with."""
    ledger = _Ledger([*network.parameters(), *network.buffers()], given)
    with torch.no_grad(), _FusedAttention(ledger), ledger:
        result = call()
    del result
    return Cost(ledger.operations, ledger.most)


def operations_within(
    network: nn.Module, call: Callable[[], object], blocks: Mapping[str, nn.Module]
) -> dict[str, tuple[int, tuple[tuple[int, ...], tuple[int, ...]]]]:
    """What `call()`, which asks `network`, does in some blocks of it; all on the meta device.

    Returns for each block that is asked, in the order in which they are: its operations, and the shapes of what it is
    first given and gives. Operations outside the blocks are left out.
    """
    ledger = _Ledger([*network.parameters(), *network.buffers()], ())
    found: dict[str, tuple[int, tuple[tuple[int, ...], tuple[int, ...]]]] = {}
    begun: dict[str, int] = {}

    def before(name: str) -> Callable[..., None]:
        return lambda module, given: begun.update({name: ledger.operations})

    def after(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, given: tuple[Tensor, ...], result: Tensor) -> None:
            done, shapes = found.get(name, (0, (tuple(given[0].shape), tuple(result.shape))))
            found[name] = done + ledger.operations - begun[name], shapes

        return hook

    handles = [block.register_forward_pre_hook(before(name)) for name, block in blocks.items()]
    handles += [block.register_forward_hook(after(name)) for name, block in blocks.items()]
    try:
        with torch.no_grad(), _FusedAttention(ledger), ledger:
            call()
    finally:
        for handle in handles:
            handle.remove()
    return found


class _Ledger(TorchDispatchMode):
    """Counts operations, and the bytes of storages from when they come into being until nothing refers to them."""

    def __init__(self, free: Sequence[Tensor], given: Sequence[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.operations = self.alive = self.most = 0
        self._known: Any = WeakIdKeyDictionary()
        for tensor in free:
            self._known[tensor.untyped_storage()] = 0
        self.enter(given)

    def enter(self, values: object) -> None:
        """Count the tensors among `values` whose storage is new."""
        if isinstance(values, Tensor):
            storage = values.untyped_storage()
            if storage not in self._known:
                self._known[storage] = size = storage.nbytes()
                self.alive += size
                self.most = max(self.most, self.alive)
                weakref.finalize(storage, self._leave, size)
        elif isinstance(values, (tuple, list)):
            for value in values:
                self.enter(value)

    def _leave(self, size: int) -> None:
        self.alive -= size

    def __torch_dispatch__(
        self, operator: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        options = dict(kwargs or {})
        result = operator(*args, **options)
        count = flop_registry.get(operator._overloadpacket)
        if count is not None:
            self.operations += count(*args, **options, out_val=result)
        self.enter(result)
        return result


class _FusedAttention(TorchFunctionMode):
    """Attention as one operator that makes its result and nothing else."""

    def __init__(self, ledger: _Ledger) -> None:
        super().__init__()
        self._ledger = ledger

    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if function is not functional.scaled_dot_product_attention:
            return function(*args, **(kwargs or {}))
        query, key, value = args[:3]
        rows, heads, asked, width = query.shape
        self._ledger.operations += 2 * rows * heads * asked * key.shape[-2] * (width + value.shape[-1])
        return query.new_empty(rows, heads, asked, value.shape[-1])
