"""Keeping parts of a picture while the rest is drawn: a wrapper round a denoiser.

A denoiser says which picture stands behind noisy latents. Where the picture is known that answer is the known picture,
so every sampler keeps it, at every noise level, whatever noise it adds (as Lugmayr et al. 2022, RePaint, without their
resampling; AUTOMATIC1111's web UI masks in the same place).
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass

from torch import Tensor

from rein.diffusion.guidance import NegativeDenoiser, has_negative
from rein.diffusion.prediction import Denoiser


@dataclass(frozen=True, eq=False)
class Mask:
    """Which latents are drawn.

    Fields:
        values: (1, 1, h, w) in [0, 1]; 1 is drawn, 0 stays as it is known.
        levels: noise levels of the steps, descending, where the mask is soft: a latent of value m is drawn in the last
            m of the steps only (Levin and Fried 2023, "Differential Diffusion"). Empty where values mix the two
            pictures.
    """

    values: Tensor
    levels: tuple[float, ...] = ()

    def at(self, sigma: float) -> Tensor:
        """The share of the drawn picture at a noise level, (1, 1, h, w)."""
        if not self.levels:
            return self.values
        done = bisect_left([-level for level in self.levels], -sigma * (1 + 1e-6)) / len(self.levels)
        return (self.values >= 1.0 - done - 1e-6).to(self.values)


@dataclass(frozen=True, eq=False)
class MaskedDenoiser:
    """What `masked` makes."""

    denoise: Denoiser
    known: Tensor
    mask: Mask

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        return self.kept(self.denoise(x, sigma), sigma)

    def kept(self, drawn: Tensor, sigma: Tensor) -> Tensor:
        """An answer (B, C, h, w) with the known parts in it."""
        share = self.mask.at(float(sigma)).to(drawn)
        return self.known.to(drawn) * (1.0 - share) + drawn * share


@dataclass(frozen=True, eq=False)
class MaskedNegativeDenoiser(MaskedDenoiser):
    """The same of a guided denoiser: see `rein.diffusion.guidance.NegativeDenoiser`."""

    denoise: NegativeDenoiser

    def with_negative(self, x: Tensor, sigma: Tensor, weight: float) -> tuple[Tensor, Tensor]:
        """Both pictures, with the known parts in them."""
        wanted, unwanted = self.denoise.with_negative(x, sigma, weight)
        return self.kept(wanted, sigma), self.kept(unwanted, sigma)


def masked(denoise: Denoiser, known: Tensor, mask: Mask) -> Denoiser:
    """A denoiser that draws where `mask` says and answers `known` (1 or B, C, h, w) elsewhere."""
    if has_negative(denoise):
        return MaskedNegativeDenoiser(denoise, known, mask)
    return MaskedDenoiser(denoise, known, mask)
