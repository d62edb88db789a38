"""Models written in the forms that other programs read: a single file under its original names, a diffusers folder.

Both are written tensor by tensor from a `TensorSource`, which may be a model in memory or a file in another form.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from rein.errors import InputError, quoted
from rein.files import atomic_file, write_failure
from rein.formats.detect import SPEC_KEY
from rein.formats.diffusers_output import (
    write_autoencoder_config,
    write_index,
    write_scheduler_config,
    write_tower_config,
    write_unet_config,
)
from rein.formats.fill import WeightTable
from rein.formats.keys import Entry, KeyMap, Layout, Place, key_map, part_names, tower_config
from rein.formats.tensors import Entry as StreamEntry
from rein.formats.tensors import write_streaming
from rein.nn.specs import ModelSpec, to_dict
from rein.text.vocabulary import clip_vocabulary

FORMAT_TEXT = {"format": "pt"}
"""What other readers of safetensors expect in the header."""


class TensorSource(Protocol):
    """Native tensors by part and name."""

    def tensor(self, part: str, name: str) -> Tensor:
        """The tensor itself."""

    def dtype(self, part: str, name: str) -> torch.dtype:
        """Its type, without reading it."""


class ModuleSource:
    """The tensors of networks in memory."""

    def __init__(self, networks: Mapping[str, nn.Module]) -> None:
        self._states = {part: network.state_dict() for part, network in networks.items()}

    def tensor(self, part: str, name: str) -> Tensor:
        """The tensor itself."""
        value: Tensor = self._states[part][name]
        return value

    def dtype(self, part: str, name: str) -> torch.dtype:
        """Its type."""
        return self.tensor(part, name).dtype


class FileSource:
    """The tensors of a file, by the map of its names; each is read when it is asked for."""

    def __init__(self, weights: WeightTable, keys: KeyMap) -> None:
        self._weights, self._entries = weights, keys.by_native

    def tensor(self, part: str, name: str) -> Tensor:
        """The tensor, as a copy: what a mapped file shows stays in memory until the file is closed."""
        entry = self._entries[part, name]
        return entry.to_native(self._weights.read(entry.original))[name]

    def dtype(self, part: str, name: str) -> torch.dtype:
        """Its type."""
        return self._weights.dtype(self._entries[part, name].original)


def file_metadata(spec: ModelSpec) -> dict[str, str]:
    """The free texts of a single file: what it is, so that nothing has to be guessed when it is read again."""
    told = {"epsilon": "epsilon", "v": "v"}.get(spec.prediction)
    texts = {SPEC_KEY: json.dumps(to_dict(spec), separators=(",", ":")), **FORMAT_TEXT}
    return texts | ({"modelspec.prediction_type": told} if told else {})


def write_single(
    path: Path, spec: ModelSpec, source: TensorSource, dtype: torch.dtype | None = None, layout: Layout | None = None
) -> None:
    """Write a safetensors file with all parts of a model under their original names.

    Args:
        dtype: the type to store; None keeps that of each tensor.
        layout: None for the published one of the family.

    Raises:
        InputError: the model has a part that single files have no names for.
        OutputError: the file cannot be written; what was there is as before.
    """
    write_streaming(path, single_entries(spec, source, dtype, layout), file_metadata(spec))


def single_entries(
    spec: ModelSpec, source: TensorSource, dtype: torch.dtype | None = None, layout: Layout | None = None
) -> list[StreamEntry]:
    """The tensors of a single file, for `write_streaming`. As `write_single`, which says more."""
    if spec.autoencoder.design == "tiny" or spec.vocabulary != "clip":
        reason = "its autoencoder is a tiny one" if spec.vocabulary == "clip" else "its vocabulary is its own"
        raise InputError(f"model {spec.name!r} has no form as a single file: {reason}")
    return [streamed(entry, source, dtype) for entry in key_map(spec, layout).entries]


def streamed(entry: Entry, source: TensorSource, dtype: torch.dtype | None) -> StreamEntry:
    """One tensor of a file that is made only when it is written."""
    stored = source.dtype(entry.part, entry.natives[0]) if dtype is None else dtype

    def made() -> Tensor:
        value = entry.to_original([source.tensor(entry.part, name) for name in entry.natives])
        return checked_cast(entry.original, value, stored)

    return entry.original, stored, entry.original_shape, made


def checked_cast(name: str, value: Tensor, dtype: torch.dtype) -> Tensor:
    """A weight in another type. Raises `InputError` where it does not stay finite in it."""
    written = value.to("cpu", dtype).contiguous()
    if dtype != value.dtype and not bool(torch.isfinite(written.float()).all()):
        raise InputError(f"weight {quoted(name)} is not finite in {dtype}: store it in another format")
    return written


def write_diffusers(folder: Path, spec: ModelSpec, source: TensorSource, dtype: torch.dtype | None = None) -> None:
    """Write a diffusers folder, model_index.json last. The folder is made where it is missing.

    Raises:
        InputError: the model is none that diffusers has a pipeline for.
        OutputError: something cannot be written.
    """
    if spec.vocabulary != "clip" or spec.schedule.kind == "flow":
        raise InputError(f"model {spec.name!r} has no diffusers form: its words or its schedule are Rein's own")
    index = write_index(spec)
    places = dict(zip(part_names(spec), index.folders, strict=True))
    for part, place in places.items():
        inner = _made(folder / place)
        stem = "model" if part.startswith("tower") else "diffusion_pytorch_model"
        keys = key_map(spec, {part: Place("", "native")})
        entries = [streamed(entry, source, dtype) for entry in keys.entries]
        write_streaming(inner / f"{stem}.safetensors", entries, FORMAT_TEXT)
        _write_json(inner / "config.json", _config(spec, part))
        if part.startswith("tower"):
            _write_tokenizer(_made(folder / place.replace("text_encoder", "tokenizer")), spec, part)
    _write_json(_made(folder / "scheduler") / "scheduler_config.json", write_scheduler_config(spec))
    _write_json(folder / "model_index.json", index.content)


def _config(spec: ModelSpec, part: str) -> Mapping[str, Any]:
    if part == "unet":
        return write_unet_config(spec)
    return write_autoencoder_config(spec) if part == "autoencoder" else write_tower_config(tower_config(spec, part))


def _made(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise write_failure(folder, error) from error
    return folder


def _write_json(path: Path, content: Any) -> None:
    with atomic_file(path) as handle:
        handle.write((json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode())


def _write_lines(path: Path, lines: Iterable[str]) -> None:
    with atomic_file(path) as handle:
        handle.write("".join(f"{line}\n" for line in lines).encode())


def _write_tokenizer(folder: Path, spec: ModelSpec, part: str) -> None:
    """CLIP's vocabulary as transformers reads it, with the sign that the tower pads with."""
    vocabulary, config = clip_vocabulary(), tower_config(spec, part)
    pad = next(sign for sign, number in vocabulary.ids.items() if number == config.pad_token)
    start, end = "<|startoftext|>", "<|endoftext|>"
    signs = {"bos_token": start, "eos_token": end, "unk_token": end, "pad_token": pad}
    _write_json(folder / "vocab.json", vocabulary.ids)
    _write_lines(folder / "merges.txt", ("#version: 0.2", *(f"{a} {b}" for a, b in vocabulary.merges)))
    _write_json(folder / "special_tokens_map.json", signs)
    more = {"tokenizer_class": "CLIPTokenizer", "model_max_length": config.context_length, "do_lower_case": True}
    _write_json(folder / "tokenizer_config.json", {**signs, **more})
