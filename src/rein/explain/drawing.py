"""The pictures of a page, each decoded once."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import cached_property

from PIL import Image
from torch import Tensor

from rein.explain.pictures import FalseColours, png, thumbnail
from rein.explain.records import StepRecord
from rein.explain.trace import Explanation
from rein.pipeline.decode import decode_latents

STEPS_SHOWN = 24
SECONDS_FOR_DECODING = 12.0
"""Large pictures decode slowly: then fewer steps are shown, and the page says so."""

_FEWEST = 5


@dataclass(frozen=True, eq=False)
class Shot:
    """A step with its decoded pictures, as WebP; `unwanted` is None where guidance did not ask."""

    record: StepRecord
    denoised: bytes
    wanted: bytes
    unwanted: bytes | None


class Drawing:
    """What a page shows of an explanation, computed when it is asked for."""

    def __init__(self, explanation: Explanation) -> None:
        self.explanation = explanation

    @property
    def image(self) -> Image.Image:
        """The finished picture."""
        return self.explanation.result.images[0]

    @cached_property
    def finished(self) -> bytes:
        """The file that `rein generate` writes, byte for byte."""
        return png(self.image)

    @cached_property
    def small(self) -> bytes:
        """What the decoder made, as a WebP to lay heat maps over: of a larger picture, the part that was drawn."""
        return thumbnail(self.drawn)

    @cached_property
    def drawn(self) -> Image.Image:
        """What was drawn: the finished picture, before it was laid into the one that was given."""
        explanation = self.explanation
        return self.decoded(explanation.kept[-1].latents) if explanation.beginning.part_of_source else self.image

    @cached_property
    def colours(self) -> FalseColours:
        """False colours that suit the finished latents."""
        return FalseColours(self.explanation.kept[-1].latents)

    @cached_property
    def decode_seconds(self) -> float:
        """How long the decoder takes for this picture."""
        began = time.perf_counter()
        self.decoded(self.explanation.kept[-1].latents)
        return time.perf_counter() - began

    @cached_property
    def shots(self) -> list[Shot]:
        """The steps that are shown, the first and the last among them."""
        kept = self.explanation.kept
        most = max(_FEWEST, int(SECONDS_FOR_DECODING / (3 * max(self.decode_seconds, 1e-3))))
        count = min(len(kept), STEPS_SHOWN, most)
        places = sorted({round(place * (len(kept) - 1) / max(count - 1, 1)) for place in range(count)})
        return [self._shot(kept[place]) for place in places]

    def _shot(self, record: StepRecord) -> Shot:
        denoised = thumbnail(self.decoded(record.denoised))
        if record.unwanted is None:
            return Shot(record, denoised, denoised, None)
        wanted, unwanted = (thumbnail(self.decoded(latents)) for latents in (record.wanted, record.unwanted))
        return Shot(record, denoised, wanted, unwanted)

    def decoded(self, latents: Tensor) -> Image.Image:
        """The picture of latents (C, h, w)."""
        parts = self.explanation.model.parts
        request = self.explanation.request
        return decode_latents(parts, latents[None].to(parts.device), request.tile, request.seamless)[0].image
