"""Where a tensor lies in a file, in whichever container the file is."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rein.formats.header import TYPES


@dataclass(frozen=True, slots=True)
class PlacedTensor:
    """A tensor in a file.

    Fields:
        dtype: a name of `rein.formats.header.TYPES`, such as "F16".
        shape: its extents.
        start: bytes from the beginning of the file to its first element.
        strides: elements from one index to the next in each dimension; None where rows follow one another.
    """

    dtype: str
    shape: tuple[int, ...]
    start: int
    strides: tuple[int, ...] | None = None

    @property
    def parameters(self) -> int:
        """How many numbers it holds."""
        return math.prod(self.shape)

    @property
    def bytes(self) -> int:
        """What its numbers take."""
        return self.parameters * TYPES[self.dtype][1]

    @property
    def span(self) -> int:
        """Bytes from its first element to the end of its last."""
        if self.strides is None or not self.parameters:
            return self.bytes
        last = sum((extent - 1) * stride for extent, stride in zip(self.shape, self.strides, strict=True))
        return (last + 1) * TYPES[self.dtype][1]


@dataclass(frozen=True, slots=True)
class Contents:
    """All that a file of weights says, without its numbers.

    Fields:
        tensors: by name.
        metadata: free texts, of a safetensors file.
        extras: plain values that lie beside the tensors of a pickle.
        inert: names of classes that a pickle asks for and that were not made.
        left_out: names of tensors beside the state that the file is for, such as an optimiser's.
        checksums: CRC-32 of stretches of the file, by their first byte and their length.
    """

    tensors: Mapping[str, PlacedTensor]
    metadata: Mapping[str, str] = field(default_factory=dict)
    extras: Mapping[str, Any] = field(default_factory=dict)
    inert: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    checksums: Mapping[tuple[int, int], int] = field(default_factory=dict)
