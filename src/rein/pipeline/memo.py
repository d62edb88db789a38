"""What several pictures have in common, computed once: texts that towers have read, pictures made into latents.

A `Job` has one for its pictures and passes; a sheet hands one to all of its cells. What is kept is what would be
computed again, so pictures are the same to the last bit with and without.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar
from weakref import WeakKeyDictionary

import torch
from PIL import Image
from torch import Tensor, nn

from rein.formats.checkpoint import LoadedModel
from rein.masks import Array
from rein.nn.clip import TextFeatures, TextTower
from rein.nn.seamless import Axes
from rein.pipeline.adapters import Chosen
from rein.pipeline.depth import estimate_depth
from rein.pipeline.encode import encode_pixels
from rein.text.reading import Recall

_Value = TypeVar("_Value")

MOST_TEXTS, MOST_PICTURES = 64, 16
"""How many are kept: windows of a tower (one of SDXL's takes up to 6 MB), latents and depth maps."""


class Memo:
    """Results by what they were made of; those used last are kept. Networks that are gone take theirs with them."""

    def __init__(self) -> None:
        self._texts: WeakKeyDictionary[nn.Module, _Latest[TextFeatures]] = WeakKeyDictionary()
        self._latents: WeakKeyDictionary[nn.Module, _Latest[Tensor]] = WeakKeyDictionary()
        self._depths: _Latest[Array] = _Latest(MOST_PICTURES)

    def reader(self, chosen: Chosen) -> Callable[[TextTower], Recall]:
        """For each tower, what it has said of windows with these adapters and learned words.

        What is not finite is not kept: whoever looks for the reason must see the tower at work.
        """

        def of(tower: TextTower) -> Recall:
            kept = self._texts.setdefault(tower, _Latest(MOST_TEXTS))
            return lambda key, make: kept.recalled((chosen.reading, key), make, _is_finite)

        return of

    def encoded(self, parts: LoadedModel, pixels: Tensor, tile: int | None, axes: Axes) -> Tensor:
        """See `rein.pipeline.encode.encode_pixels`."""
        kept = self._latents.setdefault(parts.autoencoder, _Latest(MOST_PICTURES))
        content = hashlib.sha256(pixels.cpu().numpy().tobytes()).hexdigest()
        key = (content, tuple(pixels.shape), tile, axes)
        return kept.recalled(key, lambda: encode_pixels(parts, pixels, tile, axes))

    def nearness(self, folder: str, picture: Image.Image) -> Array:
        """See `rein.pipeline.depth.estimate_depth`."""
        key = (folder, picture.size, hashlib.sha256(picture.tobytes()).hexdigest())
        return self._depths.recalled(key, lambda: estimate_depth(folder, picture))


class _Latest(Generic[_Value]):
    """The values of the keys that were asked for last."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._kept: OrderedDict[Hashable, _Value] = OrderedDict()

    def recalled(
        self, key: Hashable, make: Callable[[], _Value], is_worth_keeping: Callable[[_Value], bool] = lambda value: True
    ) -> _Value:
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        value = make()
        if is_worth_keeping(value):
            self._kept[key] = value
            if len(self._kept) > self._most:
                self._kept.popitem(last=False)
        return value


def _is_finite(features: TextFeatures) -> bool:
    return all(bool(torch.isfinite(state).all()) for state in (*features.hidden, features.last, features.pooled))
