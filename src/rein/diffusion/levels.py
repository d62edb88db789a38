"""Training: the noise levels a network is trained at, what it is shown and asked there, what each level counts."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Generator, Tensor

from rein.diffusion.prediction import Prediction, per_picture
from rein.diffusion.schedule import DiscreteSchedule, FlowSchedule, shifted_time, time_to_sigma

_EDGE = 1e-6
"""Flow times are kept this far from 0 and 1, where the logit is infinite and the target of no use."""


class TrainingPair(NamedTuple):
    """What the network is shown and what it should answer, both (B, C, h, w) in the network's own coordinates."""

    network_input: Tensor
    target: Tensor


def training_pair(prediction: Prediction, x0: Tensor, noise: Tensor, sigma: Tensor) -> TrainingPair:
    """Input and target of the network for pictures x0 (B, C, h, w) under unit `noise` at levels `sigma` () or (B,).

    With a flow prediction: input (1 - t) x0 + t noise, target noise - x0.
    """
    x = x0 + per_picture(sigma, x0) * noise
    return TrainingPair(prediction.network_input(x, sigma), prediction.target(x0, noise, sigma))


def uniform_sigmas(schedule: DiscreteSchedule, count: int, generator: Generator, stratified: bool = False) -> Tensor:
    """Noise levels (count,) float32, every trained level equally likely (Ho et al. 2020, algorithm 1).

    They are on the generator's device, as in `logit_normal_sigmas`. With `stratified`, one is drawn from each of
    `count` equal parts of the table, which lowers the variance of the loss (Kingma et al. 2021, appendix I.1); the
    batch must then be in random order.
    """
    index = (_uniform(count, generator, stratified) * schedule.steps).long().clamp(max=schedule.steps - 1)
    return schedule.sigmas.to(index.device)[index]


def logit_normal_sigmas(
    schedule: FlowSchedule,
    count: int,
    generator: Generator,
    mean: float = 0.0,
    deviation: float = 1.0,
    stratified: bool = False,
) -> Tensor:
    """Noise levels (count,) float32 of flow times, logit-normal and then shifted (Esser et al. 2024, eq. 19 and 23).

    Args:
        mean: of the logit of t; above 0 trains more at high noise.
        deviation: of the logit of t, > 0; smaller gathers the times round the mean.
        stratified: see `uniform_sigmas`.
    """
    normal = torch.special.ndtri(_uniform(count, generator, stratified).clamp(_EDGE, 1 - _EDGE))
    time = torch.sigmoid(mean + deviation * normal).clamp(_EDGE, 1 - _EDGE)
    return time_to_sigma(shifted_time(time, schedule.shift))


def _uniform(count: int, generator: Generator, stratified: bool) -> Tensor:
    """Numbers (count,) in [0, 1), float32, on the generator's device."""
    drawn = torch.rand(count, generator=generator, device=generator.device)
    if not stratified:
        return drawn
    return (torch.arange(count, device=generator.device) + drawn) / count


def min_snr_weight(prediction: Prediction, sigma: Tensor, limit: float = 5.0) -> Tensor:
    """Weight of the squared error of the network's output at `sigma`, of sigma's shape (Hang et al. 2023, "Min-SNR").

    It weighs the error of x0 by min(SNR, `limit`) with SNR = 1 / sigma², whatever is predicted: for epsilon
    min(SNR, limit) / SNR, for v min(SNR, limit) / (SNR + 1). For sigma > 0.
    """
    return sigma.pow(-2).clamp(max=limit) * prediction.output_scale(sigma) ** 2
