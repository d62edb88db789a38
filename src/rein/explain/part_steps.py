"""The page's parts on noise and steps: the beginning, the schedule, every step, guidance."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from rein.explain.drawing import Drawing, Shot
from rein.explain.network import unet_of
from rein.explain.network_drawing import count, network_svg
from rein.explain.pictures import heat, noise_picture
from rein.explain.records import StepRecord
from rein.explain.trace import Explanation
from rein.html import Axis, Content, Markup, Series, chart, figure, picture, power, tag


def noise_part(explanation: Explanation) -> list[Content]:
    """The starting noise as a picture, and its numbers beside the bell curve."""
    noise = explanation.noise
    channels, height, width = noise.shape
    request = explanation.request
    shown = picture(noise_picture(noise), "Coloured noise", class_="pixels")
    size = f"{channels} × {height} × {width} = {noise.numel():,} numbers"
    pixels = 3 * (request.width or 0) * (request.height or 0)
    caption = f"Seed {request.seed}: {size}, for a picture of {pixels:,}. Three of the {channels} layers, as colours."
    values = "How often each value occurs, beside the bell curve."
    if explanation.beginning.under_noise:
        caption += " The picture to start from is under it."
        values += " Where they differ, the picture shows through."
    return [
        tag(
            "div",
            figure(shown, caption, class_="card"),
            figure(_histogram(noise), values, class_="card"),
            class_="row",
        )
    ]


def _histogram(noise: Tensor) -> Markup:
    bins = 33
    counts = torch.histc(noise.clamp(-4, 4), bins=bins, min=-4, max=4)
    density = (counts / counts.sum() * bins / 8).tolist()
    centres = [-4 + 8 * (place + 0.5) / bins for place in range(bins)]
    bell = [(x / 20, math.exp(-((x / 20) ** 2) / 2) / math.sqrt(2 * math.pi)) for x in range(-80, 81)]
    series = [Series("this noise", list(zip(centres, density, strict=True)), "dots"), Series("bell curve", bell)]
    return chart(series, Axis("value"), Axis("share", low=0))


def schedule_part(explanation: Explanation) -> list[Content]:
    """Sigma and signal-to-noise along the model's schedule, the steps marked; the share of noise at every step."""
    times, sigmas = explanation.curve
    curve = [(-time, sigma) for time, sigma in zip(times, sigmas, strict=True)]
    dots = [(-step.timestep, step.sigma) for step in explanation.numbers]
    shares = [(step.index + 1.0, 100 * noise_share(step.sigma)) for step in explanation.numbers]
    series = [Series("the whole schedule", curve), Series("steps of this picture", dots, "dots", True)]
    if left := explanation.left_out:
        series.append(Series("left out", [(-time, sigma) for time, sigma in left], "dots"))
    levels = chart(
        series,
        Axis("timestep: what the network is told", high=0, shown=lambda value: f"{abs(value):g}"),
        Axis("sigma, noise level", log=True, shown=power),
        Axis("signal to noise, dB", shown=lambda sigma: f"{0.0 - 20 * math.log10(sigma):+.0f}"),
    )
    bars = chart(
        [Series("share of noise", shares, "bars", True)], Axis("step"), Axis("noise, % of the power", low=0, high=100)
    )
    return [
        tag(
            "div",
            figure(levels, "Left scale: sigma. Right scale: the same as signal to noise.", class_="card"),
            figure(bars, "How much of what the network sees is noise, step by step.", class_="card"),
            class_="row",
        )
    ]


def noise_share(sigma: float) -> float:
    """The share of noise in the power of x0 + sigma * noise, x0 being of unit variance."""
    return sigma**2 / (1 + sigma**2)


def steps_part(drawing: Drawing) -> list[Content]:
    """A slide for each step, and how the belief settled."""
    explanation, shots = drawing.explanation, drawing.shots
    total = len(explanation.numbers)
    slides = [_slide(shot, drawing, total) for shot in shots]
    parts: list[Content] = [tag("div", *slides, class_="slides card", data_label="Step")]
    if len(shots) < total:
        parts.append(tag("p", f"{len(shots)} of the {total} steps are shown here, at equal distances.", class_="note"))
    numbers = explanation.numbers
    changes = [(n.index + 1.0, math.nan if n.change is None else 100 * n.change) for n in numbers]
    times = [(n.index + 1.0, 1000 * n.seconds) for n in numbers]
    moved = chart([Series("change", changes, "both", True)], Axis("step"), Axis("change, %", low=0))
    spent = chart([Series("wall time", times, "bars", True)], Axis("step"), Axis("milliseconds", low=0))
    asked = sum(n.evaluations for n in numbers)
    whole = sum(n.seconds for n in numbers)
    settled = "How far the picture that the U-Net believes in moved since the step before."
    spending = f"Wall time of each step: {whole:.2f} s in all; the U-Net was asked {asked} times."
    parts.append(
        tag("div", figure(moved, settled, class_="card"), figure(spent, spending, class_="card"), class_="row")
    )
    return [*parts, _network(explanation)]


