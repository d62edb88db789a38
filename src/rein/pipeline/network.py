"""A U-Net whose words are fixed: what is the same at every step is computed once, before the first."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from rein.diffusion.guidance import guided
from rein.diffusion.prediction import Denoiser, find_prediction
from rein.diffusion.schedule import NoiseSchedule
from rein.formats.checkpoint import LoadedModel
from rein.nn.attention import TextKeys
from rein.nn.unet import TimeShifts
from rein.pipeline.request import Request
from rein.text.encode import Conditioning, encode_texts

_LEVELS_AT_ONCE = 64
"""Time embeddings are computed for so many noise levels together; those of SDXL take 10 MB."""


class PromptedNetwork:
    """A `Denoiser` made of a U-Net and fixed words: (x (B, C, h, w), sigma ()) -> x0 (B, C, h, w).

    B is a multiple of the rows of `words`; row i guides the i-th part of the batch. Keys and values of the words are
    computed here, time embeddings for the levels of `sigmas` in advance; another level may be asked for.
    """

    def __init__(self, parts: LoadedModel, words: Conditioning, schedule: NoiseSchedule, sigmas: Tensor) -> None:
        self._unet = parts.unet
        self._dtype = parts.dtype
        self._words = words
        self._schedule = schedule
        self._prediction = find_prediction(parts.spec.prediction)
        self._keys = parts.unet.text_keys(words.context)
        self._repeated: dict[int, TextKeys] = {1: self._keys}
        self._sigmas = sigmas[sigmas > 0]
        self._places = {sigma: place for place, sigma in enumerate(self._sigmas.tolist())}
        self._chunk = -1
        self._shifts: list[TimeShifts] = []

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        repeats = x.shape[0] // len(self._words)
        shifts = self._time_shifts(sigma)
        if repeats > 1:
            shifts = {name: _repeat(shift, repeats) for name, shift in shifts.items()}
        shown = self._prediction.network_input(x, sigma).to(self._dtype, memory_format=torch.channels_last)
        output = self._unet(shown, sigma, text_keys=self._text_keys(repeats), time_shifts=shifts)
        return self._prediction.x0(output, x, sigma)

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
        return self._unet.time_shifts(self._schedule.timestep(sigmas), self._words.pooled, self._words.size_ids)

    def _text_keys(self, repeats: int) -> TextKeys:
        if repeats not in self._repeated:
            repeated = {name: (_repeat(k, repeats), _repeat(v, repeats)) for name, (k, v) in self._keys.items()}
            self._repeated = {1: self._keys, repeats: repeated}
        return self._repeated[repeats]


def _repeat(rows: Tensor, times: int) -> Tensor:
    """Every row `times` times; a single row serves any batch as it is."""
    return rows if rows.shape[0] == 1 else rows.repeat_interleave(times, 0)


def encode_request(parts: LoadedModel, request: Request) -> Conditioning:
    """What guides the U-Net: row 0 the negative prompt, row 1 the prompt.

    The prompt is alone where guidance scale 1 never asks for the other.
    """
    texts = [request.prompt] if request.guidance_scale == 1 else [request.negative_prompt, request.prompt]
    words = encode_texts(texts, parts.towers, parts.tokenizers)
    config = parts.spec.unet
    size_ids = None
    if config.size_ids:
        assert request.width is not None and request.height is not None
        # Podell et al. 2023, section 2.2: original size, crop, wanted size. Nothing of a new picture is cropped.
        sizes = [request.height, request.width, 0, 0, request.height, request.width]
        size_ids = torch.tensor([sizes] * len(texts), dtype=torch.float32, device=words.context.device)
    return Conditioning(words.context, words.pooled if config.pooled_width else None, size_ids)


def guided_denoiser(
    parts: LoadedModel, request: Request, words: Conditioning, schedule: NoiseSchedule, sigmas: Tensor
) -> Denoiser:
    """The denoiser of a request: the U-Net with its words and guidance.

    Both predictions of guidance come from one pass of a doubled batch, which is faster than two (measured).
    """

    def network(rows: Sequence[int]) -> PromptedNetwork:
        return PromptedNetwork(parts, words.select(rows), schedule, sigmas)

    conditional = network([len(words) - 1])
    if len(words) == 1:
        return conditional
    both = network([0, 1])

    def pair(x: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        unwanted, wanted = both(torch.cat([x, x]), sigma).chunk(2)
        return wanted, unwanted

    assert request.guidance_scale is not None
    return guided(
        pair,
        conditional,
        request.guidance_scale,
        request.guidance_rescale,
        request.guidance_interval,
        find_prediction(parts.spec.prediction),
    )
