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
        scale: the guidance scale.
        weights: of the parts of the prompt that AND joins; (1.0,) for one.
    """

    parts: LoadedModel
    latent_size: tuple[int, int]
    scale: float
    weights: tuple[float, ...] = (1.0,)
    evaluations: list[Evaluation] = field(default_factory=list)
    attention: list[LayerMaps] = field(default_factory=list)
    overhead: float = 0.0
    """Seconds spent looking, which are not the picture's."""
    _outputs: list[Tensor] = field(default_factory=list)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Within the block the networks are watched; what was seen before is forgotten."""
        self.evaluations, self.attention, self.overhead = [], [], 0.0
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

        def noted(x: Tensor, sigma: Tensor) -> Tensor:
            self._outputs = []
            denoised = denoise(x, sigma)
            wait_for(x.device)
            began = time.perf_counter()
            self.evaluations.append(self._evaluation(x, sigma, denoised))
            self.overhead += time.perf_counter() - began
            return denoised

        return noted

    def _answered(self, module: Any, arguments: tuple[Tensor, ...], output: Tensor) -> None:
        self._outputs.append(output)

    def _probe(self, name: str) -> Callable[[Tensor, Tensor], None]:
        def probe(query: Tensor, key: Tensor) -> None:
            if self.evaluations or self._outputs:
                return  # of samplers that ask twice, and of several passes, the first is what the step begins with
            wait_for(query.device)
            began = time.perf_counter()
            # The prompt, of several parts the last, is the last row of the batch (`rein.pipeline.network`).
            self.attention.append(layer_maps(name, query[-1:], key[-1:], self.latent_size))
            self.overhead += time.perf_counter() - began

        return probe

    def _evaluation(self, x: Tensor, sigma: Tensor, denoised: Tensor) -> Evaluation:
        rows = torch.cat(self._outputs) if self._outputs else x[:0]
        if len(rows) < 2:
            return Evaluation(_kept(x[0]), float(sigma), _kept(denoised[0]), _kept(denoised[0]), None)
        prediction = find_prediction(self.parts.spec.prediction)
        unwanted, *parts = prediction.x0(rows, x.expand(len(rows), -1, -1, -1), sigma.to(x.device)).split(1)
        if len(self._outputs) == 1 and len(parts) == len(self.weights):
            wanted = parts[0] if self.weights == (1.0,) else unwanted
            if self.weights != (1.0,):  # Liu et al. 2022, eq. 11, as the pipeline joins parts
                for part, weight in zip(parts, self.weights, strict=True):
                    wanted = wanted + weight * (part - unwanted)
        else:  # parts of other lengths come in another order; guidance is linear, so it can be undone
            wanted = unwanted + (denoised - unwanted) / self.scale if self.scale else denoised
        return Evaluation(_kept(x[0]), float(sigma), _kept(denoised[0]), _kept(wanted[0]), _kept(unwanted[0]))


def wait_for(device: torch.device) -> None:
    """Let a GPU finish what it was given, so that the clock tells whose time it is."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _kept(latents: Tensor) -> Tensor:
    """A copy of its own on the CPU, which later changes in place cannot reach."""
    return latents.detach().to("cpu", torch.float32, copy=True)
