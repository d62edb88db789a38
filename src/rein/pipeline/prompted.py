"""A U-Net whose words are fixed: what is the same at every step is computed once, before the first."""

from __future__ import annotations

import torch
from torch import Tensor

from rein.diffusion.prediction import find_prediction
from rein.diffusion.schedule import NoiseSchedule
from rein.formats.checkpoint import LoadedModel
from rein.nn.attention import TextKeys
from rein.nn.unet import TimeShifts, UNet
from rein.pipeline.doctor import Doctor
from rein.text.encode import Conditioning

_LEVELS_AT_ONCE = 64
"""Time embeddings are computed for so many noise levels together; those of SDXL take 10 MB."""


class PromptedNetwork:
    """A `Denoiser` made of a U-Net and fixed words: (x (B, C, h, w), sigma ()) -> x0 (B, C, h, w).

    B is a multiple of the rows of `words`; row i guides the i-th part of the batch. Keys and values of the words are
    computed here, time embeddings for the levels of `sigmas` in advance; another level may be asked for.

    `guidance` is the scale that a network with `guidance_width` is asked to answer for.
    """

    def __init__(
        self,
        parts: LoadedModel,
        words: Conditioning,
        schedule: NoiseSchedule,
        sigmas: Tensor,
        guidance: float | None = None,
        doctor: Doctor | None = None,
    ) -> None:
        self._unet = parts.unet
        self._doctor = doctor or Doctor()
        self._dtype = parts.dtype
        self._words = words
        self._schedule = schedule
        self._prediction = find_prediction(parts.spec.prediction)
        self._keys = parts.unet.text_keys(words.context)
        self._repeated: dict[int, TextKeys] = {1: self._keys}
        self._sigmas = sigmas[sigmas > 0]
        self._places = {sigma: place for place, sigma in enumerate(self._sigmas.tolist())}
        self._chunk = -1
        self._guidance = None if guidance is None else torch.tensor([guidance], device=words.context.device)
        self._shifts: list[TimeShifts] = []

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        repeats = x.shape[0] // len(self._words)
        shifts = self._time_shifts(sigma)
        if repeats > 1:
            shifts = {name: _repeat(shift, repeats) for name, shift in shifts.items()}
        seen = self._prediction.network_input(x, sigma)
        if self._words.extra is not None:
            seen = torch.cat([seen, _repeat(self._words.extra.to(seen), repeats).expand(len(seen), -1, -1, -1)], dim=1)

        def ask(unet: UNet) -> Tensor:
            if unet is self._unet:
                shown = seen.to(self._dtype, memory_format=torch.channels_last)
                out: Tensor = unet(shown, sigma, text_keys=self._text_keys(repeats), time_shifts=shifts)
            else:
                out = self._asked_anew(unet, seen, sigma)
            return out

        return self._prediction.x0(self._doctor.answer("the U-Net", self._unet, sigma, ask), x, sigma)

    def _asked_anew(self, unet: UNet, seen: Tensor, sigma: Tensor) -> Tensor:
        """Another copy of the network, asked without what was computed in advance: that may be what overflowed."""
        repeats, words, dtype = len(seen) // len(self._words), self._words, next(unet.parameters()).dtype
        keys = {
            name: (_repeat(k, repeats), _repeat(v, repeats))
            for name, (k, v) in unet.text_keys(words.context.to(dtype)).items()
        }
        pooled = None if words.pooled is None else words.pooled.to(dtype)
        [shifts] = unet.time_shifts(self._schedule.timestep(sigma.reshape(1)), pooled, words.size_ids, self._guidance)
        shifts = {name: _repeat(shift, repeats) for name, shift in shifts.items()}
        out: Tensor = unet(seen.to(dtype), sigma, text_keys=keys, time_shifts=shifts)
        return out

    def _time_shifts(self, sigma: Tensor) -> TimeShifts:
        place = self._places.get(float(sigma))
        if place is None:
            return self._shifts_of(sigma.reshape(1))[0]
        chunk, place = divmod(place, _LEVELS_AT_ONCE)
        if chunk != self._chunk:
            first = chunk * _LEVELS_AT_ONCE
            self._shifts, self._chunk = self._shifts_of(self._sigmas[first : first + _LEVELS_AT_ONCE]), chunk
        return self._shifts[place]

    def _shifts_of(self, sigmas: Tensor) -> list[TimeShifts]:
        timesteps = self._schedule.timestep(sigmas)
        return self._unet.time_shifts(timesteps, self._words.pooled, self._words.size_ids, self._guidance)

    def _text_keys(self, repeats: int) -> TextKeys:
        if repeats not in self._repeated:
            repeated = {name: (_repeat(k, repeats), _repeat(v, repeats)) for name, (k, v) in self._keys.items()}
            self._repeated = {1: self._keys, repeats: repeated}
        return self._repeated[repeats]


def _repeat(rows: Tensor, times: int) -> Tensor:
    """Every row `times` times; a single row serves any batch as it is."""
    return rows if rows.shape[0] == 1 else rows.repeat_interleave(times, 0)
