"""The colours of a model's latents, stored in its folder: a small table by which a preview is made without decoding.

    {"format": "rein-preview", "version": 1, "autoencoder": SHA-256 of autoencoder.safetensors,
     "weights": [[...], ...]}

`weights` has a row for each latent channel and one for the constant; its columns are red, green and blue, from -1 to 1.
It is for unscaled latents.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rein.errors import DamagedFileError
from rein.files import atomic_file
from rein.formats.folder import AUTOENCODER_FILE, SPEC_FILE, file_digest, read_description

PREVIEW_FILE = "preview.json"
_FORMAT, _VERSION = "rein-preview", 1
_MAX_BYTES = 2**20

Rows = tuple[tuple[float, ...], ...]


def write_preview_colours(folder: Path, weights: Sequence[Sequence[float]]) -> Path:
    """Store the colours of the latents of the model in `folder`. Raises `OutputError`."""
    rows = [[float(f"{value:.6g}") for value in row] for row in weights]
    content = {"format": _FORMAT, "version": _VERSION, "autoencoder": file_digest(folder / AUTOENCODER_FILE)}
    with atomic_file(folder / PREVIEW_FILE) as handle:
        handle.write((json.dumps(content | {"weights": rows}) + "\n").encode())
    return folder / PREVIEW_FILE


def read_preview_colours(folder: Path, channels: int) -> Rows | None:
    """The stored colours of latents with so many channels; None where there are none for this autoencoder.

    Raises:
        DamagedFileError: the file is there and cannot be used.
    """
    path = folder / PREVIEW_FILE
    if not path.is_file() or not (folder / SPEC_FILE).is_file():
        return None
    try:
        with path.open("rb") as handle:
            content = json.loads(handle.read(_MAX_BYTES))
    except (OSError, ValueError, RecursionError) as error:
        raise _damaged(path, "it is not valid JSON") from error
    if not isinstance(content, dict) or content.get("format") != _FORMAT or content.get("version") != _VERSION:
        raise _damaged(path, f'it is not a "{_FORMAT}" of version {_VERSION}')
    record = read_description(folder).files.get(AUTOENCODER_FILE)
    if record is None or content.get("autoencoder") != record.sha256:
        return None  # of an autoencoder that was replaced since
    return _rows(content.get("weights"), channels, path)


def _rows(weights: Any, channels: int, path: Path) -> Rows:
    if not isinstance(weights, list) or len(weights) != channels + 1:
        raise _damaged(path, f"it has no weights for {channels} latent channels and the constant")
    for row in weights:
        if not isinstance(row, list) or len(row) != 3:
            raise _damaged(path, "its weights are not rows of three colours")
        if not all(isinstance(value, int | float) and math.isfinite(value) for value in row):
            raise _damaged(path, "a weight is not a finite number")
    return tuple(tuple(float(value) for value in row) for row in weights)


def _damaged(path: Path, reason: str) -> DamagedFileError:
    return DamagedFileError(f"cannot read {path}: {reason}; delete it, and previews find their colours anew")
