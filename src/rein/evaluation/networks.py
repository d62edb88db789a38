"""Networks of the field, read from the files that everyone compares with: FID's Inception, and LPIPS.

What a file is, its names tell. CLIP has a file of its own, `rein.evaluation.clip`.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn

from rein.errors import InputError
from rein.evaluation.clip import Clip, is_clip, load_clip
from rein.evaluation.features import FeatureNetwork, judge_network
from rein.formats.fill import compare, fill, listed
from rein.formats.folder import file_digest
from rein.formats.keys import Entry, KeyMap, Place, part_entries
from rein.formats.weights import Weights, open_weights
from rein.images import pil_to_tensor
from rein.nn.inception import SIDE, WIDTH, Inception, inception_input
from rein.nn.lpips import BACKBONES, Backbone, Lpips

JUDGE = "judge"
SMALLEST_FOR_LPIPS = 32
_MARK_OF_INCEPTION = "Mixed_7c.branch_pool.conv.weight"
_FIRST_LAYER, _FIRST_HEAD = "features.0.weight", "lin0.model.1.weight"
_COUNTER = "num_batches_tracked"


def load_features(source: str, device: torch.device | str = "cpu") -> FeatureNetwork:
    """The feature network that a name or a file tells: "judge", FID's Inception, or a CLIP model.

    Raises:
        InputError: no such file, or it holds none of these.
        DamagedFileError: it cannot be read, or would leave the network unfilled.
    """
    if source == JUDGE:
        return judge_network(device=device)
    if not Path(source).is_dir():
        weights = open_weights(source)
        if _MARK_OF_INCEPTION in weights:
            return _inception(weights, device)
        if not is_clip(weights.infos):
            raise InputError(
                f"{source} holds no feature network: give {JUDGE!r}, the Inception weights of FID "
                "(pt_inception-2015-12-05) or a CLIP model"
            )
    return clip_features(load_clip(source, device))


def _inception(weights: Weights, device: torch.device | str) -> FeatureNetwork:
    weights.verify()
    with torch.device("meta"):
        network = Inception()
    filled(network, weights, device)

    def prepare(image: Image.Image) -> Tensor:
        return inception_input(pil_to_tensor(image)[None])[0]

    def embed(pixels: Tensor) -> tuple[Tensor, Tensor | None]:
        features, logits = network(pixels.to(device))
        return features, logits

    name = f"inception 2015-12-05, bilinear {SIDE} px"
    return FeatureNetwork(name, file_digest(weights.path), WIDTH, prepare, embed)


def clip_features(clip: Clip) -> FeatureNetwork:
    """CLIP's picture tower as a feature network; it knows no classes."""

    def embed(pixels: Tensor) -> tuple[Tensor, Tensor | None]:
        return clip.vision(pixels.to(clip.device)), None

    return FeatureNetwork(clip.name, clip.sha256, clip.width, clip.prepared, embed, has_classes=False)


class PerceptualDistance:
    """LPIPS with its weights.

    Attributes:
        name, sha256: which backbone, and the hash of both files.
        network: pictures (B, 3, H, W) in [-1, 1] and others like them to distances (B,).
    """

    def __init__(self, network: Lpips, sha256: str, device: torch.device | str) -> None:
        self.network, self.sha256, self.device = network, sha256, device
        self.name = f"LPIPS, {network.backbone.name}"

    @torch.no_grad()
    def __call__(self, first: Tensor, second: Tensor) -> Tensor:
        """Distances (B,). Raises `InputError` where a side is shorter than the backbone's poolings need."""
        if min(first.shape[-2:]) < SMALLEST_FOR_LPIPS:
            height, width = first.shape[-2:]
            raise InputError(f"a picture is {width} x {height}: LPIPS needs {SMALLEST_FOR_LPIPS} pixels a side")
        found: Tensor = self.network(first.to(self.device), second.to(self.device))
        return found.cpu()


def load_lpips(files: Sequence[str | os.PathLike[str]], device: torch.device | str = "cpu") -> PerceptualDistance:
    """LPIPS from its two files in any order: torchvision's AlexNet or VGG-16, and the learned weights for it.

    Raises:
        InputError: other than two files, or they hold something else, or do not belong together.
        DamagedFileError: one cannot be read, or would leave the network unfilled.
    """
    if len(files) != 2:
        raise InputError(
            f"LPIPS needs two files, and {len(files)} are given: AlexNet's or VGG-16's weights as torchvision has "
            "them, and the learned weights of LPIPS for it"
        )
    opened = [open_weights(file) for file in files]
    bodies = [weights for weights in opened if _FIRST_LAYER in weights]
    heads = [weights for weights in opened if _FIRST_HEAD in weights]
    if len(bodies) != 1 or len(heads) != 1:
        names = ", ".join(str(weights.path) for weights in opened)
        raise InputError(f"no LPIPS in {names}: one must hold {_FIRST_LAYER!r} and the other {_FIRST_HEAD!r}")
    body, head = bodies[0], heads[0]
    with torch.device("meta"):
        network = Lpips(_backbone(body))
    entries = _entries(network)
    ours = {True: body, False: head}
    for of_body, weights in ours.items():
        part = [entry for entry in entries if entry.natives[0].startswith("features.") == of_body]
        compare(KeyMap(tuple(part)), weights.infos).check(weights.path)
        weights.verify()
    both = {entry.original: body if entry.original in body else head for entry in entries}
    fill(network, entries, _Several(both), device, torch.float32)
    digest = file_digest(body.path)[:32] + file_digest(head.path)[:32]
    return PerceptualDistance(network, digest, device)


class _Several:
    """Two files read as one, each tensor from the file that has it."""

    def __init__(self, files: dict[str, Weights]) -> None:
        self._files = files
        self.infos = {name: weights.infos[name] for name, weights in files.items()}

    def __getitem__(self, name: str) -> Tensor:
        return self._files[name][name]

    def read(self, name: str) -> Tensor:
        return self._files[name].read(name)

    def release(self, name: str) -> None:
        self._files[name].release(name)

    def dtype(self, name: str) -> torch.dtype:
        return self._files[name].dtype(name)


def _backbone(weights: Weights) -> Backbone:
    shape = tuple(weights.infos[_FIRST_LAYER].shape)
    for backbone in BACKBONES:
        first = backbone.layers[0]
        assert first is not None
        if shape == (first[0], 3, first[1], first[1]):
            return backbone
    raise InputError(f"{weights.path} is neither AlexNet nor VGG-16: its first layer is {shape}")


def _entries(network: Lpips) -> list[Entry]:
    """The tensors of the two files; the learned weights are 1 x 1 convolutions behind a dropout there."""
    shapes = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    plain = part_entries("lpips", shapes, Place("", "native"), None)
    return [
        replace(entry, original=entry.original.replace(".weight", ".model.1.weight"))
        if entry.original.startswith("lin")
        else entry
        for entry in plain
    ]


def filled(network: nn.Module, weights: Weights, device: torch.device | str) -> None:
    """Give a network on the meta device the tensors of a file that has its own names, in float32.

    Raises:
        DamagedFileError: the file lacks some, or has them in another shape, or has others beside.
    """
    shapes = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    entries = part_entries("network", shapes, Place("", "native"), None)
    found = compare(KeyMap(tuple(entries)), weights.infos)
    found.check(weights.path)
    if others := [name for name in found.extra if not name.endswith(_COUNTER)]:
        raise InputError(f"{weights.path} is another network: it also has {listed(others)}")
    fill(network, entries, weights, device, torch.float32)
