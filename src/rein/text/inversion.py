"""Learned words: vectors that stand in a prompt for a word of their own (textual inversion, Gal et al. 2022)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, eq=False)
class Embedding:
    """A learned word for every text tower of a model.

    Fields:
        name: how the prompt calls it; letters count the same in either case.
        vectors: of each tower, what takes the places of `len(embedding)` tokens: (n, width of the tower), float32.
    """

    name: str
    vectors: tuple[Tensor, ...]

    def __post_init__(self) -> None:
        lengths = {tensor.shape[0] for tensor in self.vectors if tensor.ndim == 2}
        if not self.name or len(lengths) != 1 or any(tensor.ndim != 2 for tensor in self.vectors):
            raise ValueError(f"an embedding needs a name and as many vectors in each tower, got {self.name!r}")

    def __len__(self) -> int:
        return int(self.vectors[0].shape[0])
