"""Single files with a whole model in them, under their original names, and files with an autoencoder alone."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import nn

from rein.errors import InputError
from rein.formats.averages import averaged_keys
from rein.formats.detect import Detection, detect, lone_autoencoder, sequential_side, with_prediction
from rein.formats.fill import Fit, compare, fill
from rein.formats.key_names import sequential_modules
from rein.formats.keys import Entry, KeyMap, Place, key_map, networks_of, part_entries, part_names
from rein.formats.places import autoencoder_config
from rein.formats.probe import probe_prediction
from rein.formats.weights import Weights, open_weights
from rein.nn.autoencoder import Autoencoder
from rein.nn.specs import AutoencoderConfig, ModelSpec, PredictionName

PART_TITLES = {"unet": "U-Net", "autoencoder": "autoencoder", "tower": "text tower", "tower_2": "second text tower"}


@dataclass(frozen=True)
class LoadOptions:
    """Choices in loading that a file does not settle.

    Fields:
        autoencoder: a file whose autoencoder replaces the model's own.
        prediction: what the U-Net predicts; None goes by the file.
        ema: take the averaged U-Net, where a file has two. One that has no other is taken in any case.
        variant: which files of a diffusers folder ("fp16"); None takes the plain ones where they are there.
        rows: the families to choose from; None for all that Rein knows.
    """

    autoencoder: Path | None = None
    prediction: PredictionName | None = None
    ema: bool = False
    variant: str | None = None
    rows: tuple[ModelSpec, ...] | None = None


@dataclass(frozen=True)
class Built:
    """Networks by part, filled; the files that they came from; how those files fitted."""

    spec: ModelSpec
    networks: Mapping[str, nn.Module]
    files: Mapping[str, Path]
    fit: Fit = field(default_factory=Fit)


def build_single(
    path: Path, device: torch.device | str, dtype: torch.dtype, options: LoadOptions | None = None
) -> Built:
    """The networks of the model in a single file.

    Raises:
        InputError: the file holds something else than a model, or not all of one.
        DamagedFileError: it cannot be read, or would leave a network unfilled.
    """
    options = options or LoadOptions()
    weights = open_weights(path)
    found = detect(weights.infos, weights.metadata, options.rows)
    spec = drawable(path, found, options)
    networks = networks_of(spec, path)
    keys, fit = fitted(path, weights, found, spec, options)
    fit.check(path)
    for part in dict.fromkeys(entry.part for entry in keys.entries):
        fill(networks[part], [entry for entry in keys.entries if entry.part == part], weights, device, dtype)
    if options.prediction is not None:
        spec = with_prediction(spec, options.prediction, options.rows)
    elif not found.settled:
        spec = with_prediction(spec, probe_prediction(spec, networks["unet"], networks["tower"]), options.rows)
    return Built(spec, networks, {path.name: path}, fit)


def drawable(path: Path, found: Detection, options: LoadOptions) -> ModelSpec:
    """The family of a file that holds a whole model, or all but the autoencoder that comes from elsewhere."""
    if found.kind not in ("model", "unet"):
        what = found.note or f"{'an' if found.kind[0] in 'aeiou' else 'a'} {found.kind}"
        raise InputError(f"{path} is no model to draw with: it holds {what}")
    if found.spec is None:
        raise InputError(f"cannot use {path}: it holds {found.note}")
    absent = [part for part in found.absent if part != "autoencoder" or options.autoencoder is None]
    if absent:
        lacks = ", ".join(PART_TITLES[part] for part in absent)
        hint = "; give one with --vae FILE" if absent == ["autoencoder"] else ""
        raise InputError(f"cannot use {path}: it holds a model of family {found.family!r} without its {lacks}{hint}")
    return found.spec


def fitted(path: Path, weights: Weights, found: Detection, spec: ModelSpec, options: LoadOptions) -> tuple[KeyMap, Fit]:
    """The map of the names of all parts that are read from a file, and how its tensors fit it.

    Raises:
        InputError: averaged weights are wanted and there are none.
    """
    layout = {part: place for part, place in found.layout.items() if part in part_names(spec)}
    if options.autoencoder is not None:
        layout.pop("autoencoder", None)
    plain = key_map(spec, layout)
    if not (options.ema or found.ema_only):
        return plain, compare(plain, weights.infos)
    keys = averaged_keys(plain, weights.infos, path)
    passed_over = plain.by_original.keys() - keys.by_original.keys()
    return keys, compare(keys, {name: info for name, info in weights.infos.items() if name not in passed_over})


@dataclass(frozen=True)
class LoneAutoencoder:
    """An autoencoder by itself. `latent_scale` and `latent_shift` are None where the model's own hold."""

    config: AutoencoderConfig
    network: Autoencoder
    files: Mapping[str, Path]
    latent_scale: float | None = None
    latent_shift: float | None = None


