"""Where two traces part: the way to find why two versions, samplers or machines disagree."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rein.explain.file import STEP_TENSORS, Trace, relative_difference
from rein.html import Axis, Page, Series, chart, power, section, table, tag

PARTED = 1e-3
"""Relative difference from which two latents count as parted; rounding on another machine stays far below."""


@dataclass(frozen=True)
class StepDifference:
    """One step of the first trace beside the nearest of the second.

    `tensors`: the relative difference (see `relative_difference`) of each tensor that both have.
    """

    index: int
    other: int
    sigma: float
    other_sigma: float
    tensors: dict[str, float]

    @property
    def largest(self) -> float:
        """Of the latents and the predictions, whichever differs most."""
        return max(self.tensors.values(), default=math.nan)


@dataclass(frozen=True)
class Difference:
    """Two traces compared.

    Fields:
        settings: what was asked or used otherwise: name, first, second.
        words, noise: relative difference of the text tower's result, and of the starting noise.
        steps: those whose tensors both traces kept.
    """

    names: tuple[str, str]
    settings: tuple[tuple[str, str, str], ...]
    words: float | None
    noise: float
    steps: tuple[StepDifference, ...]

    @property
    def parting(self) -> StepDifference | None:
        """The first step that differs by more than `PARTED`."""
        return next((step for step in self.steps if step.largest > PARTED), None)

    def verdict(self) -> str:
        """One sentence."""
        if not any(step.largest > 0 for step in self.steps) and self.noise == 0:
            return "The two traces are equal to the last bit."
        if self.noise > PARTED:
            return "They part before the first step: their starting noise differs."
        if self.words is not None and self.words > PARTED:
            return "They part before the first step: the text towers gave other results."
        first = self.parting
        if first is None:
            largest = max((step.largest for step in self.steps), default=0.0)
            return f"They stay together: the largest relative difference is {largest:.1e}."
        what = max(first.tensors, key=lambda name: first.tensors[name])
        where = f"step {first.index + 1}, noise level {first.sigma:.4g}"
        return f"They part at {where}: {what} differs by {first.largest:.1e}."


def compare(one: Trace, other: Trace) -> Difference:
    """Compare two traces, step by step; steps of unlike noise levels are paired with the nearest."""
    words = [
        relative_difference(one.tensors[name], other.tensors[name])
        for name in one.tensors
        if name.startswith("tower.") and name.endswith(".hidden") and name in other.tensors
    ]
    pairs = [(step, _nearest(step, other.steps)) for step in one.steps]
    steps = [entry for first, second in pairs if (entry := _compared(one, other, first, second)) is not None]
    noise = relative_difference(one.tensors["noise"], other.tensors["noise"])
    names = (one.path.stem, other.path.stem)
    return Difference(names, tuple(_settings(one.facts, other.facts)), max(words, default=None), noise, tuple(steps))


def _nearest(step: dict[str, Any], others: Sequence[dict[str, Any]]) -> dict[str, Any]:
    def distance(other: dict[str, Any]) -> tuple[float, int]:
        levels = [max(float(entry["sigma"]), 1e-12) for entry in (step, other)]
        return abs(math.log(levels[0] / levels[1])), abs(step["index"] - other["index"])

    return min(others, key=distance)


def _compared(one: Trace, other: Trace, first: dict[str, Any], second: dict[str, Any]) -> StepDifference | None:
    mine, theirs = one.step(first["index"]), other.step(second["index"])
    tensors = {
        name: relative_difference(mine[name], theirs[name]) for name in STEP_TENSORS if name in mine and name in theirs
    }
    if not tensors:
        return None
    return StepDifference(first["index"], second["index"], first["sigma"], second["sigma"], tensors)


def _settings(one: dict[str, Any], other: dict[str, Any]) -> list[tuple[str, str, str]]:
    flat = [{**_flat(facts.get("request", {})), **_flat({k: facts.get(k) for k in _SHOWN})} for facts in (one, other)]
    names = dict.fromkeys([*flat[0], *flat[1]])
    shown = [(name, str(flat[0].get(name, "")), str(flat[1].get(name, ""))) for name in names]
    return [entry for entry in shown if entry[1] != entry[2]]


_SHOWN = ("rein", "torch", "device", "dtype", "model")


def _flat(values: dict[str, Any]) -> dict[str, Any]:
    """Nested values by dotted name."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= {f"{key}.{k}": v for k, v in _flat(value).items()} if isinstance(value, dict) else {key: value}
    return flat


HEAD = ("step", "noise level", *STEP_TENSORS)


def rows(found: Difference) -> list[list[str]]:
    """The table of steps: relative differences, or "" for a tensor that one of the two has not."""
    return [
        [
            str(step.index + 1) + ("" if step.index == step.other else f" / {step.other + 1}"),
            f"{step.sigma:.4g}" + ("" if step.sigma == step.other_sigma else f" / {step.other_sigma:.4g}"),
            *("" if name not in step.tensors else f"{step.tensors[name]:.2e}" for name in STEP_TENSORS),
        ]
        for step in found.steps
    ]


def diff_page(found: Difference) -> Page:
    """The comparison as a page: verdict, settings, plot, table."""
    page = Page(f"{found.names[0]} and {found.names[1]}: where two traces part", found.verdict())
    if found.settings:
        page.add(section("1", "What was asked otherwise", table(("", *found.names), found.settings)))
    else:
        page.add(section("1", "What was asked otherwise", tag("p", "Nothing: the settings are the same.")))
    beginnings = [("starting noise", f"{found.noise:.2e}")]
    if found.words is not None:
        beginnings.insert(0, ("states of the text tower", f"{found.words:.2e}"))
    page.add(section("2", "Before the first step", table(("", "relative difference"), beginnings)))
    series = [
        Series(
            name, [(step.index + 1, step.tensors[name]) for step in found.steps if name in step.tensors], "both", True
        )
        for name in ("latents", "wanted", "unwanted")
    ]
    across, up = Axis("step"), Axis("relative difference", log=True, shown=power)
    drawn = [row for row in series if any(value > 0 for _, value in row.points)]
    note = tag("p", "Length of the difference relative to the length of the latents; 1e-3 is a thousandth. ")
    plot = tag("div", chart(drawn, across, up), class_="card") if drawn else tag("p", "No step differs.")
    page.add(section("3", "Step by step", note, plot, table(HEAD, rows(found))))
    return page
