"""Every figure of the book, made by the code from the embedded model: `make figures`.

python docs/figures.py [--only NAME ...]
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Callable
from pathlib import Path

from PIL import Image

import rein
from rein.data.compose import ArtDataset
from rein.data.options import ArtOptions
from rein.images import grid

IMAGES = Path(__file__).parent / "images"
LOSSES = Path(__file__).parent / "data" / "pocket-denoiser-loss.csv"
PROMPT = "a red apple, flat style"


def steps() -> Image.Image:
    """What the network believes is under the noise, at six of twenty steps."""
    shown, labels = [], []
    for step in rein.load().steps(PROMPT, seed=7, steps=20):
        if step.index in (0, 2, 4, 7, 11, 19):
            shown.append(step.preview())
            labels.append(f"step {step.index + 1}")
    return grid(shown, columns=6, labels=labels)


def guidance() -> Image.Image:
    """The same seeds at four guidance scales."""
    model, shown, labels = rein.load(), [], []
    for prompt in (PROMPT, "a fox and a mushroom, cartoon style"):
        for scale in (1.0, 2.0, 4.0, 8.0):
            shown.extend(model.generate(prompt, seed=7, guidance_scale=scale).images)
            labels.append(f"guidance {scale:g}: {prompt}")
    return grid(shown, columns=4, labels=labels)


def data() -> Image.Image:
    """Composed training pictures, one of each kind and some more."""
    dataset = ArtDataset(ArtOptions())
    samples = [dataset.picture(index) for index in range(12)]
    pictures = [Image.fromarray(sample.pixels) for sample in samples]
    return grid(pictures, columns=6, labels=[sample.label.captions[0] for sample in samples])


def loss() -> Image.Image:
    """The denoiser's loss over the pictures it has seen, as the training run that was shipped wrote it."""
    import matplotlib.pyplot as plt

    with LOSSES.open(newline="", encoding="utf-8") as handle:
        rows = [(float(row["pictures"]), float(row["loss"])) for row in csv.DictReader(handle)]
    figure, axes = plt.subplots(figsize=(7, 3.2), dpi=130, layout="constrained")
    axes.plot([pictures / 1000 for pictures, _ in rows], [value for _, value in rows], linewidth=1)
    axes.set(xlabel="thousand pictures seen", ylabel="mean squared error of the flow")
    axes.grid(alpha=0.3)
    figure.canvas.draw()
    image = Image.frombytes("RGBA", figure.canvas.get_width_height(), bytes(figure.canvas.buffer_rgba()))  # type: ignore[attr-defined]
    plt.close(figure)
    return image.convert("RGB")


FIGURES: dict[str, Callable[[], Image.Image]] = {"steps": steps, "guidance": guidance, "data": data, "loss": loss}


def main() -> None:
    """Make the figures and say where they are."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", nargs="*", choices=sorted(FIGURES), default=sorted(FIGURES))
    for name in parser.parse_args().only:
        path = IMAGES / f"book-{name}.png"
        picture = FIGURES[name]().convert("RGB")
        picture.quantize(256, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE).save(path, optimize=True)
        print(path)


if __name__ == "__main__":
    main()