def _network(explanation: Explanation) -> Markup:
    """The U-Net, drawn from its own blocks at the size of this picture."""
    request = explanation.request
    assert request.width is not None and request.height is not None
    tokens = max(len(part.tokens) for part in explanation.words.parts)
    network = unet_of(explanation.model.parts, (request.width, request.height), tokens)
    words = f"The U-Net that is asked: {len(network.blocks)} blocks, {count(network.parameters)} parameters"
    drawn = tag("div", network_svg(network), class_="wide")
    return tag("details", tag("summary", words), drawn)


def _slide(shot: Shot, drawing: Drawing, total: int) -> Markup:
    record = shot.record
    name = f"step {record.index + 1} of {total}"
    latents = picture(drawing.colours.picture(seen_latents(record)), f"Latents at {name}", class_="pixels")
    shots = [
        _shot(shot.denoised, f"What the U-Net, guided, says is the finished picture, at {name}", "main"),
        figure(latents, "The latents as they are, in false colours"),
        _shot(shot.wanted, "Its answer with the words" if shot.unwanted else "Its answer: guidance is off"),
    ]
    if shot.unwanted is not None:
        shots.append(_shot(shot.unwanted, "Its answer without the words"))
        added = heat(record.added.double().square().sum(dim=0).sqrt())
        shots.append(
            figure(picture(added, f"Where guidance acted at {name}", class_="pixels"), "What guidance added: where")
        )
    return tag(
        "div",
        tag("div", *shots, class_="shots"),
        tag("p", *_facts(shot), class_="facts"),
        class_="slide",
        data_step=record.index,
        data_name=name,
    )


def seen_latents(record: StepRecord) -> Tensor:
    """The latents (C, h, w) that a step begins with, brought to about unit variance."""
    return record.before / math.sqrt(1 + record.sigma**2)


def _shot(data: bytes, words: str, place: str | None = None) -> Markup:
    return figure(picture(data, words, "image/webp"), words, class_=place)


def _facts(shot: Shot) -> list[Markup]:
    record = shot.record
    facts = [
        ("step ", str(record.index + 1)),
        ("noise level ", f"{record.sigma:.4g}"),
        ("timestep ", f"{record.timestep:.0f}"),
        ("noise ", f"{100 * noise_share(record.sigma):.1f} %"),
        ("time ", f"{1000 * record.seconds:.0f} ms"),
    ]
    if record.guidance is not None:
        facts.insert(4, ("guidance added ", f"{100 * record.guidance.size:.1f} %"))
    return [tag("span", name, tag("b", value)) for name, value in facts]


def guidance_part(explanation: Explanation) -> list[Content]:
    """Size and direction of what guidance added, over the steps."""
    numbers, scale = explanation.numbers, explanation.request.guidance_scale
    if not any(n.guidance is not None for n in numbers):
        return [tag("p", "Guidance is off here (scale 1): the U-Net is asked once a step, with the words only.")]
    sizes = [(n.index + 1.0, math.nan if n.guidance is None else 100 * n.guidance.size) for n in numbers]
    turns = [
        (n.index + 1.0, math.nan if n.guidance is None or n.guidance.turn is None else n.guidance.turn) for n in numbers
    ]
    across = Axis("step")
    size = chart([Series("size", sizes, "both", True)], across, Axis("added, % of the answer", log=True, shown=power))
    lowest = min((y for _, y in turns if math.isfinite(y)), default=0.0)
    turn = chart([Series("direction", turns, "both", True)], across, Axis("cosine", low=min(0.0, lowest), high=1))
    how = f"Size of what guidance {scale:g} added, relative to the answer with words (logarithmic)."
    where = "Direction: cosine to what it added one step before."
    return [tag("div", figure(size, how, class_="card"), figure(turn, where, class_="card"), class_="row")]
