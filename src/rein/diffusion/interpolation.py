"""Between two tensors: along the straight line, or along the arc that keeps the length."""

from __future__ import annotations

import torch
from torch import Tensor

_NEARLY_PARALLEL = 0.9995
"""Mean cosine above which the arc is as good as its chord."""

_LEAST_SINE = 1e-4
"""Below it an arc is not told from its chord, or, between opposites, which of all arcs is meant."""


def lerp(start: Tensor, end: Tensor, share: float) -> Tensor:
    """The point at `share` (0 to 1) of the line from `start` to `end`; both ends exactly."""
    return start * (1 - share) + end * share


def slerp(start: Tensor, end: Tensor, share: float, dim: int | tuple[int, ...]) -> Tensor:
    """The point at `share` (0 to 1) of the arc from `start` to `end`; both ends exactly.

    Vectors lie along `dim`, and each turns by its own angle. Two noises whose vectors are long stay noise on the way,
    where the line between them would pass through less of it. Where they are nearly parallel the line is taken.

    Source: Shoemake 1985, section 3.3.
    """
    lengths = [torch.linalg.vector_norm(each, dim=dim, keepdim=True) for each in (start, end)]
    cosines = ((start / lengths[0]) * (end / lengths[1])).sum(dim, keepdim=True).clamp(-1, 1)
    if float(cosines.mean()) > _NEARLY_PARALLEL:
        return lerp(start, end, share)
    angles = torch.acos(cosines)
    sines = torch.sin(angles)
    arc = torch.sin((1 - share) * angles) / sines * start + torch.sin(share * angles) / sines * end
    return torch.where(sines > _LEAST_SINE, arc, lerp(start, end, share))
