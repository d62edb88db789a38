"""A pair of eyes on the networks while a picture is drawn: what they are asked, what they answer, where they look.

Nothing that is computed changes: forward hooks and the attentions' probe points only read. They are in place within
`Observer.watching` alone, so a model that nobody explains pays nothing, and a run that is left half-way leaves none.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from rein.diffusion.guidance import NegativeDenoiser, has_negative
from rein.diffusion.prediction import Denoiser, find_prediction
from rein.explain.heatmaps import LayerMaps, layer_maps
from rein.formats.checkpoint import LoadedModel
from rein.nn.attention import TransformerBlock


@dataclass(frozen=True, eq=False)
class Evaluation:
    """One question to the denoiser and its answers, all (C, h, w).

    Fields:
        x, sigma: the noisy latents that were shown, and their noise level.
        denoised: the answer that the sampler got.
        wanted: the answer with the words, as a picture.
        unwanted: the one with the negative or empty prompt; None where guidance did not ask for it.
    """

    x: Tensor
    sigma: float
    denoised: Tensor
    wanted: Tensor
    unwanted: Tensor | None


@dataclass
class Observer:
    """Watches the U-Net of `parts` at latents of `latent_size`; one run at a time.

    Fields:
        weights: of the parts of the prompt that AND joins; (1.0,) for one.
        picture_scale: of a model that edits pictures, how closely it keeps to its picture; None of others.
        kept: what a mask makes of an answer at a noise level; None where all is drawn.
        attention: where the tokens of each part were looked at, layer by layer, at the first evaluation.
    """

    parts: LoadedModel
    latent_size: tuple[int, int]
    weights: tuple[float, ...] = (1.0,)
    picture_scale: float | None = None
    kept: Denoiser | None = None
    evaluations: list[Evaluation] = field(default_factory=list)
    overhead: float = 0.0
    """Seconds spent looking, which are not the picture's."""
    _looked: dict[str, tuple[LayerMaps, ...]] = field(default_factory=dict)
    _outputs: list[Tensor] = field(default_factory=list)

    @property
    def attention(self) -> tuple[LayerMaps, ...]:
        """Where the tokens of each part were looked at in each layer, at the first evaluation."""
        return tuple(maps[part] for part in range(len(self.weights)) for maps in self._looked.values())

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Within the block the networks are watched; what was seen before is forgotten."""
        self.evaluations, self._looked, self.overhead = [], {}, 0.0
        unet, restored = self.parts.unet, []
        hook = unet.register_forward_hook(self._answered)
        try:
            for name, block in unet.named_modules():
                if isinstance(block, TransformerBlock):
                    restored.append((block.attn2, block.attn2.probe))
                    block.attn2.probe = self._probe(name)
            yield
        finally:
            hook.remove()
            for attention, before in restored:
                attention.probe = before

    def around(self, denoise: Denoiser) -> Denoiser:
        """The same denoiser; what it is asked and answers is noted."""
        return _NotedNegative(self, denoise) if has_negative(denoise) else _Noted(self, denoise)

    @contextmanager
    def asking(self, x: Tensor, sigma: Tensor) -> Iterator[list[Tensor]]:
        """Within the block the networks are asked, and the answer is put into the list."""
        self._outputs, answer = [], list[Tensor]()
        yield answer
        wait_for(x.device)
        began = time.perf_counter()
        self.evaluations.append(self._evaluation(x, sigma, answer[0]))
        self.overhead += time.perf_counter() - began

    def _answered(self, module: Any, arguments: tuple[Tensor, ...], output: Tensor) -> None:
        self._outputs.append(output)

    def _probe(self, name: str) -> Callable[[Tensor, Tensor], None]:
        def probe(query: Tensor, key: Tensor) -> None:
            rows = self._rows_with_words(len(query))
            if self.evaluations or not rows:
                return  # of samplers that ask twice, the first is what the step begins with
            wait_for(query.device)
            began = time.perf_counter()
            # Of several passes the last has the words: what they are led away from is asked before them.
            self._looked[name] = tuple(
                layer_maps(name, query[row : row + 1], key[row : row + 1], self.latent_size, part)
                for part, row in enumerate(rows)
            )
            self.overhead += time.perf_counter() - began

        return probe

    def _rows_with_words(self, rows: int) -> range:
        """Which rows of a pass are the parts of the prompt; none where they do not fit (`rein.pipeline.network`)."""
        parts = len(self.weights)
        return range(1, 1 + parts) if rows > parts else range(parts if rows == parts else 0)

    def _evaluation(self, x: Tensor, sigma: Tensor, denoised: Tensor) -> Evaluation:
        answers = self._both(x, sigma)
        if answers is None:
            return Evaluation(_kept(x[0]), float(sigma), _kept(denoised[0]), _kept(denoised[0]), None)
        wanted, unwanted = answers if self.kept is None else (self.kept(answer, sigma) for answer in answers)
        return Evaluation(_kept(x[0]), float(sigma), _kept(denoised[0]), _kept(wanted[0]), _kept(unwanted[0]))

    def _both(self, x: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor] | None:
        """The answers with and without the words, (1, C, h, w), as the pipeline makes them of the U-Net's rows."""
        rows = self._rows()
        if rows is None or not bool(torch.isfinite(rows).all()):
            return None
        prediction = find_prediction(self.parts.spec.prediction)
        unwanted, *parts = prediction.x0(rows, x.expand(len(rows), -1, -1, -1), sigma.to(x.device)).split(1)
        bare = None if self.picture_scale is None else parts.pop()
        wanted = parts[0]
        if self.weights != (1.0,):  # Liu et al. 2022, eq. 11
            wanted = unwanted
            for part, weight in zip(parts, self.weights, strict=True):
                wanted = wanted + weight * (part - unwanted)
        if bare is None or self.picture_scale is None:
            return wanted, unwanted
        base = bare + self.picture_scale * (unwanted - bare)  # Brooks et al. 2023, eq. 3
        return base + (wanted - unwanted), base

    def _rows(self) -> Tensor | None:
        """Answers to the negative prompt, to the parts, and to neither words nor picture; None where one was asked."""
        others, parts, outputs = 1 if self.picture_scale is None else 2, len(self.weights), self._outputs
        if outputs and len(outputs[-1]) == others + parts:
            return outputs[-1]
        if len(outputs) > 1 and (len(outputs[-2]), len(outputs[-1])) == (others, parts):
            return torch.cat([outputs[-2][:1], outputs[-1], outputs[-2][1:]])
        return None


@dataclass(frozen=True, eq=False)
class _Noted:
    """A denoiser, watched."""

    observer: Observer
    denoise: Denoiser

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        with self.observer.asking(x, sigma) as answer:
            answer.append(self.denoise(x, sigma))
        return answer[0]


@dataclass(frozen=True, eq=False)
class _NotedNegative(_Noted):
    """The same of a guided denoiser: see `rein.diffusion.guidance.NegativeDenoiser`."""

    denoise: NegativeDenoiser

    def with_negative(self, x: Tensor, sigma: Tensor, weight: float) -> tuple[Tensor, Tensor]:
        """Both answers; the guided one is noted."""
        with self.observer.asking(x, sigma) as answer:
            answer += self.denoise.with_negative(x, sigma, weight)
        return answer[0], answer[1]


def wait_for(device: torch.device) -> None:
    """Let a GPU finish what it was given, so that the clock tells whose time it is."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _kept(latents: Tensor) -> Tensor:
    """A copy of its own on the CPU, which later changes in place cannot reach."""
    return latents.detach().to("cpu", torch.float32, copy=True)
