"""Icons out of Iconify's JSON, and drawings out of icons: each trimmed, centred, and kept on the disk."""

from __future__ import annotations

import hashlib
import io
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from rein.data.colours import MainColour, Pixels, main_colour
from rein.data.concepts import Concept, read_concepts
from rein.data.options import ArtOptions
from rein.data.sources import Source, fetch, read_json
from rein.errors import DamagedFileError, InputError, require
from rein.files import atomic_file

RENDERING = 1
"""Raised when drawings would come out otherwise than before, so that stored ones are made again."""

OVERSAMPLING = 1.5
MAX_SVG_BYTES = 4 * 2**20
MAX_ALIASES = 8


class IconSet:
    """One source's icons by name, aliases followed."""

    def __init__(self, source: Source, content: dict[str, Any]) -> None:
        self.source = source
        self._content = content
        if not isinstance(content.get("icons"), dict):
            raise DamagedFileError(f"{source.package}: {source.member} has no table of icons")

    def svg(self, name: str) -> str:
        """The SVG document of an icon.

        Raises:
            InputError: the source has no such icon.
            DamagedFileError: its entry is not that of an icon, or asks for what is not supported.
        """
        icons, aliases = self._content["icons"], self._content.get("aliases", {})
        found, mirrored = name, False
        for _ in range(MAX_ALIASES):
            if found in icons or found not in aliases:
                break
            alias = aliases[found]
            mirrored ^= bool(alias.get("hFlip", False))
            if alias.get("vFlip") or alias.get("rotate"):
                raise DamagedFileError(f"{self.source.package}: the icon {name!r} is a turned one, which is not read")
            found = alias["parent"]
        if found not in icons:
            raise InputError(f"{self.source.package} {self.source.version} has no icon {name!r}; take it off the list")
        return self._document(name, icons[found], mirrored)

    def _document(self, name: str, icon: dict[str, Any], mirrored: bool) -> str:
        left, top = icon.get("left", 0), icon.get("top", 0)
        width = icon.get("width", self._content.get("width", 16))
        height = icon.get("height", self._content.get("height", 16))
        body = icon.get("body")
        if not isinstance(body, str) or len(body) > MAX_SVG_BYTES:
            raise DamagedFileError(f"{self.source.package}: the icon {name!r} is not a drawing of a usable size")
        if mirrored:
            body = f'<g transform="translate({2 * left + width} 0) scale(-1 1)">{body}</g>'
        return (
            '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
            f'viewBox="{left} {top} {width} {height}" width="{width}" height="{height}">{body}</svg>'
        )


def render(svg: str, size: int) -> Pixels:
    """An SVG as RGBA (size, size, 4), its drawn part filling the square's longer side, centred."""
    resvg = require("resvg_py", "train")
    side = round(size * OVERSAMPLING)
    try:
        png = resvg.svg_to_bytes(svg_string=svg, width=side, skip_system_fonts=True)
    except ValueError as error:
        raise DamagedFileError(f"a drawing cannot be rendered: {error}") from error
    image = Image.open(io.BytesIO(bytes(png))).convert("RGBA")
    box = image.getchannel("A").point(lambda level: 255 if level > 8 else 0).getbbox()
    if box is None:
        raise DamagedFileError("a drawing is empty: nothing of it is visible")
    scale = size / max(box[2] - box[0], box[3] - box[1])
    width, height = (max(1, round((box[side + 2] - box[side]) * scale)) for side in (0, 1))
    fitted = image.resize((width, height), Image.Resampling.LANCZOS, box=box)
    square = Image.new("RGBA", (size, size))
    square.paste(fitted, ((size - width) // 2, (size - height) // 2))
    return np.asarray(square)


class IconArt:
    """The drawings of the chosen concepts in the chosen styles, with what is known of their colours.

    `pixels` is (concepts, styles, size, size, 4) RGBA, read from the disk as needed, so that processes share it.
    """

    def __init__(self, options: ArtOptions) -> None:
        self.options = options
        self.concepts: tuple[Concept, ...] = read_concepts(options.concepts, options.concept_count)
        self.styles = options.styles
        pixels_path, colours_path = self._paths()
        if not (pixels_path.exists() and colours_path.exists()):
            self._prepare(pixels_path, colours_path)
        expected = (len(self.concepts), len(self.styles), options.size, options.size, 4)
        self.pixels: Pixels = _load(pixels_path, expected, "uint8")
        colours = _load(colours_path, (*expected[:2], 7), "float32")
        self.colours = [[_unpack(colours[c, s]) for s in range(expected[1])] for c in range(expected[0])]

    def icon(self, concept: int, style: int) -> Pixels:
        """The drawing of a concept in a style, RGBA (size, size, 4)."""
        return np.asarray(self.pixels[concept, style])

    def _paths(self) -> tuple[Path, Path]:
        chosen = {
            "rendering": RENDERING,
            "size": self.options.size,
            "icons": [concept.icon for concept in self.concepts],
            "sources": [asdict(source) for source in self.options.chosen_sources],
        }
        key = hashlib.sha256(json.dumps(chosen, sort_keys=True).encode()).hexdigest()[:16]
        folder = self.options.folder
        return folder / f"drawings-{key}.npy", folder / f"drawings-{key}-colours.npy"

    def _prepare(self, pixels_path: Path, colours_path: Path) -> None:
        """Render every drawing and store them; a second process doing the same writes the same bytes."""
        size = self.options.size
        pixels = np.empty((len(self.concepts), len(self.styles), size, size, 4), dtype=np.uint8)
        for style, source in enumerate(self.options.chosen_sources):
            content = read_json(source, fetch(source, self.options.folder))
            icons = IconSet(source, content if isinstance(content, dict) else {})
            svgs = [icons.svg(concept.icon) for concept in self.concepts]
            with ThreadPoolExecutor(max_workers=2) as pool:
                for index, drawing in enumerate(pool.map(partial(render, size=size), svgs)):
                    pixels[index, style] = drawing
        colours = np.array([[_pack(main_colour(icon)) for icon in row] for row in pixels], dtype=np.float32)
        for path, array in ((colours_path, colours), (pixels_path, pixels)):
            with atomic_file(path) as handle:
                np.save(handle, array, allow_pickle=False)


def _load(path: Path, shape: tuple[int, ...], kind: str) -> NDArray[Any]:
    """A stored array, mapped and not read, checked against what was written."""
    try:
        array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DamagedFileError(f"{path} cannot be read ({error}); delete it and run again") from error
    if array.shape != shape or array.dtype != np.dtype(kind):
        raise DamagedFileError(f"{path} is not as it was written; delete it and run again")
    return array


def _pack(colour: MainColour) -> list[float]:
    return [colour.share, colour.lightness, colour.chroma, colour.hue, *colour.mean]


def _unpack(row: NDArray[np.float32]) -> MainColour:
    share, lightness, chroma, hue, *mean = (float(value) for value in row)
    return MainColour(share, lightness, chroma, hue, (mean[0], mean[1], mean[2]))
