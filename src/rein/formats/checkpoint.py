"""A model folder: every part of a model as data, and nothing that runs.

    model.json              what the model is, see `rein.formats.folder`
    unet.safetensors        weights, in half precision unless asked otherwise
    autoencoder.safetensors
    text_tower.safetensors  one for each tower: the next is text_tower_2.safetensors
    tokenizer.json          where the model has a vocabulary of its own

A weight file must hold exactly the tensors that its network has.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor, nn

from rein.errors import DamagedFileError, InputError, quoted
from rein.files import write_failure
from rein.formats.folder import (
    AUTOENCODER_FILE,
    SPEC_FILE,
    UNET_FILE,
    Description,
    WeightRecord,
    build_networks,
    combined_hash,
    file_digest,
    read_description,
    tower_file,
    weight_files,
    write_description,
)
from rein.formats.tensors import read_tensors, write_tensors
from rein.nn.autoencoder import Autoencoder
from rein.nn.clip import TextTower
from rein.nn.specs import ModelSpec
from rein.nn.unet import UNet
from rein.text.tokenizer import FILE_NAME as TOKENIZER_FILE
from rein.text.tokenizer import Tokenizer, clip_tokenizer

_NAMES_SHOWN = 3


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """A model in memory: networks in evaluation mode that need no gradients, one tokenizer for each text tower."""

    spec: ModelSpec
    unet: UNet
    autoencoder: Autoencoder
    towers: tuple[TextTower, ...]
    tokenizers: tuple[Tokenizer, ...]
    folder: Path
    recorded_hash: str

    @property
    def device(self) -> torch.device:
        """Where the networks are."""
        return self.unet.conv_in.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """The number format of the networks."""
        return self.unet.conv_in.weight.dtype

    @cached_property
    def weights_hash(self) -> str:
        """SHA-256 that stands for all weight files: what `model.json` recorded when they were saved, else from them."""
        if self.recorded_hash:
            return self.recorded_hash
        return combined_hash({name: file_digest(self.folder / name) for name in weight_files(self.spec)})


def save_model(
    folder: str | os.PathLike[str],
    spec: ModelSpec,
    unet: UNet,
    autoencoder: Autoencoder,
    towers: Sequence[TextTower],
    tokenizer: Tokenizer | None = None,
    dtype: torch.dtype = torch.float16,
) -> Path:
    """Write a model folder, which is made if it is missing; the model that was there is replaced.

    `model.json` comes last, so a folder whose writing was interrupted loads as nothing rather than as a mixture.

    Args:
        tokenizer: the model's own; given if, and only if, `spec.vocabulary` is "own".
        dtype: what the weights are stored as. Half precision rounds them; files are half as large.

    Raises:
        InputError: parts that do not belong together; a weight that is not finite in `dtype`.
        OutputError: the folder cannot be written.
    """
    folder = Path(folder)
    if (tokenizer is None) != (spec.vocabulary == "clip"):
        problem = "none is given" if tokenizer is None else "one is given"
        raise InputError(f"vocabulary is {spec.vocabulary!r} and a tokenizer goes with 'own' alone, but {problem}")
    if len(towers) != len(spec.towers):
        raise InputError(f"model {spec.name!r} has {len(spec.towers)} text towers, not {len(towers)}")
    modules: dict[str, nn.Module] = {UNET_FILE: unet, AUTOENCODER_FILE: autoencoder}
    modules |= {tower_file(index): tower for index, tower in enumerate(towers)}
    expected = build_networks(spec, folder / SPEC_FILE)
    stored = {name: _stored(module, expected[name], dtype) for name, module in modules.items()}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / SPEC_FILE).unlink(missing_ok=True)
    except OSError as error:
        raise write_failure(folder, error) from error
    for name, tensors in stored.items():
        write_tensors(folder / name, tensors, {"format": "pt"})
    if tokenizer is not None:
        tokenizer.save(folder)
    write_description(folder, spec)
    return folder


def _stored(module: nn.Module, expected: nn.Module, dtype: torch.dtype) -> dict[str, Tensor]:
    """The tensors of `module` as they are written, checked against the network that the specification describes."""
    shapes = {name: tensor.shape for name, tensor in expected.state_dict().items()}
    stored = {}
    for name, tensor in module.state_dict().items():
        if shapes.pop(name, None) != tensor.shape:
            raise InputError(
                f"weight {quoted(name)} {tuple(tensor.shape)} does not belong to the model's specification"
            )
        stored[name] = tensor.detach().to("cpu", dtype).contiguous()
        if not bool(torch.isfinite(stored[name]).all()):
            raise InputError(f"weight {quoted(name)} is not finite in {dtype}: store the model in another format")
    if shapes:
        raise InputError(f"weight {quoted(next(iter(shapes)))} of the model's specification is missing")
    return stored


def load_model(
    folder: str | os.PathLike[str], device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
) -> LoadedModel:
    """Read a model folder; its networks are put on `device` in `dtype`, whatever precision the files have.

    Raises:
        InputError: there is no such folder, or it is no model folder.
        DamagedFileError: a file is missing, cut short or damaged, or the parts do not belong together.
    """
    folder = Path(folder)
    description = read_description(folder)
    spec = description.spec
    modules = build_networks(spec, folder / SPEC_FILE)
    for name, module in modules.items():
        _check_size(folder / name, description.files.get(name))
        _fill(module, folder / name, device, dtype)
    unet, autoencoder, *rest = modules.values()
    towers = tuple(tower for tower in rest if isinstance(tower, TextTower))
    assert isinstance(unet, UNet) and isinstance(autoencoder, Autoencoder) and len(towers) == len(rest)
    tokenizers = (_read_tokenizer(folder, spec),) * len(towers)
    return LoadedModel(spec, unet, autoencoder, towers, tokenizers, folder, _complete_hash(description))


def _complete_hash(description: Description) -> str:
    """The recorded hash, if all weight files are in it and no other."""
    return description.weights_hash if description.files.keys() == set(weight_files(description.spec)) else ""


def read_spec(folder: str | os.PathLike[str]) -> ModelSpec:
    """What the model in `folder` is, without its weights. Raises as `load_model`."""
    return read_description(Path(folder)).spec


def _check_size(path: Path, record: WeightRecord | None) -> None:
    if not path.is_file():
        raise DamagedFileError(f"{path.parent} lacks {path.name}: fetch or save the model again")
    size = path.stat().st_size
    if record is not None and size != record.bytes:
        raise DamagedFileError(f"cannot read {path}: it has {size} bytes, {record.bytes} when saved; fetch it again")


def _fill(module: nn.Module, path: Path, device: torch.device | str, dtype: torch.dtype) -> None:
    """Give `module` the tensors of the file at `path`, in evaluation mode and without gradients."""
    tensors = read_tensors(path)
    wanted = module.state_dict()
    _check_names(wanted.keys() - tensors.keys(), "lacks", path)
    _check_names(tensors.keys() - wanted.keys(), "has foreign", path)
    for name, tensor in tensors.items():
        if tensor.shape != wanted[name].shape:
            shapes = f"{tuple(tensor.shape)}, not {tuple(wanted[name].shape)} as {SPEC_FILE} has it"
            raise DamagedFileError(f"cannot read {path}: tensor {quoted(name)} has the shape {shapes}")
        if not tensor.dtype.is_floating_point:
            raise DamagedFileError(f"cannot read {path}: tensor {quoted(name)} holds {tensor.dtype}, not weights")
    # Copied even where nothing changes: a view of the file would go wrong when the file is overwritten.
    module.load_state_dict({name: tensor.to(device, dtype, copy=True) for name, tensor in tensors.items()}, assign=True)
    module.eval().requires_grad_(False)


def _check_names(names: set[str], what: str, path: Path) -> None:
    if names:
        shown = ", ".join(quoted(name) for name in sorted(names)[:_NAMES_SHOWN])
        more = ", ..." if len(names) > _NAMES_SHOWN else ""
        raise DamagedFileError(f"cannot read {path}: it {what} tensors, {len(names)} of them: {shown}{more}")


def _read_tokenizer(folder: Path, spec: ModelSpec) -> Tokenizer:
    if spec.vocabulary == "clip":
        tokenizer, name = clip_tokenizer(), "CLIP's vocabulary"
    elif (folder / TOKENIZER_FILE).is_file():
        tokenizer, name = Tokenizer.from_files(folder), TOKENIZER_FILE
    else:
        raise DamagedFileError(f"{folder} lacks {TOKENIZER_FILE}: fetch or save the model again")
    for config in spec.towers:
        if tokenizer.vocabulary_size > config.vocabulary_size or tokenizer.end != config.end_token:
            raise DamagedFileError(
                f"{folder}: {name} ({tokenizer.vocabulary_size} tokens, end {tokenizer.end}) does not belong to a text "
                f"tower of {config.vocabulary_size} tokens with end {config.end_token}"
            )
    return tokenizer
