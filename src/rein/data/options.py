"""What a set of captioned pictures is made of: every choice, in one frozen value."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from pathlib import Path

from rein.data.sources import ART_SOURCES, Source
from rein.errors import InputError, nearest, quoted

KINDS = ("plain", "colour", "background", "position", "count", "pair", "triple")
"""What a picture shows: one thing; in another colour; on a coloured ground; small, somewhere; several; two; three."""

_RANGES = {"size": (32, 512), "captions": (1, 64), "length": (1, 10**9), "concept_count": (1, 10**6)}


@dataclass(frozen=True)
class Mixture:
    """How often each kind of picture comes, as weights; they need not add up to 1."""

    plain: float = 0.40
    colour: float = 0.17
    background: float = 0.09
    position: float = 0.06
    count: float = 0.06
    pair: float = 0.17
    triple: float = 0.05

    def __post_init__(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            if not (math.isfinite(value) and value >= 0):
                raise InputError(f"mixture.{item.name} is {value}; it must be a number of at least 0")
        if sum(self.weights) == 0:
            raise InputError("mixture: all weights are 0; give at least one kind a weight")

    @property
    def weights(self) -> tuple[float, ...]:
        """In the order of `KINDS`."""
        return tuple(float(getattr(self, kind)) for kind in KINDS)


@dataclass(frozen=True)
class ArtOptions:
    """Which art, at which size, mixed how.

    `cache_folder` holds the archives and the rendered drawings; `concepts` is a list of concepts (None: the shipped
    one), of which the first `concept_count` are used; `size` is the side of a picture in pixels; `styles` are used out
    of those of `sources`; `seed` decides the pictures and `held_out_seed` what is never trained on; `length` is the
    number of pictures of a split that counts as one pass. `mirrored` is the share of things shown as in a mirror, of
    those that may be: words do not say which way a thing looks, and a small model learns faster when it need not guess.
    """

    cache_folder: Path = field(default=Path("~/.cache/rein/art"))
    concept_count: int = 330
    size: int = 128
    styles: tuple[str, ...] = tuple(source.style for source in ART_SOURCES if source.style)
    seed: int = 0
    mixture: Mixture = Mixture()
    length: int = 40_000
    captions: int = 4
    held_out_seed: int = 2024
    held_out_share: float = 0.10
    mirrored: float = 0.0
    concepts: Path | None = None
    sources: tuple[Source, ...] = ART_SOURCES

    def __post_init__(self) -> None:
        known = [source.style for source in self.sources if source.style]
        for style in self.styles:
            if style not in known:
                raise InputError(f"unknown style {quoted(style)}: {nearest(style, known)}")
        if not self.styles or len(set(self.styles)) != len(self.styles):
            raise InputError(f"styles is {list(self.styles)}; it must name each style at most once, and one at least")
        for name, (low, high) in _RANGES.items():
            if not low <= getattr(self, name) <= high:
                raise InputError(f"{name} is {getattr(self, name)}; it must be from {low} to {high}")
        for name, most in (("held_out_share", 0.5), ("mirrored", 1.0)):
            if not 0.0 <= getattr(self, name) <= most:
                raise InputError(f"{name} is {getattr(self, name)}; it must be from 0 to {most:g}")

    @property
    def folder(self) -> Path:
        """The cache folder with `~` resolved."""
        return Path(self.cache_folder).expanduser()

    @property
    def chosen_sources(self) -> tuple[Source, ...]:
        """The source of each style, in the order of `styles`."""
        by_style = {source.style: source for source in self.sources}
        return tuple(by_style[style] for style in self.styles)
