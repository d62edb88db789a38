"""Figures of the chapter on data: see figures.py."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from rein.data.augment import Augmentations, Augmenter
from rein.data.colour_spaces import ColourSpace, to_space
from rein.data.compose import ArtDataset
from rein.data.fitting import Crop, bucket_sizes, fitted, kept_box, nearest_bucket
from rein.data.options import ArtOptions
from rein.images import grid

Pixels = NDArray[np.uint8]

KINDS: dict[str, dict[str, float]] = {
    "flip": {},
    "crop": {"smallest": 0.5},
    "rotation": {"degrees": 15},
    "colour": {"brightness": 0.25, "contrast": 0.25, "saturation": 0.25, "hue": 0.08},
    "blur": {"largest": 3.0},
    "noise": {"deviation": 0.06},
}


def data() -> Image.Image:
    """Composed training pictures, one of each kind and some more."""
    dataset = ArtDataset(ArtOptions())
    samples = [dataset.picture(index) for index in range(12)]
    pictures = [Image.fromarray(sample.pixels) for sample in samples]
    return grid(pictures, columns=6, labels=[sample.label.captions[0] for sample in samples])


def augmentations() -> Image.Image:
    """A picture, and below it two drawings of every kind of change."""
    pixels = _telling()
    shown, labels = [Image.fromarray(pixels)], ["the picture"]
    for number in range(2):
        for kind, options in KINDS.items():
            table = {"kind": kind, "probability": 1.0, **options}
            augmenter = Augmenter(Augmentations.model_validate({"augmentation": [table]}))
            shown.append(Image.fromarray(augmenter.draw(pixels, None, "figure", number)[0]))
            labels.append(kind)
        if number == 0:
            shown.append(Image.fromarray(pixels))
            labels.append("the picture")
    return grid(shown, columns=7, labels=labels)


def colour_spaces() -> Image.Image:
    """The three channels of a picture in three colour spaces, each from its least to its most."""
    pixels = _telling()
    names: dict[ColourSpace, tuple[str, str, str]] = {
        "srgb": ("sRGB: red", "green", "blue"),
        "linear": ("linear: red", "green", "blue"),
        "lab": ("Lab: lightness", "green to red", "blue to yellow"),
    }
    ranges: dict[ColourSpace, tuple[tuple[float, float], ...]] = {
        "srgb": ((0, 1),) * 3,
        "linear": ((0, 1),) * 3,
        "lab": ((0, 100), (-100, 100), (-100, 100)),
    }
    shown, labels = [], []
    for space, channels in names.items():
        shown.append(Image.fromarray(pixels))
        labels.append("the picture")
        for plane, (low, high), name in zip(
            np.moveaxis(to_space(pixels, space), -1, 0), ranges[space], channels, strict=True
        ):
            grey = np.clip((plane - low) / (high - low) * 255, 0, 255).astype(np.uint8)
            shown.append(Image.fromarray(grey).convert("RGB"))
            labels.append(name)
    return grid(shown, columns=4, labels=labels)


def crops() -> Image.Image:
    """A wide picture cut square in the middle, cut square where most is to be seen, and put into its bucket."""
    pixels = _telling()
    wide = np.full((128, 256, 3), pixels[0, 0], np.uint8)
    wide[:, 118:246] = pixels
    image = Image.fromarray(wide)
    shown, labels = [image], ["the picture"]
    ways: tuple[tuple[Crop, tuple[int, int], str], ...] = (
        ("centre", (128, 128), "square, centre"),
        ("smart", (128, 128), "square, smart"),
        ("smart", nearest_bucket(image.size, bucket_sizes(128, 16)), "its bucket, smart"),
    )
    for crop, size, name in ways:
        shown.append(fitted(image, size, kept_box(image, size, crop)))
        labels.append(f"{name}, {size[0]} x {size[1]}")
    return grid(shown, columns=2, labels=labels)


def _telling() -> Pixels:
    """Of the first pictures with a thing on a coloured ground, the one that differs most from its mirrored self."""
    dataset = ArtDataset(ArtOptions())
    grounds = [index for index in range(400) if "background" in dataset.label(index).captions[0]]
    pictures = [dataset.picture(index).pixels for index in grounds[:24]]
    return max(pictures, key=lambda pixels: float(np.abs(pixels.astype(int) - pixels[:, ::-1]).mean()))


FIGURES: dict[str, Callable[[], Image.Image]] = {
    "augmentations": augmentations,
    "colour-spaces": colour_spaces,
    "crops": crops,
    "data": data,
}
