"""Adapters written a second time, from the papers: in float64, entry by entry, and acting beside the layers.

Sources: Hu et al. 2021 (LoRA), section 4.1; Hyeon-Woo et al. 2021 (FedPara), proposition 1; Yeh et al. 2023 (LyCORIS),
sections 3 and B; Liu et al. 2024 (DoRA), equation 5; Liu et al. 2022 (IA3), section 3.3.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from rein.nn.adapters import Change, Place

Array = NDArray[np.float64]


def _array(tensor: Tensor) -> Array:
    return tensor.double().numpy()


def _through_core(core: Array, outer: Array, inner: Array) -> Array:
    """The sum over p, q of core[p, q] outer[p, o] inner[q, i], by products along one mode after the other."""
    mixed = np.tensordot(outer.T, core, axes=(1, 0))  # (out, q, ...)
    return np.moveaxis(np.tensordot(inner.T, mixed, axes=(1, 1)), 0, 1)


def _half(tensors: Mapping[str, Array], factor: str, core: str) -> Array:
    a, b = tensors[f"{factor}_a"], tensors[f"{factor}_b"]
    return _through_core(tensors[core], a, b) if core in tensors else np.einsum("or,ri->oi", a, b)


def _lora(tensors: Mapping[str, Array], weight: Array) -> Array:
    up, down = tensors["up"].reshape(len(tensors["up"]), -1), tensors["down"]
    if "mid" in tensors:
        return _through_core(tensors["mid"], up.T, down.reshape(len(down), -1))
    return np.tensordot(up, down, axes=(1, 0))


def _loha(tensors: Mapping[str, Array], weight: Array) -> Array:
    return _half(tensors, "w1", "t1") * _half(tensors, "w2", "t2")


def _lokr(tensors: Mapping[str, Array], weight: Array) -> Array:
    first = tensors["w1"] if "w1" in tensors else _half(tensors, "w1", "none")
    second = tensors["w2"] if "w2" in tensors else _half(tensors, "w2", "t2")
    out = np.zeros((first.shape[0] * second.shape[0], first.shape[1] * second.shape[1], *second.shape[2:]))
    for row in range(out.shape[0]):
        for column in range(out.shape[1]):
            upper, lower = divmod(row, second.shape[0])
            left, right = divmod(column, second.shape[1])
            out[row, column] = first[upper, left] * second[lower, right]
    return out


_FORMULAS: dict[str, Callable[[Mapping[str, Array], Array], Array]] = {
    "lora": _lora,
    "loha": _loha,
    "lokr": _lokr,
    "full": lambda tensors, weight: tensors["difference"],
    "ia3": lambda tensors, weight: np.einsum(
        "oi...,oi->oi...", weight, np.broadcast_to(tensors["gain"], weight.shape[:2])
    ),
    "bias": lambda tensors, weight: np.zeros_like(weight),
}


def reference(change: Change, weight: Tensor) -> Array:
    """dW of a change, in float64."""
    tensors = {role: _array(tensor) for role, tensor in change.tensors.items()}
    base = _array(weight)
    delta = change.scale * _FORMULAS[change.kind](tensors, base).reshape(base.shape)
    if "magnitude" not in tensors:
        return delta
    total, magnitude = base + delta, tensors["magnitude"]
    for index in range(magnitude.size):
        chosen: Any = np.s_[index] if magnitude.shape[1] == 1 else np.s_[:, index]
        total[chosen] *= magnitude.flat[index] / np.sqrt((total[chosen] ** 2).sum())
    return total - base


def _beside(layer: nn.Module, change: Change, x: Tensor) -> Tensor:
    """What an adapter adds to the output of a layer, by layers of its own where it is plain LoRA."""
    if isinstance(layer, nn.Conv2d):
        where: dict[str, Any] = {"stride": layer.stride, "padding": layer.padding}
        if change.kind == "lora" and "magnitude" not in change.tensors:
            up, down = change.tensors["up"], change.tensors["down"]
            if "mid" not in change.tensors:
                return functional.conv2d(functional.conv2d(x, down, **where), up) * change.scale
            inner = functional.conv2d(functional.conv2d(x, down), change.tensors["mid"], **where)
            return functional.conv2d(inner, up) * change.scale
        delta = torch.from_numpy(reference(change, layer.weight)).to(x.dtype)
        return functional.conv2d(x, delta, **where)
    assert isinstance(layer, nn.Linear)
    if change.kind == "lora" and not change.tensors.keys() & {"magnitude", "mid"}:
        return functional.linear(functional.linear(x, change.tensors["down"]), change.tensors["up"]) * change.scale
    if change.kind == "ia3":
        return functional.linear(x, layer.weight) * change.tensors["gain"].flatten()
    return functional.linear(x, torch.from_numpy(reference(change, layer.weight)).to(x.dtype))


@contextlib.contextmanager
def injected(parts: Mapping[str, nn.Module], uses: Sequence[tuple[Mapping[Place, Change], float]]) -> Iterator[None]:
    """Within the block, adapters act beside the layers; no weight is touched."""

    def hook(change: Change, strength: float) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], Tensor]:
        def add(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
            extra = _beside(layer, change, inputs[0])
            if "bias" in change.tensors:
                extra = extra + (change.tensors["bias"] if extra.ndim < 4 else change.tensors["bias"][:, None, None])
            return output + strength * extra

        return add

    handles = [
        parts[place[0]].get_submodule(place[1]).register_forward_hook(hook(change, strength))
        for changes, strength in uses
        for place, change in changes.items()
        if place[0] in parts
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
