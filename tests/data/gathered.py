"""Small collections of pictures with captions, made anew for each test."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image


def painted(width: int, height: int, seed: int) -> Image.Image:
    """Soft random colours: two seeds look nothing alike, one seed at two sizes looks the same."""
    colours = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    return Image.fromarray(colours).resize((width, height), Image.Resampling.BICUBIC)


def bytes_of(image: Image.Image, file_format: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, file_format)
    return buffer.getvalue()


def save_collection(folder: Path, sizes: Sequence[tuple[int, int]] = ((48, 48), (96, 48), (48, 80))) -> Path:
    """Pictures 0.png, 1.png ... of these sizes, each with a caption file."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, (width, height) in enumerate(sizes):
        painted(width, height, number).save(folder / f"{number}.png")
        (folder / f"{number}.txt").write_text(f"picture {number}\nthe same again")
    return folder


def archive(members: Sequence[tuple[str, bytes]], mode: str = "w") -> bytes:
    """A tar archive of these files, in this order."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as opened:  # type: ignore[call-overload]
        for name, content in members:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            opened.addfile(member, io.BytesIO(content))
    return buffer.getvalue()
