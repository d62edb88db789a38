"""Step by step beside diffusers' schedulers: one run of a peer, in the coordinates of the code under test.

The peer computes with alpha-bar in float64 where it has such a table (its own float32 table errs by up to 1e-5 of a
sigma, see test_schedule) and gets its noise from a list. Its latents are converted: x = sqrt(1 + sigma²) times those
of a variance-preserving scheduler, 1 + sigma times those of a flow scheduler.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Iterable
from typing import Any, Literal

import numpy as np
import pytest
import torch
from torch import Tensor

from rein.diffusion.samplers import Step
from tests.diffusion.toy import network, worst

SD = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
SIGNAL = torch.from_numpy(np.cumprod(1 - np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2))
"""alpha-bar of Stable Diffusion's 1000 levels, float64."""

WORDS = {"epsilon": "epsilon", "v": "v_prediction", "x0": "sample", "flow": "flow_prediction"}
"""diffusers' names of the predictions."""

State = Literal["exploding", "preserving", "flow"]


def to_exploding(x: Tensor, sigma: Tensor, state: State) -> Tensor:
    """Latents of a peer in the coordinates x = x0 + sigma * noise, float64."""
    level = sigma.double()
    return (
        x.double()
        * {"exploding": torch.ones_like(level), "preserving": (1 + level**2).sqrt(), "flow": 1 + level}[state]
    )


def run_peer(scheduler: Any, start: Tensor, sigmas: Tensor, state: State) -> list[Tensor]:
    """The latents after every step of a scheduler whose timesteps are set, from its own `start`, converted.

    A second-order scheduler (Heun's) makes two of its steps for one of ours, but for the last.
    """
    results: list[Tensor] = []
    x, last = start, len(scheduler.timesteps) - 1
    for index, timestep in enumerate(scheduler.timesteps):
        scaled = scheduler.scale_model_input(x, timestep) if hasattr(scheduler, "scale_model_input") else x
        output = network(scaled, torch.as_tensor(timestep, dtype=torch.float32))
        x = scheduler.step(output, timestep, x, return_dict=False)[0]
        if getattr(scheduler, "state_in_first_order", True) or index == last:
            results.append(to_exploding(x, sigmas[len(results) + 1], state))
    return results


def inject(monkeypatch: pytest.MonkeyPatch, scheduler: Any, noises: Iterable[Tensor]) -> None:
    """Let the scheduler draw these noises in order (and zeros after them) instead of its own."""
    iterator = iter(noises)

    def draw(shape: object, dtype: torch.dtype, **kwargs: object) -> Tensor:
        drawn = next(iterator, None)
        return torch.zeros(*shape, dtype=dtype) if drawn is None else drawn.to(dtype)  # type: ignore[misc]

    monkeypatch.setattr(importlib.import_module(type(scheduler).__module__), "randn_tensor", draw)


def compare(ours: list[Step], theirs: list[Tensor]) -> float:
    """The largest relative error of any step, infinite where one is not a number. Prints all for a failing test."""
    errors = [worst(step.x, reference) for step, reference in zip(ours, theirs, strict=True)]
    print("relative error after each step:", ["%.1e" % error for error in errors])  # noqa: UP031
    return max(errors) if all(map(math.isfinite, errors)) else math.inf