def build_autoencoder(path: Path, spec: ModelSpec, device: torch.device | str, dtype: torch.dtype) -> LoneAutoencoder:
    """The autoencoder of a file, for a model: a lone one, a tiny one, or that of another model.

    Raises:
        InputError: the file has none, or one of other latents than the model's.
        DamagedFileError: it cannot be read, or would leave the network unfilled.
    """
    weights = open_weights(path)
    shapes = {name: tuple(info.shape) for name, info in weights.infos.items()}
    if sequential_side(shapes):
        return _tiny_halves(path, sequential_side(shapes), spec, device, dtype)
    found = lone_autoencoder(weights.infos, spec)
    if found is None:
        raise InputError(f"{path} holds no autoencoder: give a VAE, a TAESD or a whole model")
    place, config = found
    network = _empty(config, spec, path)
    keys = key_map(replace(spec, autoencoder=config), {"autoencoder": place})
    beside = {name: info for name, info in weights.infos.items() if name.startswith(place.prefix)}
    compare(keys, beside).check(path)
    fill(network, keys.entries, weights, device, dtype)
    scale = (1.0, 0.0) if config.design == "tiny" else (None, None)
    return LoneAutoencoder(config, network, {path.name: path}, *scale)


def _empty(config: AutoencoderConfig, spec: ModelSpec, path: Path) -> Autoencoder:
    theirs, ours = (
        (config.latent_channels, config.downscale),
        (spec.autoencoder.latent_channels, spec.autoencoder.downscale),
    )
    if theirs != ours:
        raise InputError(
            f"the autoencoder in {path} has latents of {theirs[0]} channels and {theirs[1]} pixels, but model "
            f"{spec.name!r} needs {ours[0]} channels and {ours[1]} pixels"
        )
    network = networks_of(replace(spec, autoencoder=config), path)["autoencoder"]
    assert isinstance(network, Autoencoder)
    return network


def _tiny_halves(
    path: Path, side: str, spec: ModelSpec, device: torch.device | str, dtype: torch.dtype
) -> LoneAutoencoder:
    """The original TAESD, whose halves lie in two files side by side: taesd_encoder, taesd_decoder."""
    other = {"encoder": "decoder", "decoder": "encoder"}[side]
    beside = path.with_name(re.sub(side, other, path.name, count=1))
    if beside == path or not beside.is_file():
        raise InputError(
            f"{path} holds only the {side} of a tiny autoencoder: put its {other} beside it as {beside.name}"
        )
    files = {side: open_weights(path), other: open_weights(beside)}
    firsts = {"encoder": 0, "decoder": 1}
    layers = {
        f"{half}.layers.{int(number) - firsts[half]}.{rest}": tuple(info.shape)
        for half, weights in files.items()
        for name, info in weights.infos.items()
        for number, _, rest in [name.partition(".")]
        if number.isdigit()
    }
    config = autoencoder_config(layers, Place("", "native"), spec.autoencoder)
    network = _empty(config, spec, path)
    shapes = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    for half, weights in files.items():
        modules = sequential_modules(half, firsts[half], len(network.get_submodule(f"{half}.layers")))  # type: ignore[arg-type]
        inner = {name: shape for name, shape in shapes.items() if name.startswith(half)}
        entries = part_entries("autoencoder", inner, Place("", "native"), modules)
        compare(KeyMap(tuple(entries)), weights.infos).check(weights.path)
        _fill_half(network.get_submodule(half), half, entries, weights, device, dtype)
    network.eval().requires_grad_(False)
    return LoneAutoencoder(config, network, {path.name: path, beside.name: beside}, 1.0, 0.0)


def _fill_half(
    half: nn.Module, name: str, entries: list[Entry], weights: Weights, device: torch.device | str, dtype: torch.dtype
) -> None:
    within = [replace(entry, natives=(entry.natives[0].removeprefix(f"{name}."),)) for entry in entries]
    fill(half, within, weights, device, dtype)
