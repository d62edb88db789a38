"""Upscalers loaded from what people have: ESRGAN and Real-ESRGAN, as safetensors or PyTorch files."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from rein.errors import DamagedFileError, InputError, quoted
from rein.formats.detect import detect
from rein.formats.fill import listed
from rein.formats.upscaler_keys import find_upscaler
from rein.formats.weights import Weights, open_weights
from rein.nn.upscaler import RRDBConfig, RRDBNet, SRVGGNet

_RGB = 3


@dataclass(frozen=True, eq=False)
class Upscaler:
    """A network that enlarges pictures, in evaluation mode and float32.

    Fields:
        network: pixels (B, 3, H, W) in [0, 1] to pixels (B, 3, scale * H, scale * W).
        path: the file that it came from.
        note: what it is, in words.
    """

    network: RRDBNet | SRVGGNet
    path: Path
    note: str

    @property
    def name(self) -> str:
        """The name of its file, without the ending."""
        return self.path.stem

    @property
    def scale(self) -> int:
        """How many times wider and higher it makes a picture; 1 for one that only restores."""
        return self.network.config.scale

    @property
    def unit(self) -> int:
        """Parts of a picture must begin at multiples of so many pixels to be seen as within the whole."""
        config = self.network.config
        return config.unshuffle if isinstance(config, RRDBConfig) else 1

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return next(self.network.parameters()).device


def load_upscaler(path: str | os.PathLike[str], device: torch.device | str = "cpu") -> Upscaler:
    """Load an upscaler.

    Raises:
        InputError: there is no such file, or it is something else, or an upscaler that Rein does not run.
        DamagedFileError: it cannot be read, or would leave the network unfilled.
    """
    path = Path(path)
    weights = open_weights(path)
    shapes = {name: tuple(info.shape) for name, info in weights.infos.items()}
    found = find_upscaler(shapes)
    if found is None:
        seen = detect(weights.infos, weights.metadata)
        kind = f"{seen.kind}: {seen.note}" if seen.note else seen.kind
        raise InputError(f"{path} is no upscaler ({kind}); give an ESRGAN or Real-ESRGAN file")
    if found.config is None:
        raise InputError(f"cannot use {path}: it is {found.note}; give an ESRGAN or Real-ESRGAN file")
    if found.config.picture_channels != _RGB:
        channels = found.config.picture_channels
        raise InputError(f"cannot use {path}: it is {found.note}, for {channels} channels, and pictures have {_RGB}")
    weights.verify()
    network: RRDBNet | SRVGGNet
    with torch.device("meta"):
        network = RRDBNet(found.config) if isinstance(found.config, RRDBConfig) else SRVGGNet(found.config)
    _fill(network, weights, found.names, device)
    return Upscaler(network, path, found.note)


def _fill(network: nn.Module, weights: Weights, names: Mapping[str, str], device: torch.device | str) -> None:
    """Give the network the tensors of a file in float32, after a look at all of them. Raises `DamagedFileError`."""
    wanted = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    shapes = {ours: tuple(weights.infos[theirs].shape) for ours, theirs in names.items()}
    missing = [name for name in wanted if name not in shapes]
    extra = [names[name] for name in shapes if name not in wanted]
    wrong = [
        f"{names[name]} {shapes[name]}, not {shape}"
        for name, shape in wanted.items()
        if name in shapes and shapes[name] != shape
    ]
    for problem, found in (("it lacks", missing), ("of another shape are", wrong), ("it does not need", extra)):
        if found:
            raise DamagedFileError(f"cannot use {weights.path}: {problem} {listed(found)}")
    state: dict[str, Tensor] = {}
    for name in wanted:
        stored = weights.read(names[name])
        if not stored.is_floating_point():
            raise DamagedFileError(f"tensor {quoted(names[name])} holds {stored.dtype}, not weights")
        state[name] = stored.to(device, torch.float32)
    network.load_state_dict(state, assign=True)
    network.eval().requires_grad_(False).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
