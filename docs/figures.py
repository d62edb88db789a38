"""Every figure of the book, made by the code from the embedded model: `make figures`.

python docs/figures.py [--only NAME ...]

The figures stand in files by their subject, each with a table `FIGURES` of its own: a name, and a function that gives a
picture, which becomes images/book-NAME.png, or the text of an SVG document, which becomes images/book-NAME.svg.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import figures_data
import figures_diagrams
import figures_machine
import figures_plots
from PIL import Image

from rein.files import atomic_file

IMAGES = Path(__file__).parent / "images"
FIGURES: dict[str, Callable[[], Image.Image | str]] = {
    **figures_machine.FIGURES,
    **figures_diagrams.FIGURES,
    **figures_data.FIGURES,
    **figures_plots.FIGURES,
}


def keep(name: str, figure: Image.Image | str) -> Path:
    """Write a figure and say where it is."""
    path = IMAGES / f"book-{name}.{'svg' if isinstance(figure, str) else 'png'}"
    with atomic_file(path) as handle:
        if isinstance(figure, str):
            handle.write(figure.encode())
        else:
            small = figure.convert("RGB").quantize(256, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
            small.save(handle, format="png", optimize=True)
    return path


def main() -> None:
    """Make the figures and say where they are."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", nargs="*", choices=sorted(FIGURES), default=sorted(FIGURES))
    for name in parser.parse_args().only:
        print(keep(name, FIGURES[name]()))


if __name__ == "__main__":
    main()
