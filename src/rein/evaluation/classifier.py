"""The judge: a small network that names what a picture of the art shows. It is trained apart from every generator.

A plain residual network that looks at one thing in a view of 64 x 64 pixels, in blocks of 4 x 4. A picture of one thing
is one view; on a picture of two the views are windows of half its side, so that it sees both at the size it knows.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from rein.errors import DamagedFileError
from rein.formats.tensors import read_header, read_tensors, write_tensors

AS_IT_IS = "as it is"
"""The colour class of a thing in its own colours, before those of `rein.data.colours.COLOURS`."""

SIDE = 64
"""Pixels of a view: a thing is named by its shape and colours, and the work falls with the square."""
PATCH = 4
_FORMAT = "rein-judge-2"


@dataclass(frozen=True)
class ClassifierConfig:
    """What a classifier knows, by name, and its shape: `widths` of the stages and `layers` in each after its first."""

    concepts: tuple[str, ...]
    styles: tuple[str, ...]
    colours: tuple[str, ...]
    widths: tuple[int, ...] = (64, 128, 192)
    layers: tuple[int, ...] = (1, 1, 1)


@dataclass(frozen=True)
class Verdict:
    """Logits of concepts (B, concepts + 1), styles (B, styles) and colours (B, 1 + colours), float32.

    The last concept is none: a view that shows no thing, or parts of several. The first colour is `AS_IT_IS`.
    """

    concepts: Tensor
    styles: Tensor
    colours: Tensor


class Layer(nn.Module):
    """Convolution, batch norm and ReLU, with a skip where nothing changes its shape."""

    def __init__(self, before: int, after: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(before, after, 3, stride, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(after)
        self.skips = before == after and stride == 1

    def forward(self, x: Tensor) -> Tensor:
        out = functional.relu(self.norm(self.conv(x)))
        return out + x if self.skips else out


class Classifier(nn.Module):
    """Views (B, 3, 64, 64) in [-1, 1] to a `Verdict`."""

    def __init__(self, config: ClassifierConfig) -> None:
        super().__init__()
        self.config = config
        layers: list[nn.Module] = []
        current = 3 * PATCH**2
        for stage, (width, count) in enumerate(zip(config.widths, config.layers, strict=True)):
            layers.append(Layer(current, width, stride=2 if stage else 1))
            layers.extend(Layer(width, width) for _ in range(count))
            current = width
        self.layers = nn.Sequential(*layers)
        self.concepts = nn.Linear(current, len(config.concepts) + 1)
        self.styles = nn.Linear(current, len(config.styles))
        self.colours = nn.Linear(current, 1 + len(config.colours))

    def features(self, views: Tensor) -> Tensor:
        """What the three heads read of each view: (B, widths[-1]), 0 and up."""
        blocks = functional.pixel_unshuffle(views, PATCH).contiguous(memory_format=torch.channels_last)
        out: Tensor = self.layers(blocks).mean(dim=(2, 3))
        return out

    def forward(self, views: Tensor) -> Verdict:
        features = self.features(views)
        return Verdict(
            concepts=self.concepts(features).float(),
            styles=self.styles(features).float(),
            colours=self.colours(features).float(),
        )


def shrunk(pixels: Tensor, side: int = SIDE) -> Tensor:
    """Pictures (B, 3, H, W) as views (B, 3, side, side), each pixel the mean of its area."""
    if pixels.shape[-2:] == (side, side):
        return pixels
    return functional.interpolate(pixels, (side, side), mode="area")


def to_pixels(pictures: NDArray[np.uint8] | Sequence[NDArray[np.uint8]]) -> Tensor:
    """Pictures (B, H, W, 3) uint8 as a (B, 3, H, W) float32 tensor in [-1, 1]."""
    levels = torch.from_numpy(np.array(pictures, dtype=np.uint8))
    return levels.permute(0, 3, 1, 2).contiguous().float() / 127.5 - 1.0


@torch.no_grad()
def judge(classifier: Classifier, pictures: NDArray[np.uint8], batch_size: int = 64) -> Verdict:
    """The verdict on pictures or windows (N, H, W, 3) uint8, each taken as one view, in float32."""
    was_training = classifier.training
    classifier.eval()
    device = classifier.styles.weight.device
    starts = range(0, len(pictures), batch_size)
    parts = [classifier(shrunk(to_pixels(pictures[start : start + batch_size])).to(device)) for start in starts]
    classifier.train(was_training)
    return Verdict(
        concepts=torch.cat([part.concepts for part in parts]).cpu(),
        styles=torch.cat([part.styles for part in parts]).cpu(),
        colours=torch.cat([part.colours for part in parts]).cpu(),
    )


def save_classifier(classifier: Classifier, path: Path) -> None:
    """Write the weights in float16 with what the classifier knows in the file's metadata.

    Raises:
        OutputError: the file cannot be written.
    """
    tensors = {
        name: value.half() if value.is_floating_point() else value for name, value in classifier.state_dict().items()
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    write_tensors(path, tensors, {"format": _FORMAT, "config": json.dumps(asdict(classifier.config))})


def judge_file() -> Path:
    """The weights of the shipped judge."""
    return Path(str(resources.files("rein").joinpath("assets", "judge", "judge.safetensors")))


def load_classifier(path: Path | None = None) -> Classifier:
    """A classifier that `save_classifier` wrote, in float32 and evaluation mode; None is the shipped one.

    Raises:
        InputError: there is no such file.
        DamagedFileError: it is not a classifier of this kind.
    """
    path = judge_file() if path is None else path
    metadata = read_header(path).metadata
    if metadata.get("format") != _FORMAT:
        raise DamagedFileError(f"cannot read {path}: it is not a classifier of Rein ({_FORMAT})")
    try:
        described = json.loads(metadata["config"])
        config = ClassifierConfig(**{name: tuple(values) for name, values in described.items()})
        classifier = Classifier(config)
        classifier.load_state_dict({k: v.float() for k, v in read_tensors(path).items()}, strict=True)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise DamagedFileError(f"cannot read {path}: its weights do not fit its description ({reason})") from error
    return classifier.eval()
