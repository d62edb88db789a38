"""What a network sees in pictures, as vectors: the ground on which sets of pictures are compared.

    vectors = judge_features(pictures)                  # (N, 192), of the shipped judge
    network = judge_network()                           # or one of `rein.evaluation.networks`
    found = features_of(network, pictures)              # found.vectors, found.chances

A figure made of features means nothing without their network, so each carries a name and a hash for the report.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from rein.evaluation.classifier import SIDE, Classifier, judge_file, load_classifier, shrunk, to_pixels
from rein.formats.folder import file_digest
from rein.images import crop_to, to_rgb

Picture = Image.Image | NDArray[np.uint8]
"""A Pillow picture, or an (H, W, 3) array."""

BATCH = 32

Returned = TypeVar("Returned")


class Pictures(Protocol):
    """Any number of pictures, each made when it is asked for."""

    def __len__(self) -> int: ...

    def __getitem__(self, place: int, /) -> Picture: ...


@dataclass(frozen=True, eq=False)
class FeatureNetwork:
    """A network that turns pictures into vectors.

    Fields:
        name: what it is, with how it takes pictures in, where that is a matter of choice.
        sha256: of its file of weights; "" where it has none.
        width: numbers in a vector.
        prepare: an RGB picture as the network's input, (3, S, S) float32.
        embed: a batch of these, (B, 3, S, S), as vectors (B, width) and the logits (B, classes) of classes that the
            network tells apart, or None.
        has_classes: whether it gives logits.
    """

    name: str
    sha256: str
    width: int
    prepare: Callable[[Image.Image], Tensor]
    embed: Callable[[Tensor], tuple[Tensor, Tensor | None]]
    has_classes: bool = True

    @property
    def label(self) -> str:
        """Name and hash, as reports show them."""
        return f"{self.name} ({self.sha256[:10]})" if self.sha256 else self.name


@dataclass(frozen=True)
class Features:
    """Vectors (N, D) float32 of N pictures, and the chances (N, C) of classes, where the network knows any."""

    vectors: NDArray[np.float32]
    chances: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self.vectors)


@torch.no_grad()
def extract(network: FeatureNetwork, pictures: Pictures, batch_size: int = BATCH) -> Generator[int, None, Features]:
    """The features of pictures by batches: yields how many are done, and returns all of them."""
    vectors: list[NDArray[np.float32]] = []
    chances: list[NDArray[np.float32]] = []
    for start in range(0, len(pictures), batch_size):
        places = range(start, min(start + batch_size, len(pictures)))
        batch = torch.stack([network.prepare(as_rgb(pictures[place])) for place in places])
        found, logits = network.embed(batch)
        vectors.append(found.float().cpu().numpy())
        if logits is not None:
            chances.append(logits.float().softmax(dim=1).cpu().numpy())
        yield places.stop
    if not vectors:
        return Features(np.empty((0, network.width), dtype=np.float32))
    return Features(np.concatenate(vectors), np.concatenate(chances) if chances else None)


def features_of(network: FeatureNetwork, pictures: Pictures | Sequence[Picture]) -> Features:
    """The features of all pictures at once."""
    return finished(extract(network, pictures))


def judge_features(pictures: Pictures | Sequence[Picture], classifier: Classifier | None = None) -> NDArray[np.float32]:
    """What the judge, the shipped one unless another is given, sees in each picture: (N, D) float32."""
    return features_of(judge_network(classifier), pictures).vectors


def judge_network(classifier: Classifier | None = None, device: torch.device | str = "cpu") -> FeatureNetwork:
    """The judge as a feature network; its classes are the things it knows, and none. A given one stays on its device.

    A picture that is not square is cropped round its middle, as for the judge's scores.
    """
    given = classifier is not None
    network = load_classifier().to(device) if classifier is None else classifier
    where = network.styles.weight.device

    def prepare(image: Image.Image) -> Tensor:
        square = crop_to(image, *[max(image.size)] * 2)
        return shrunk(to_pixels([np.asarray(square)]))[0]

    def embed(views: Tensor) -> tuple[Tensor, Tensor | None]:
        vectors = network.features(views.to(where))
        return vectors, network.concepts(vectors)

    digest = "" if given else judge_digest()
    return FeatureNetwork(f"judge, {SIDE} px", digest, network.config.widths[-1], prepare, embed)


def judge_digest() -> str:
    """SHA-256 of the shipped judge's weights."""
    return file_digest(judge_file())


def as_rgb(picture: Picture) -> Image.Image:
    """A picture as Pillow's RGB."""
    return to_rgb(picture if isinstance(picture, Image.Image) else Image.fromarray(picture))


def finished(work: Generator[object, None, Returned]) -> Returned:
    """What a generator returns, when it is run to its end."""
    while True:
        try:
            next(work)
        except StopIteration as end:
            result: Returned = end.value
            return result
