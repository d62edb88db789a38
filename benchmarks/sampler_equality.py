"""How far each sampler is from its references: the table in docs/samplers.md, generated.

    python -m benchmarks.sampler_equality [--k-diffusion FOLDER] [--write]

Every sampler runs step by step beside (a) its published formulas, written in other coordinates in `tests/diffusion`,
(b) diffusers' scheduler of the method, and (c), where a checkout of k-diffusion is given, its function, on a nonlinear
toy network, over schedules, predictions and shares of noise. A number is the largest relative error (largest difference
over largest value) after any step of any of these runs. The references and ours compute in float64, but for diffusers'
column, where ours is in float32 as it is used. Expected: below 1e-12 where both are in
float64, 3e-6 beside diffusers; DPM adaptive's choice of steps multiplies what timesteps in float32 round.
"""

from __future__ import annotations

import argparse
import importlib.util
import math
import sys
import types
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.common import print_table, put_table
from rein.diffusion.prediction import PREDICTIONS, NetworkDenoiser
from rein.diffusion.samplers import SAMPLERS, SamplerOptions
from rein.diffusion.schedule import DiscreteSchedule
from rein.diffusion.spacing import SPACINGS, spaced_sigmas
from tests.diffusion import equality
from tests.diffusion.toy import listed, network, unit_noise, worst

PAGE = Path(__file__).parent.parent / "docs" / "samplers.md"
KEPT = tuple(name for name, row in SPACINGS.items() if row.flow is not None)
"""Spacings that a flow has, too."""

FUNCTIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "euler": ("sample_euler", {}),
    "euler_ancestral": ("sample_euler_ancestral", {}),
    "heun": ("sample_heun", {}),
    "dpm_2": ("sample_dpm_2", {}),
    "dpm_2_ancestral": ("sample_dpm_2_ancestral", {}),
    "lms": ("sample_lms", {}),
    "dpm_fast": ("sample_dpm_fast", {}),
    "dpm_adaptive": ("sample_dpm_adaptive", {}),
    "dpmpp_2s_ancestral": ("sample_dpmpp_2s_ancestral", {}),
    "dpmpp_sde": ("sample_dpmpp_sde", {}),
    "dpmpp_2m": ("sample_dpmpp_2m", {}),
    "dpmpp_2m_sde": ("sample_dpmpp_2m_sde", {"solver_type": "midpoint"}),
    "dpmpp_2m_sde_heun": ("sample_dpmpp_2m_sde", {"solver_type": "heun"}),
    "dpmpp_3m_sde": ("sample_dpmpp_3m_sde", {}),
}
"""k-diffusion's function of each sampler."""


class Path1D:
    """A Brownian path in sigma whose increments are given noises: what k-diffusion's tree gives, for our draws.

    Asked for a part of an interval and then for the whole, it joins the parts.
    """

    def __init__(self, noises: Iterator[Tensor]) -> None:
        self.noises = noises
        self.parts: list[tuple[float, float, Tensor]] = []

    def __call__(self, start: Tensor, end: Tensor) -> Tensor:
        first, last = float(start), float(end)
        if not self.parts or not math.isclose(self.parts[0][0], first, rel_tol=1e-9):
            self.parts = []
        reached = self.parts[-1][1] if self.parts else first
        self.parts.append((reached, last, next(self.noises)))
        total = sum(noise * math.sqrt(high - low) for high, low, noise in self.parts)
        assert isinstance(total, Tensor)
        return total / math.sqrt(first - last)


