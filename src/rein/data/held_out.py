"""What is kept from training, so that obedience can be measured on combinations never seen.

Membership is decided by a hash of the seed and the words, not by drawing lots over a list: the same pair is held out
whatever the number of concepts, so a small model and a large one keep back the same things.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache

from rein.data.colours import COLOUR_NAMES, COLOURS
from rein.data.icons import IconArt

MINIMUM_SHARE = 0.40
"""A thing can be recoloured when this part of its surface is of its main colour, in every style."""

NEAR_HUE = 28.0
"""Degrees within which a colour counts as the thing's own."""


class HeldOut:
    """Which (concept, style), (concept, colour) and (concept, concept) combinations are never trained on."""

    def __init__(self, art: IconArt) -> None:
        options = art.options
        self._seed, self._share = options.held_out_seed, options.held_out_share
        self._icons = [concept.icon for concept in art.concepts]
        styles = len(art.styles)
        self.styles: tuple[int | None, ...] = tuple(self._style(icon, styles) for icon in self._icons)
        """For each concept the one style in which it is never shown, or None."""
        self.colours: tuple[tuple[int, ...], ...] = tuple(_possible_colours(art, c) for c in range(len(self._icons)))
        """For each concept the colours it can be given, as places in `COLOURS`."""
        self.own_colours: tuple[frozenset[int], ...] = tuple(
            frozenset(k for k in self.colours[c] if _is_own(art, c, k)) for c in range(len(self._icons))
        )
        """For each concept the colours it has already in some style."""
        self.held_colours: tuple[frozenset[int], ...] = tuple(
            frozenset(k for k in self.colours[c] if k not in self.own_colours[c] and self._colour(c, k))
            for c in range(len(self._icons))
        )
        """For each concept the colours in which it is never shown; its own colour is not among them."""
        self.trained_colours: tuple[tuple[int, ...], ...] = tuple(
            tuple(k for k in possible if k not in held)
            for possible, held in zip(self.colours, self.held_colours, strict=True)
        )
        self.trained_styles: tuple[tuple[int, ...], ...] = tuple(
            tuple(s for s in range(styles) if s != held) for held in self.styles
        )

    def pair(self, first: int, second: int) -> bool:
        """Whether two concepts are never shown together; the order does not matter."""
        one, other = sorted((self._icons[first], self._icons[second]))
        return _chance(f"{self._seed}/pair/{one}/{other}") < self._share

    def _style(self, icon: str, styles: int) -> int | None:
        """At most one style of a concept; with a single style none, or the concept would never be trained."""
        if styles == 1 or _chance(f"{self._seed}/style/{icon}") >= self._share * styles:
            return None
        return int(_chance(f"{self._seed}/which/{icon}") * styles)

    def _colour(self, concept: int, colour: int) -> bool:
        return _chance(f"{self._seed}/colour/{self._icons[concept]}/{COLOUR_NAMES[colour]}") < self._share


@lru_cache(maxsize=1 << 18)
def _chance(text: str) -> float:
    """A number in [0, 1) made from a text, the same everywhere."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest()) / 2**64


def _possible_colours(art: IconArt, concept: int) -> tuple[int, ...]:
    """All colours for a thing with one main colour and a name without one, else none."""
    described = art.concepts[concept]
    if described.natural or not described.colourless_names:
        return ()
    if min(colour.share for colour in art.colours[concept]) < MINIMUM_SHARE:
        return ()
    return tuple(range(len(COLOURS)))


def _is_own(art: IconArt, concept: int, colour: int) -> bool:
    """Whether a thing has a colour already, in some style: then showing it proves nothing."""
    target = COLOURS[colour]
    for main in art.colours[concept]:
        if main.chroma == 0.0 or target.chroma < 0.02:
            if main.chroma < 0.03 and target.chroma < 0.02:
                return True
        elif abs((main.hue - target.hue + 180.0) % 360.0 - 180.0) < NEAR_HUE:
            return True
    return False
