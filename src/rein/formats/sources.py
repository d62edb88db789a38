"""A model as it lies in its files: what it is, and where each of its tensors can be read, before any of them is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor

from rein.errors import DamagedFileError, InputError
from rein.formats.averages import refuse_for_folder
from rein.formats.detect import detect, lone_autoencoder, with_prediction
from rein.formats.diffusers_folder import is_diffusers_folder, open_parts, read_diffusers_spec
from rein.formats.fill import compare
from rein.formats.folder import (
    SPEC_FILE,
    WeightRecord,
    combined_hash,
    file_digest,
    is_recorded,
    read_description,
    tokenizer_home,
    weight_files,
)
from rein.formats.keys import Place, key_map, part_names
from rein.formats.saving import FileSource, TensorSource
from rein.formats.single import LoadOptions, build_single, drawable, fitted
from rein.formats.weights import open_weights
from rein.nn.specs import ModelSpec
from rein.text.tokenizer import Tokenizer


class Parts:
    """A source for each part of a model, as one."""

    def __init__(self, sources: Mapping[str, TensorSource]) -> None:
        self._sources = sources

    def tensor(self, part: str, name: str) -> Tensor:
        """The tensor itself."""
        return self._sources[part].tensor(part, name)

    def dtype(self, part: str, name: str) -> torch.dtype:
        """Its type, without reading it."""
        return self._sources[part].dtype(part, name)


@dataclass(frozen=True)
class OpenModel:
    """A model in files.

    Fields:
        path: the file or folder.
        source: its tensors by native names, each read when it is asked for and not kept.
        files: the files of its weights by their names in the model's hash.
        notes: what is in them beside the model.
        tokenizer: the model's own, where it has one.
        records: what was recorded of files when they were saved.
    """

    path: Path
    spec: ModelSpec
    source: TensorSource
    files: Mapping[str, Path]
    notes: tuple[str, ...] = ()
    tokenizer: Tokenizer | None = None
    records: Mapping[str, WeightRecord] = field(default_factory=dict)

    @property
    def sha256(self) -> str:
        """Of a single file its SHA-256, of several one that stands for all. Reads them in full."""
        digests = {name: file_digest(path) for name, path in self.files.items()}
        return next(iter(digests.values())) if len(digests) == 1 else combined_hash(digests)

    def verify(self) -> None:
        """Compare its files with the checksums that they have (`Weights.verify`) or that were recorded of them.

        Raises:
            DamagedFileError: one of them differs.
        """
        for name, path in self.files.items():
            open_weights(path).verify()
            if not is_recorded(path, self.records.get(name)):
                raise DamagedFileError(f"cannot use {path}: it is not the file that was saved; fetch it again")


def open_model(path: Path, options: LoadOptions | None = None) -> OpenModel:
    """Open a single file, a diffusers folder or one of Rein's folders, and check that no tensor is missing.

    Raises:
        InputError: there is no such model, or it is none that Rein draws with.
        DamagedFileError: a file cannot be read, or lacks tensors.
    """
    options = options or LoadOptions()
    if options.ema and path.is_dir():
        refuse_for_folder(path)
    if path.is_file():
        found = _single(path, options)
    elif is_diffusers_folder(path) and not (path / SPEC_FILE).is_file():
        found = _diffusers(path, options)
    else:
        found = _own(path)
    if options.prediction is not None:
        found = replace(found, spec=with_prediction(found.spec, options.prediction, options.rows))
    return found if options.autoencoder is None else with_autoencoder(found, options.autoencoder)


def _single(path: Path, options: LoadOptions) -> OpenModel:
    weights = open_weights(path)
    found = detect(weights.infos, weights.metadata, options.rows)
    spec = drawable(path, found, options)
    keys, fit = fitted(path, weights, found, spec, options)
    fit.check(path)
    if not found.settled and options.prediction is None:
        spec = build_single(path, "cpu", torch.float32, options).spec  # tells by a step of drawing
    return OpenModel(path, spec, FileSource(weights, keys), {path.name: path}, fit.notes)


def _diffusers(folder: Path, options: LoadOptions) -> OpenModel:
    spec = read_diffusers_spec(folder)
    sources: dict[str, TensorSource] = {}
    files: dict[str, Path] = {}
    notes: tuple[str, ...] = ()
    for opened in open_parts(folder, spec, options):
        opened.fit.check(opened.folder)
        sources[opened.part] = FileSource(opened.weights, opened.keys)
        files |= opened.files
        notes += opened.fit.notes
    return OpenModel(folder, spec, Parts(sources), files, notes)


def _own(folder: Path) -> OpenModel:
    description = read_description(folder)
    spec = description.spec
    sources: dict[str, TensorSource] = {}
    files = {name: description.place(folder, name) for name in weight_files(spec)}
    for part, path in zip(part_names(spec), files.values(), strict=True):
        weights = open_weights(path)
        keys = key_map(spec, {part: Place("", "native")})
        compare(keys, weights.infos).check(path)
        sources[part] = FileSource(weights, keys)
    home = tokenizer_home(folder)
    tokenizer = None if home is None else Tokenizer.from_files(home)
    return OpenModel(folder, spec, Parts(sources), files, (), tokenizer, description.files)


@dataclass(frozen=True)
class _Replaced:
    """A source of which one part comes from elsewhere."""

    source: TensorSource
    part: str
    instead: TensorSource = field(repr=False)

    def tensor(self, part: str, name: str) -> Tensor:
        return (self.instead if part == self.part else self.source).tensor(part, name)

    def dtype(self, part: str, name: str) -> torch.dtype:
        return (self.instead if part == self.part else self.source).dtype(part, name)


def with_autoencoder(model: OpenModel, path: Path) -> OpenModel:
    """The model with the autoencoder of another file: a lone one, or that of a whole model.

    Raises:
        InputError: the file holds none, or one for other latents.
        DamagedFileError: it cannot be read, or lacks tensors.
    """
    weights = open_weights(path)
    found = lone_autoencoder(weights.infos, model.spec)
    if found is None:
        raise InputError(f"{path} holds no autoencoder that can be put into a model: give a VAE or a whole model")
    place, config = found
    ours = model.spec.autoencoder
    if (config.latent_channels, config.downscale) != (ours.latent_channels, ours.downscale):
        raise InputError(
            f"the autoencoder in {path} has latents of {config.latent_channels} channels and {config.downscale} "
            f"pixels, but model {model.spec.name!r} needs {ours.latent_channels} and {ours.downscale}"
        )
    if config.design == "tiny":
        raise InputError(f"{path} holds a tiny autoencoder, which is for previews: give a VAE")
    spec = replace(model.spec, autoencoder=config)
    keys = key_map(spec, {"autoencoder": place})
    beside = {name: info for name, info in weights.infos.items() if name.startswith(place.prefix)}
    compare(keys, beside).check(path)
    source = _Replaced(model.source, "autoencoder", FileSource(weights, keys))
    return replace(model, spec=spec, source=source)