def load_k_diffusion(folder: Path) -> Any:
    """k-diffusion's module of samplers alone. What it imports for other uses is not needed, and stood in for."""
    for name in ("torchdiffeq", "torchsde"):
        stand_in = types.ModuleType(name)
        stand_in.odeint = None  # type: ignore[attr-defined]
        sys.modules.setdefault(name, stand_in)
    package = types.ModuleType("k_diffusion")
    package.__path__ = [str(folder / "k_diffusion")]
    sys.modules["k_diffusion"] = package
    utils = types.ModuleType("k_diffusion.utils")
    utils.append_dims = lambda x, dims: x.reshape(*x.shape, *[1] * (dims - x.ndim))  # type: ignore[attr-defined]
    package.utils = utils  # type: ignore[attr-defined]
    sys.modules["k_diffusion.utils"] = utils
    spec = importlib.util.spec_from_file_location("k_diffusion.sampling", folder / "k_diffusion" / "sampling.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def k_diffusion_error(module: Any, name: str, spacing: str, prediction: str, eta: float) -> float:
    """Largest error beside k-diffusion's function; both in float64, from sigma 100 at most."""
    info, schedule = SAMPLERS[name], equality.schedule_of(prediction)
    sigmas = spaced_sigmas(spacing, equality.STEPS, schedule).double()
    sigmas[0] = min(float(sigmas[0]), 100.0)
    denoise = NetworkDenoiser(network, schedule, PREDICTIONS[prediction])
    start = PREDICTIONS[prediction].start(unit_noise(0).double(), sigmas[0])[: 1 if info.one_at_a_time else 2]
    noises = [noise[: len(start)].double() for noise in equality.NOISES]
    churn = {"s_churn": 20.0, "s_tmin": 0.1, "s_tmax": 5.0, "s_noise": 1.003} if "s_churn" in info.reads and eta else {}
    options = SamplerOptions(eta=eta if info.reads_eta else None, **churn)
    ours = [step.x for step in info.function(denoise, start, sigmas, listed(noises), options)]
    function, given = FUNCTIONS[name]
    extra: dict[str, Any] = given | churn
    if info.reads_eta:
        path = Path1D(iter(noises))
        extra |= {"eta": eta, "noise_sampler": path}
    # Churn is drawn by torch.randn_like in every step, used or not: hand out only what is used.
    used = iter(noises)
    inside = [churn and churn["s_tmin"] <= level <= churn["s_tmax"] for level in sigmas[:-1].tolist()]
    drawn = iter([next(used) if acts else torch.zeros_like(start) for acts in inside])
    module.torch = types.SimpleNamespace(**{**vars(torch), "randn_like": lambda x: next(drawn)})
    seen: list[Tensor] = []

    def model(x: Tensor, sigma: Tensor) -> Tensor:
        return denoise(x, sigma[0])

    def record(info: dict[str, Any]) -> None:
        seen.append(info["x"])

    call = partial(getattr(module, function), model, start, callback=record, disable=True, **extra)
    torch.set_default_dtype(torch.float64)  # for the levels that it makes tensors of itself
    if info.name == "dpm_fast":
        last = call(float(sigmas[-2]), float(sigmas[0]), len(sigmas) - 1)
    elif info.name == "dpm_adaptive":
        last = call(float(sigmas[-2]), float(sigmas[0]))
    else:
        last = call(sigmas)
    torch.set_default_dtype(torch.float32)
    if info.own_steps:  # the last of ours removes the lowest level's noise
        return worst(ours[-2], last)
    # Before a step that churns the callback has x with its noise already.
    compared = [(ours[place - 1], seen[place]) for place in range(1, len(seen)) if not inside[place]]
    return max(worst(mine, theirs) for mine, theirs in [*compared, (ours[-1], last)])


def largest(run: Callable[..., float], cases: list[tuple[Any, ...]]) -> str:
    """The largest error of all cases, and how many there were."""
    if not cases:
        return "none"
    return f"{max(run(*case) for case in cases):.0e} of {len(cases)}"


def rows(module: Any | None) -> Iterator[list[str]]:
    """Name, and largest error beside each reference."""
    for name, info in SAMPLERS.items():
        etas = (0.0, 0.5, 1.0) if info.reads_eta else (0.0,)
        own: list[tuple[Any, ...]] = []
        if name in equality.PUBLISHED:
            etas_there = equality.PUBLISHED[name].etas
            own = [(name, s, p, e) for s in KEPT for p in PREDICTIONS for e in etas_there]
        if name == "ddim_cfgpp":
            published = largest(
                equality.cfgpp_error, [(s, p, w) for s in KEPT for p in ("epsilon", "v", "x0") for w in (2.0, 7.5)]
            )
        else:
            published = largest(equality.published_error, own)
        peers: list[tuple[Any, ...]] = []
        if name in equality.PEERS:
            row = equality.PEERS[name]
            peers = [(name, s, p, _Patch()) for s in row.spacings for p in row.predictions]
        k_cases: list[tuple[Any, ...]] = []
        if module is not None and name in FUNCTIONS:
            shares = (0.0, 1.0) if "s_churn" in info.reads else etas
            k_cases = [(module, name, s, p, e) for s in KEPT for p in PREDICTIONS for e in shares]
        yield [info.label, published, largest(k_diffusion_error, k_cases), largest(equality.peer_error, peers)]


class _Patch:
    """Sets attributes for good: every case sets its own."""

    def setattr(self, target: Any, name: str, value: Any, /) -> None:
        setattr(target, name, value)


def main() -> None:
    """Print the table, and write it into the page."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--k-diffusion", type=Path, help="a checkout of github.com/crowsonkb/k-diffusion")
    parser.add_argument("--write", action="store_true", help="put the table into docs/samplers.md")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    assert isinstance(equality.schedule_of("epsilon"), DiscreteSchedule)
    module = None if options.k_diffusion is None else load_k_diffusion(options.k_diffusion)
    head = ["sampler", "published formulas", "k-diffusion", "diffusers"]
    table = list(rows(module))
    print_table(head, table)
    if options.write:
        put_table(PAGE, "equality", [head, *table])


if __name__ == "__main__":
    main()
