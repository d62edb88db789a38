"""What a network predicts, and how a denoiser is made of it. Training and sampling use the same four objects.

Shapes: x, x0, noise and network output (B, C, h, w); sigma a scalar () or one level a picture (B,). All float32.
Outside the network x = x0 + sigma * noise. Networks see x scaled: to unit variance ("variance preserving": epsilon,
v, x0) or to the straight line between picture and noise (flow). Each prediction is linear, so five coefficients
that depend on sigma alone say all of it:

| name    | network input    | target                           | x0                                       |
|---------|------------------|----------------------------------|------------------------------------------|
| epsilon | x / sqrt(1 + s²) | noise                            | x - s * output                           |
| v       | x / sqrt(1 + s²) | (noise - s * x0) / sqrt(1 + s²)  | x / (1 + s²) - s / sqrt(1 + s²) * output |
| x0      | x / sqrt(1 + s²) | x0                               | output                                   |
| flow    | x / (1 + s)      | noise - x0                       | x / (1 + s) - s / (1 + s) * output       |

Sources: epsilon, Ho et al. 2020, eq. 12; v, Salimans and Ho 2022, appendix D; flow, Liu et al. 2022, eq. 1.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from rein.diffusion.schedule import NoiseSchedule, sigma_to_time
from rein.errors import InputError, nearest, quoted

Denoiser = Callable[[Tensor, Tensor], Tensor]
"""`(x, sigma) -> x0`: the picture that noisy latents x (B, C, h, w) at noise level sigma () most likely came from."""

Network = Callable[[Tensor, Tensor], Tensor]
"""`(network input (B, C, h, w), timestep (B,)) -> network output (B, C, h, w)`."""

Coefficient = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Prediction:
    """One kind of prediction, as coefficients that depend on sigma alone.

    network input = `input_scale` * x;  x0 = `skip_scale` * x + `output_scale` * output;
    target = `target_picture` * x0 + `target_noise` * noise.
    """

    name: str
    input_scale: Coefficient
    skip_scale: Coefficient
    output_scale: Coefficient
    target_picture: Coefficient
    target_noise: Coefficient

    def network_input(self, x: Tensor, sigma: Tensor) -> Tensor:
        """x in the coordinates that the network was trained in."""
        return x * self.input_scale(per_picture(sigma, x))

    def x0(self, network_output: Tensor, x: Tensor, sigma: Tensor) -> Tensor:
        """The picture that the network's output says, x being the unscaled latents."""
        level = per_picture(sigma, x)
        return x * self.skip_scale(level) + network_output.to(x.dtype) * self.output_scale(level)

    def output(self, x0: Tensor, x: Tensor, sigma: Tensor) -> Tensor:
        """The network's output that says the picture x0: the inverse of `x0`."""
        level = per_picture(sigma, x)
        return (x0 - x * self.skip_scale(level)) / self.output_scale(level)

    def start(self, noise: Tensor, sigma: Tensor) -> Tensor:
        """The latents that the network sees as `noise` itself: where a picture made from words alone begins."""
        return noise / self.input_scale(per_picture(sigma, noise))

    def target(self, x0: Tensor, noise: Tensor, sigma: Tensor) -> Tensor:
        """What the network should have put out for the picture x0 under `noise` at `sigma`."""
        level = per_picture(sigma, x0)
        return x0 * self.target_picture(level) + noise * self.target_noise(level)


def per_picture(sigma: Tensor, x: Tensor) -> Tensor:
    """sigma () as it is, or (B,) as (B, 1, ..., 1), so that it multiplies x (B, ...) picture by picture."""
    return sigma if sigma.ndim == 0 else sigma.reshape(-1, *[1] * (x.ndim - 1))


def _unit(sigma: Tensor) -> Tensor:
    """1 / sqrt(1 + sigma²): what brings x to unit variance."""
    return torch.rsqrt(1.0 + sigma**2)


_zero: Coefficient = torch.zeros_like
_one: Coefficient = torch.ones_like

PREDICTIONS: dict[str, Prediction] = {
    row.name: row
    for row in (
        Prediction("epsilon", _unit, _one, lambda s: -s, _zero, _one),
        Prediction("v", _unit, lambda s: 1 / (1 + s**2), lambda s: -s * _unit(s), lambda s: -s * _unit(s), _unit),
        Prediction("x0", _unit, _zero, _one, _one, _zero),
        Prediction(
            "flow", lambda s: 1 / (1 + s), lambda s: 1 / (1 + s), lambda s: -sigma_to_time(s), lambda s: -_one(s), _one
        ),
    )
}
"""Every kind of prediction by name."""


def find_prediction(name: str) -> Prediction:
    """The prediction called `name`.

    Raises:
        InputError: there is none of that name.
    """
    if name not in PREDICTIONS:
        raise InputError(f"unknown prediction {quoted(name)}: {nearest(name, PREDICTIONS)}")
    return PREDICTIONS[name]


@dataclass(frozen=True)
class NetworkDenoiser:
    """A `Denoiser` made of a network, what it predicts, and the schedule it was trained with.

    The network gets float32 latents and one timestep a picture; what it returns may be of another float type.
    """

    network: Network
    schedule: NoiseSchedule
    prediction: Prediction

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        timestep = self.schedule.timestep(sigma).to(x.device).expand(x.shape[0])
        output = self.network(self.prediction.network_input(x, sigma), timestep)
        return self.prediction.x0(output, x, sigma)
