"""What adapters do to a layer's weights: the arithmetic of each kind, a row of `KINDS` each.

A layer has a weight W (out, in, ...) and perhaps a bias b (out,). An adapter of strength s makes them W + s dW and
b + s db. dW depends on W itself for some kinds; it is always that of the original W, so that the order of adapters does
not matter. All arithmetic is float32.

    lora   dW = up down, or a core between them: Hu et al. 2021, section 4.1; Tucker form: LyCORIS, Yeh et al. 2023
    loha   dW = (a1 b1) * (a2 b2), each entry by each: Hyeon-Woo et al. 2021 (FedPara), proposition 1 and, for cores, 3
    lokr   dW = the Kronecker product of two matrices, either of which may be a product itself: Yeh et al. 2023
    full   dW is given
    ia3    dW = W * gain, one gain a row or a column: Liu et al. 2022, section 3.3
    bias   db alone is given
    dora   a magnitude beside any of the others gives W + dW rows or columns of that length: Liu et al. 2024, equation 5
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

Place = tuple[str, str]
"""A layer: the part of the model ("unet", "tower", "tower_2") and the path of the module in it."""

Tensors = Mapping[str, Tensor]


@dataclass(frozen=True, eq=False)
class Change:
    """What an adapter does to one layer.

    Fields:
        kind: a key of `KINDS`.
        tensors: by role, in any precision; which roles there are, `KINDS` says. With any kind may come:
            "magnitude" (out, 1) or (1, in): DoRA;
            "bias" (out,): a difference of the bias;
            "bias_gain" (out,): the bias is multiplied by 1 + this;
            "up_bias" (out,): a difference of the bias that `scale` multiplies.
        scale: what multiplies dW; alpha / rank where there is an alpha.
    """

    kind: str
    tensors: Tensors
    scale: float = 1.0


@dataclass(frozen=True)
class Kind:
    """How a kind of adapter is recognised and computed.

    Fields:
        needs: sets of roles, of which one must be there in full.
        may: roles that may be there besides.
        rank: roles whose first extent is the rank that alpha is divided by; () where alpha means nothing.
        product: (tensors, W) -> dW before `scale`, of W's shape or flattened behind its first extent.
    """

    needs: tuple[frozenset[str], ...]
    may: frozenset[str]
    rank: tuple[str, ...]
    product: Callable[[Tensors, Tensor], Tensor]

    def rank_of(self, tensors: Tensors) -> int | None:
        """The rank of such a change, None where it has none."""
        return next((tensors[role].shape[0] for role in self.rank if role in tensors), None)


def _tucker(core: Tensor, outer: Tensor, inner: Tensor) -> Tensor:
    """Core (p, q, ...), outer (p, out), inner (q, in) -> (out, in, ...)."""
    return torch.einsum("pq...,po,qi->oi...", core, outer, inner)


def _lora(tensors: Tensors, weight: Tensor) -> Tensor:
    up, down = tensors["up"].flatten(1), tensors["down"].flatten(1)
    return _tucker(tensors["mid"], up.t(), down) if "mid" in tensors else up @ down


def _pair(tensors: Tensors, factor: str, core: str) -> Tensor:
    """A matrix as the product of its two halves, or through a core."""
    a, b = tensors[f"{factor}_a"], tensors[f"{factor}_b"]
    return _tucker(tensors[core], a, b).flatten(1) if core in tensors else a @ b.flatten(1)


def _loha(tensors: Tensors, weight: Tensor) -> Tensor:
    first, second = _pair(tensors, "w1", "t1"), _pair(tensors, "w2", "t2")
    if first.shape != second.shape:
        raise ValueError(f"its factors {tuple(first.shape)} and {tuple(second.shape)} do not fit one another")
    return first * second


def _lokr(tensors: Tensors, weight: Tensor) -> Tensor:
    first = tensors["w1"] if "w1" in tensors else _pair(tensors, "w1", "t1")
    second = tensors["w2"].flatten(1) if "w2" in tensors else _pair(tensors, "w2", "t2")
    return torch.kron(first, second)


def _full(tensors: Tensors, weight: Tensor) -> Tensor:
    return tensors["difference"]


def _ia3(tensors: Tensors, weight: Tensor) -> Tensor:
    columns, gain = _columns(weight), tensors["gain"]
    if gain.shape not in ((columns.shape[0], 1), (1, columns.shape[1])):
        raise ValueError(f"its gain {tuple(gain.shape)} is not one number a row or a column")
    return columns * gain[..., None]


def _no_weight(tensors: Tensors, weight: Tensor) -> Tensor:
    return torch.zeros_like(weight)


def _roles(*names: str) -> frozenset[str]:
    return frozenset(names)


_LOKR_HALVES = [(_roles("w1"), _roles("w1_a", "w1_b")), (_roles("w2"), _roles("w2_a", "w2_b"))]

KINDS: dict[str, Kind] = {
    "lora": Kind((_roles("up", "down"),), _roles("mid", "up_bias"), ("down",), _lora),
    "loha": Kind((_roles("w1_a", "w1_b", "w2_a", "w2_b"),), _roles("t1", "t2"), ("w1_b",), _loha),
    "lokr": Kind(
        tuple(first | second for first in _LOKR_HALVES[0] for second in _LOKR_HALVES[1]),
        _roles("t2"),
        ("w1_b", "w2_b"),
        _lokr,
    ),
    "full": Kind((_roles("difference"),), _roles(), (), _full),
    "ia3": Kind((_roles("gain"),), _roles("bias_gain"), (), _ia3),
    "bias": Kind((_roles("bias"),), _roles(), (), _no_weight),
}

WITH_ANY = _roles("magnitude", "bias")
"""Roles that may stand beside any kind."""


def weight_change(change: Change, weight: Tensor) -> Tensor | None:
    """dW (the shape of `weight`, float32) of an adapter at strength 1, None where it leaves the weight as it is.

    Raises:
        ValueError: the tensors do not fit one another, or not the weight.
    """
    if change.kind == "bias" and "magnitude" not in change.tensors:
        return None
    base = weight.float()
    tensors = _computed(change, base.device)
    try:
        product = KINDS[change.kind].product(tensors, base)
    except (RuntimeError, IndexError) as error:
        raise ValueError("its tensors do not fit one another") from error
    # Only extents behind the first may be joined: 1x1 convolutions and linear layers are one matrix, files have either.
    if product.shape[:1] != base.shape[:1] or product.numel() != base.numel():
        raise ValueError(f"they give {tuple(product.shape)} where {tuple(base.shape)} is needed")
    delta = product.reshape(base.shape) * change.scale
    return _of_length(base + delta, tensors["magnitude"]) - base if "magnitude" in tensors else delta


def _of_length(weight: Tensor, magnitude: Tensor) -> Tensor:
    """`weight` with rows (magnitude (out, 1)) or columns (magnitude (1, in)) of a given length."""
    columns = _columns(weight)
    length = columns.norm(dim=(1, 2) if magnitude.shape[1] == 1 else (0, 2), keepdim=True)
    if magnitude.shape != length.shape[:2]:
        raise ValueError(f"its magnitude {tuple(magnitude.shape)} is not one number a row or a column")
    scaled: Tensor = columns * (magnitude[..., None] / length.clamp_min(torch.finfo(torch.float32).tiny))
    return scaled.reshape(weight.shape)


def _columns(weight: Tensor) -> Tensor:
    """(out, in, ...) as (out, in, rest)."""
    return weight.reshape(weight.shape[0], weight.shape[1], -1)


def bias_change(change: Change, bias: Tensor | None) -> Tensor | None:
    """db (out,), float32, of an adapter at strength 1; None where it has none.

    Raises:
        ValueError: it has one and the layer has no bias, or one of another length.
    """
    tensors = change.tensors
    if not tensors.keys() & {"bias", "up_bias", "bias_gain"}:
        return None
    if bias is None:
        raise ValueError("it changes a bias that the layer does not have")
    total = torch.zeros_like(bias, dtype=torch.float32)
    for role, factor in (("bias", 1.0), ("up_bias", change.scale), ("bias_gain", bias.float())):
        if role in tensors:
            if tensors[role].shape != bias.shape:
                raise ValueError(f"its bias {tuple(tensors[role].shape)} is not {tuple(bias.shape)}")
            total = total + tensors[role].to(bias.device, torch.float32) * factor
    return total


def _computed(change: Change, device: torch.device) -> dict[str, Tensor]:
    return {role: tensor.to(device, torch.float32) for role, tensor in change.tensors.items()}


def check_fit(change: Change, weight: tuple[int, ...], bias: bool) -> None:
    """See from shapes alone whether a change belongs to a layer with a weight of that shape.

    Raises:
        ValueError: it does not; the message says why.
    """
    on_paper = Change(change.kind, {r: torch.empty_like(t, device="meta") for r, t in change.tensors.items()})
    weight_change(on_paper, torch.empty(weight, device="meta"))
    bias_change(on_paper, torch.empty(weight[:1], device="meta") if bias else None)
