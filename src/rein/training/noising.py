"""How a picture is made noisy for training, what the network should answer, and what its errors count.

Sources: min-SNR, Hang et al. 2023; debiased, Yu et al. 2024 ("Unmasking Bias in Diffusion Model Training"); noise
offset, Guttenberg 2023, and pyramid noise, Whitaker 2023 (both reports on the web); Huber, Khrapov et al. 2024;
zero-terminal SNR, Lin et al. 2023.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass

import torch
from torch import Generator, Tensor
from torch.nn import functional

from rein.diffusion.levels import logit_normal_sigmas, min_snr_weight, training_pair, uniform_sigmas
from rein.diffusion.prediction import Prediction, find_prediction, per_picture
from rein.diffusion.schedule import FlowSchedule, NoiseSchedule, make_schedule
from rein.errors import InputError
from rein.nn.specs import ModelSpec
from rein.training.tables import NoiseTable

Answer = Callable[[Tensor, Tensor], Tensor]
"""`(network input (B, C, h, w), timesteps (B,)) -> the network's output (B, C, h, w)`."""

_LARGEST_WEIGHT = 1e3
"""Of the debiased loss: near pure noise the ratio has no end."""


@dataclass(frozen=True)
class NoiseLoss:
    """Draws levels and noise, asks the network, and counts its errors, one number a picture."""

    table: NoiseTable
    prediction: Prediction
    schedule: NoiseSchedule

    @classmethod
    def of(cls, table: NoiseTable, spec: ModelSpec) -> NoiseLoss:
        """For a model.

        Raises:
            InputError: options that exclude one another, or do not go with what the model predicts.
        """
        if table.min_snr and table.debiased:
            raise InputError("min_snr and debiased weigh the same errors in two ways: choose one")
        config = asdict(spec.schedule)
        if table.zero_terminal_snr:
            if spec.prediction == "epsilon":
                raise InputError("zero_terminal_snr: an epsilon model cannot answer for pure noise; it needs a v model")
            if spec.schedule.kind == "flow":
                raise InputError("zero_terminal_snr: a flow model is trained to pure noise as it is; leave it out")
            config["zero_terminal_snr"] = True
        return cls(table, find_prediction(spec.prediction), make_schedule(**config))

    def __call__(self, answer: Answer, x0: Tensor, generator: Generator, mask: Tensor | None = None) -> Tensor:
        """The error (B,) for latents x0 (B, C, h, w), each at one noise level; `mask` (B, 1, h, w) in [0, 1]."""
        sigma = self.levels(len(x0), generator)
        noise = self.noise(x0, generator)
        shown, target = training_pair(self.prediction, x0, noise, sigma)
        shown = shown.contiguous(memory_format=torch.channels_last)
        error = self._error(answer(shown, self.schedule.timestep(sigma)).float(), target)
        if mask is not None:
            floor = self.table.mask_floor
            error = error * (floor + (1 - floor) * mask)
        weight = self.weight(sigma)
        return (error if weight is None else error * per_picture(weight, error)).flatten(1).mean(1)

    def levels(self, count: int, generator: Generator) -> Tensor:
        """Noise levels (count,), one from each of `count` equal parts of their distribution."""
        if isinstance(self.schedule, FlowSchedule):
            table = self.table
            return logit_normal_sigmas(self.schedule, count, generator, table.time_mean, table.time_deviation, True)
        return uniform_sigmas(self.schedule, count, generator, stratified=True)

    def noise(self, x0: Tensor, generator: Generator) -> Tensor:
        """Noise like x0, white unless the table asks for an offset or a pyramid; the pyramid keeps unit variance."""
        place = generator.device
        white = torch.randn(x0.shape, generator=generator, device=place)
        noise = white
        if self.table.pyramid:
            noise, share, (height, width) = white.clone(), 1.0, x0.shape[-2:]
            while min(height, width) > 1:
                share *= self.table.pyramid
                height, width = max(1, height // 2), max(1, width // 2)
                coarse = torch.randn((*x0.shape[:2], height, width), generator=generator, device=place)
                noise += share * functional.interpolate(coarse, x0.shape[-2:], mode="bilinear")
            noise = noise / noise.flatten(1).std(1).reshape(-1, 1, 1, 1)
        if self.table.noise_offset:
            shift = torch.randn((*x0.shape[:2], 1, 1), generator=generator, device=place)
            noise = noise + self.table.noise_offset * shift
        return noise

    def weight(self, sigma: Tensor) -> Tensor | None:
        """What errors of the network's output count at levels sigma (B,); None where all count the same."""
        if self.table.min_snr:
            return min_snr_weight(self.prediction, sigma, self.table.min_snr)
        if not self.table.debiased:
            return None
        # Of the error of epsilon the paper's weight is 1 / sqrt(SNR) = sigma; an error of the output is one of
        # output_scale / sigma in epsilon.
        scale = self.prediction.output_scale(sigma) / sigma
        return (sigma * scale**2).clamp(max=_LARGEST_WEIGHT)

    def _error(self, answer: Tensor, target: Tensor) -> Tensor:
        difference = answer - target
        if self.table.loss == "mse":
            return difference.square()
        if self.table.loss == "l1":
            return difference.abs()
        # Smooth in between: as the square for small errors, as the distance for large ones.
        bound = self.table.huber
        squared = difference.square()
        return 2 * bound * squared / ((squared + bound**2).sqrt() + bound)
