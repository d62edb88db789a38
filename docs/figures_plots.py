"""Plots of the book: from formulas, and from measurements that are kept in data/. See figures.py."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from measured import GROUPS, SAMPLERS, measured, obeyed
from PIL import Image

from rein.diffusion.schedule import make_schedule
from rein.diffusion.spacing import spaced_sigmas
from rein.nn.specs import variant

DATA = Path(__file__).parent / "data"
LOSSES = DATA / "pocket-denoiser-loss.csv"
COLOURS = ("#3652c9", "#c2410c", "#0f766e", "#7a5cc2")


class Plot:
    """A plot in the making; `picture` is it when the block of `plot` has ended."""

    def __init__(self, axes: Any) -> None:
        self.axes = axes
        self.picture = Image.new("RGB", (1, 1))


@contextmanager
def plot(across: str, up: str, **settings: Any) -> Iterator[Plot]:
    """Axes to draw on, with labels; `settings` as those of matplotlib's axes."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 3.4), dpi=130, layout="constrained")
    axes.set(xlabel=across, ylabel=up, **settings)
    made = Plot(axes)
    yield made
    axes.grid(alpha=0.3)
    figure.canvas.draw()
    size = figure.canvas.get_width_height()
    made.picture = Image.frombytes("RGBA", size, bytes(figure.canvas.buffer_rgba())).convert("RGB")
    plt.close(figure)


def loss() -> Image.Image:
    """The denoiser's loss over the pictures it has seen, as the training run that was shipped wrote it."""
    with LOSSES.open(newline="", encoding="utf-8") as handle:
        rows = [(float(row["pictures"]), float(row["loss"])) for row in csv.DictReader(handle)]
    with plot("thousand pictures seen", "mean squared error of the flow") as made:
        made.axes.plot([pictures / 1000 for pictures, _ in rows], [value for _, value in rows], linewidth=1)
    return made.picture


def schedules() -> Image.Image:
    """The share of noise at each of twenty steps: of the embedded model, of it unshifted, and of SD 1.5."""
    pocket, older = variant("pocket").schedule, variant("sd15").schedule
    rows = {
        "pocket: even times, shifted by 5": ("linspace", make_schedule(**asdict(pocket))),
        "even times, not shifted": ("linspace", make_schedule("flow", shift=1.0)),
        "SD 1.5, Karras": ("karras", make_schedule(**asdict(older))),
        "SD 1.5, even times": ("linspace", make_schedule(**asdict(older))),
    }
    with plot("step", "share of noise: level / (1 + level)", xticks=range(0, 21, 4)) as made:
        for (label, (spacing, schedule)), colour in zip(rows.items(), COLOURS, strict=True):
            shares = [float(sigma / (1 + sigma)) for sigma in spaced_sigmas(spacing, 20, schedule)]
            made.axes.plot(range(21), shares, marker=".", color=colour, label=label)
        made.axes.legend(fontsize=8)
    return made.picture


def _obeyed(turned: str, label: str) -> Image.Image:
    """Shares with their intervals over the option that was turned, the other one being the usual."""
    with plot(label, "judge names what was asked for", ylim=(0, 1.03)) as made:
        for (group, name), colour in zip(GROUPS.items(), COLOURS, strict=False):
            rows = obeyed(turned, group)
            places = [row[turned] for row in rows]
            made.axes.plot(places, [row["right"] / row["total"] for row in rows], "o-", color=colour, label=name)
            low, high = ([row[end] for row in rows] for end in ("low", "high"))
            made.axes.fill_between(places, low, high, color=colour, alpha=0.15, linewidth=0)
        if turned == "steps":
            made.axes.set_xscale("log")
        made.axes.set_xticks(places, [f"{place:g}" for place in places])
        made.axes.minorticks_off()
        made.axes.legend(fontsize=8, loc="lower right")
    return made.picture


def obedience_steps() -> Image.Image:
    """Obedience over the number of steps."""
    return _obeyed("steps", "steps")


def obedience_guidance() -> Image.Image:
    """Obedience over the guidance scale."""
    return _obeyed("guidance", "guidance scale")


def distance() -> Image.Image:
    """Distance to the solution over the evaluations of the network."""
    rows = measured()["distance"]
    scales = {"xscale": "log", "yscale": "log"}
    with plot("evaluations of the guided network", "distance to the solution", **scales) as made:
        for (name, label), colour in zip(SAMPLERS.items(), COLOURS, strict=False):
            own = [row for row in rows if row["sampler"] == name]
            places = [row["evaluations"] for row in own]
            made.axes.plot(places, [row["distance"] for row in own], "o-", color=colour, label=label)
        ticks = (1, 2, 3, 5, 8, 12, 20, 50, 100)
        made.axes.set_xticks(ticks, [str(tick) for tick in ticks])
        made.axes.minorticks_off()
        made.axes.legend(fontsize=8)
    return made.picture


FIGURES: dict[str, Callable[[], Image.Image]] = {
    "loss": loss,
    "schedules": schedules,
    "obedience-steps": obedience_steps,
    "obedience-guidance": obedience_guidance,
    "distance": distance,
}
