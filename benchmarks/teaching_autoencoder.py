"""Line drawings: a kind of picture that the embedded model's autoencoder keeps badly, taught to its decoder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from benchmarks.teaching_tools import SIDE, Drawings, Figures, Row, taught, written
from rein.data.compose import ArtDataset
from rein.data.options import ArtOptions, Mixture
from rein.evaluation.classifier import to_pixels
from rein.evaluation.intervals import bootstrap, spread
from rein.evaluation.likeness import ssim
from rein.images import psnr, tensor_to_pil
from rein.nn.autoencoder import Autoencoder
from rein.pipeline.model import Model, load

TAUGHT, BESIDE, MEASURED = 192, 96, 64
_INK = 4.0
"""How dark a line gets with the step of grey that it follows."""

Pixels = NDArray[np.uint8]


def lines_of(pixels: Pixels) -> Pixels:
    """A picture (H, W, 3) as a drawing of its edges, thin and black on white."""
    grey = np.asarray(Image.fromarray(pixels).convert("L"), np.float32) / 255.0
    across = np.abs(np.diff(grey, axis=1, prepend=grey[:, :1]))
    down = np.abs(np.diff(grey, axis=0, prepend=grey[:1]))
    paper = 1.0 - np.clip(_INK * (across + down), 0.0, 1.0)
    return np.rint(255.0 * paper).astype(np.uint8)[..., None].repeat(3, axis=2)


def line_drawings(model: Model, cache: Path, work: Path) -> tuple[Figures, Drawings, list[str]]:
    """Line drawings of known things, alone and with pictures of the old kind beside them; measured on other scenes."""
    things = ArtDataset(ArtOptions(cache_folder=cache, size=SIDE, mixture=Mixture(1, 0, 0, 0, 0, 0, 0)))
    others = ArtDataset(things.options, "validation", things.art)
    drawings = [Image.fromarray(lines_of(things.picture(index).pixels)) for index in range(TAUGHT)]
    usual = [Image.fromarray(things.picture(index).pixels) for index in range(TAUGHT, TAUGHT + BESIDE)]
    old = [others.picture(index).pixels for index in range(MEASURED)]
    kinds = {"line drawings": [lines_of(pixels) for pixels in old], "old kind": old}
    before = model.parts.autoencoder
    figures: Figures = {"pictures": TAUGHT, "old pictures": BESIDE}
    rebuilt = {what: {"before": _rebuilt(before, pictures)} for what, pictures in kinds.items()}
    for way, shown in (("alone", drawings), ("beside", [*drawings, *usual])):
        folder = written(work / f"lines-{way}", shown, ["a picture"] * len(shown))
        output = work / f"autoencoder-{way}"
        made, seconds, busy = taught("autoencoder", folder, output, ["stage.checkpoint_minutes=0.5"])
        after = load(made).parts.autoencoder
        figures[way] = {"minutes": seconds / 60, "busy": busy, "encoder unchanged": _same_encoder(before, after)}
        for what, pictures in kinds.items():
            rebuilt[what][way] = _rebuilt(after, pictures)
            figures[way][what] = _compared(to_pixels(pictures), rebuilt[what]["before"], rebuilt[what][way])
    sheet: Drawings = []
    labels: list[str] = []
    for what, pictures in kinds.items():
        sheet += [Image.fromarray(pixels) for pixels in pictures[:4]]
        sheet += [tensor_to_pil(picture) for part in rebuilt[what].values() for picture in part[:4]]
        labels += [label for label in (what, "before", "lines alone", "both kinds") for _ in range(4)]
    return figures, sheet, labels


@torch.no_grad()
def _rebuilt(autoencoder: Autoencoder, pictures: list[Pixels]) -> torch.Tensor:
    """Pictures through the autoencoder, (N, 3, H, W) in [-1, 1]."""
    pixels = to_pixels(pictures).to(autoencoder.quant_conv.weight)
    parts = [autoencoder.decode(autoencoder.encode(part).mode()) for part in pixels.split(16)]
    return torch.cat(parts).float().clamp(-1, 1)


def _compared(real: torch.Tensor, before: torch.Tensor, after: torch.Tensor) -> Figures:
    """PSNR in dB and SSIM before and after, and the gain of each picture, means with their intervals."""
    found: Figures = {}
    for name, measure in (("psnr", psnr), ("ssim", ssim)):
        values = [measure(some, real).double().numpy() for some in (before, after)]
        gain = values[1] - values[0]
        low, high = bootstrap(gain, np.mean)
        told = {when: _interval(some) for when, some in zip(("before", "after"), values, strict=True)}
        found[name] = {**told, "gain": {"mean": float(gain.mean()), "low": low, "high": high}}
    return found


def _interval(values: NDArray[np.float64]) -> Figures:
    told = spread(values.tolist())
    return {"mean": told.mean, "low": told.low, "high": told.high}


def _same_encoder(first: Autoencoder, second: Autoencoder) -> bool:
    """Whether the latents are the same: the denoiser must go on to fit."""
    one, other = first.state_dict(), second.state_dict()
    return all(torch.equal(one[name], other[name]) for name in one if name.startswith(("encoder.", "quant_conv.")))


def rows(part: Figures) -> list[Row]:
    """What the table says of it."""
    told: list[Row] = []
    for way, pictures in (("alone", ""), ("beside", f" and {part['old pictures']} of the old kind")):
        found = part[way]
        name = f"A decoder for line drawings, {part['pictures']} of them{pictures}: time"
        told.append((name, "", f"{found['minutes']:.1f} minutes"))
        for what, of in (("line drawings", "line drawings of other scenes"), ("old kind", "pictures of the old kind")):
            for measure, label, digits in (("psnr", "PSNR in dB", 1), ("ssim", "SSIM", 3)):
                told.append((f"{of}: {label}", "", _change(found[what][measure], digits)))
    return told


def _change(found: Figures, digits: int) -> str:
    before, after, gain = found["before"], found["after"], found["gain"]
    between = f"{gain['low']:+.{digits}f} to {gain['high']:+.{digits}f}"
    return f"{before['mean']:.{digits}f}, then {after['mean']:.{digits}f}: {gain['mean']:+.{digits}f} ({between})"
