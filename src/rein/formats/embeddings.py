"""Files of learned words (textual inversion), in every form that people have.

string_to_param.*                   AUTOMATIC1111, a PyTorch file (n, width)
emb_params                          safetensors (n, width)
<token>                             diffusers (width,) or (n, width)
clip_l, clip_g                      SDXL: one for each tower; diffusers calls them text_encoders_0 and _1
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rein.errors import DamagedFileError, InputError, quoted
from rein.formats.tensors import write_tensors
from rein.formats.weights import Weights, open_weights
from rein.nn.specs import TextTowerConfig
from rein.text.inversion import Embedding

_PAIRS = (("clip_l", "clip_g"), ("text_encoders_0", "text_encoders_1"))
_LONE = ("emb_params", "string_to_param.*")
_WIDTHS = {768: "Stable Diffusion 1", 1024: "Stable Diffusion 2", 1280: "the second tower of SDXL"}
_MOST_TENSORS = 8
"""No embedding has more; files of weights have hundreds."""


@dataclass(frozen=True, eq=False)
class LoadedEmbedding:
    """An embedding and its file."""

    embedding: Embedding
    path: Path

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of the file; AUTOMATIC1111 shows the first ten digits."""
        with self.path.open("rb") as handle:
            return hashlib.file_digest(handle, "sha256").hexdigest()


def looks_like_embedding(infos: Mapping[str, Any]) -> bool:
    """Whether a file with these tensors (anything with a `shape`, by name) is an embedding."""
    if not 0 < len(infos) <= _MOST_TENSORS or any(len(info.shape) not in (1, 2) for info in infos.values()):
        return False
    known = {*_LONE, *(name for pair in _PAIRS for name in pair)}
    return bool(known & infos.keys()) or (len(infos) == 1 and "." not in next(iter(infos)))


def describe(infos: Mapping[str, Any]) -> tuple[int, tuple[int, ...]]:
    """Of a file that looks like an embedding: how many vectors it has, and their width for each text tower."""
    pair = next((pair for pair in _PAIRS if infos.keys() >= set(pair)), None)
    names = pair or (next((name for name in _LONE if name in infos), next(iter(infos))),)
    shapes = [infos[name].shape for name in names]
    return (shapes[0][0] if len(shapes[0]) > 1 else 1), tuple(shape[-1] for shape in shapes)


def read_embedding(path: str | os.PathLike[str], towers: Sequence[TextTowerConfig]) -> LoadedEmbedding:
    """Read an embedding for a model's text towers; its name is the file's without the ending.

    Raises:
        InputError: there is no such file, it is no embedding, or one for other towers.
        DamagedFileError: it cannot be read, or has NaN or infinity.
    """
    path = Path(path)
    weights = open_weights(path)
    vectors = tuple(_matrix(weights, name, path) for name in _names(weights, path, len(towers)))
    for number, (matrix, tower) in enumerate(zip(vectors, towers, strict=True), 1):
        if matrix.shape[1] != tower.width:
            width = f"{matrix.shape[1]} (as {_WIDTHS.get(matrix.shape[1], 'no model that Rein knows')} has)"
            whose = "text tower" if len(towers) == 1 else f"text tower {number}"
            raise InputError(f"cannot use {path}: its vectors have width {width}, the model's {whose} {tower.width}")
        most = tower.context_length - 2
        if not 1 <= len(matrix) <= most:
            raise InputError(f"cannot use {path}: it has {len(matrix)} vectors, where 1 to {most} fit into a prompt")
    if len({len(matrix) for matrix in vectors}) != 1:
        raise DamagedFileError(f"cannot use {path}: it has another number of vectors for each text tower")
    return LoadedEmbedding(Embedding(path.stem, vectors), path)


def save_embedding(
    path: str | os.PathLike[str], embedding: Embedding, metadata: Mapping[str, str] | None = None
) -> Path:
    """Write a learned word as diffusers and the web UIs read it: for one tower under its name, for two as SDXL's.

    Raises:
        OutputError: the file cannot be written.
    """
    names = (embedding.name,) if len(embedding.vectors) == 1 else _PAIRS[0]
    tensors = {name: matrix.contiguous() for name, matrix in zip(names, embedding.vectors, strict=True)}
    write_tensors(path, tensors, metadata)
    return Path(path)


def _names(weights: Weights, path: Path, towers: int) -> tuple[str, ...]:
    """The tensors for each tower, in order."""
    if not looks_like_embedding(weights.infos):
        raise InputError(f"cannot use {path}: it is no embedding: {len(weights)} tensors of other names or shapes")
    pair = next((pair for pair in _PAIRS if weights.infos.keys() >= set(pair)), None)
    if towers == 1:
        if pair is not None or any(name in weights for names in _PAIRS for name in names):
            raise InputError(f"cannot use {path}: it is for the two text towers of SDXL, and this model has one")
        return (next((name for name in _LONE if name in weights), next(iter(weights))),)
    if pair is None:
        tensor = next(iter(weights.infos.values()))
        family = _WIDTHS.get(tensor.shape[-1], f"a text tower of width {tensor.shape[-1]}")
        raise InputError(f"cannot use {path}: it is for {family} alone, and this model has {towers} text towers")
    return pair


def _matrix(weights: Weights, name: str, path: Path) -> Tensor:
    tensor = weights.read(name)
    if not tensor.is_floating_point():
        raise DamagedFileError(f"cannot use {path}: {quoted(name)} holds {tensor.dtype}, not vectors")
    matrix = tensor.float().reshape(1, -1) if tensor.ndim == 1 else tensor.float()
    if not bool(torch.isfinite(matrix).all()):
        raise DamagedFileError(f"cannot use {path}: {quoted(name)} has NaN or infinity")
    return matrix
