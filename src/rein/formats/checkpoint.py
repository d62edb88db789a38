"""Models loaded from what people have, and saved as a folder of Rein's own.

A model comes from one of Rein's folders, a diffusers folder (`rein.formats.diffusers_folder`) or a single file
(`rein.formats.single`). Rein's folder has every part as data, and nothing that runs:

    model.json              what the model is, see `rein.formats.folder`
    unet.safetensors        weights, in half precision unless asked otherwise
    autoencoder.safetensors
    text_tower.safetensors  one for each tower: the next is text_tower_2.safetensors
    tokenizer.json          where the model has a vocabulary of its own

A weight file of such a folder must hold exactly the tensors that its network has.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor, nn

from rein.errors import DamagedFileError, InputError, quoted
from rein.files import write_failure
from rein.formats.adapters_names import Targets, parts_of
from rein.formats.averages import refuse_for_folder
from rein.formats.diffusers_folder import build_diffusers, is_diffusers_folder
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
    tokenizer_home,
    tower_file,
    weight_files,
    write_description,
)
from rein.formats.keys import part_names
from rein.formats.single import Built, LoadOptions, build_autoencoder, build_single
from rein.formats.tensors import read_tensors, write_tensors
from rein.nn.adapters_merge import Merger
from rein.nn.autoencoder import Autoencoder
from rein.nn.clip import TextTower
from rein.nn.specs import ModelSpec
from rein.nn.unet import UNet
from rein.text.tokenizer import FILE_NAME as TOKENIZER_FILE
from rein.text.tokenizer import Tokenizer, clip_tokenizer

_NAMES_SHOWN = 3


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """A model in memory: networks in evaluation mode that need no gradients, one tokenizer for each text tower.

    Fields:
        source: the folder or file that it came from.
        files: the files of its weights, by what they are called in the model's hash.
        recorded_hash: what `model.json` tells of their hash; "" where nothing does.
        notes: what was found in the files and left out.
        merger: puts adapters into the networks' weights, and takes them out again.
    """

    spec: ModelSpec
    unet: UNet
    autoencoder: Autoencoder
    towers: tuple[TextTower, ...]
    tokenizers: tuple[Tokenizer, ...]
    source: Path
    files: Mapping[str, Path]
    recorded_hash: str = ""
    notes: tuple[str, ...] = ()
    merger: Merger = field(init=False)

    def __post_init__(self) -> None:
        # Here, not when first asked for: two threads that ask at once must get the same.
        object.__setattr__(self, "merger", Merger(parts_of(self.unet, self.towers)))

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
        """SHA-256 that stands for all weight files: what `model.json` recorded when they were saved, else from them.

        That of a model in a single file is the file's own, as other programs tell it.
        """
        if self.recorded_hash:
            return self.recorded_hash
        digests = {name: file_digest(path) for name, path in self.files.items()}
        return next(iter(digests.values())) if len(digests) == 1 else combined_hash(digests)

    @cached_property
    def targets(self) -> Targets:
        """The layers that adapters can change, and all names that files have for them."""
        return Targets.of(self.spec, parts_of(self.unet, self.towers))


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
    source: str | os.PathLike[str],
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    options: LoadOptions | None = None,
) -> LoadedModel:
    """Read a model: one of Rein's folders, a diffusers folder or a single file. What a file is, its contents tell.

    The networks are put on `device` in `dtype`, whatever precision the files have. Weights of single files and
    diffusers folders that need no conversion stay views of the mapped files: replace such a file, which is what saving
    does, but do not write into it while the model is in use.

    Raises:
        InputError: there is no such model, or it is none that Rein draws with.
        DamagedFileError: a file is missing, cut short or damaged, or the parts do not belong together.
    """
    path, options = Path(source), options or LoadOptions()
    recorded = ""
    if options.ema and path.is_dir():
        refuse_for_folder(path)
    if path.is_file():
        built = build_single(path, device, dtype, options)
    elif is_diffusers_folder(path) and not (path / SPEC_FILE).is_file():
        built = build_diffusers(path, device, dtype, options)
    else:
        built, recorded = _build_own(path, device, dtype, options)
    spec, networks, files = built.spec, dict(built.networks), dict(built.files)
    if options.autoencoder is not None:
        lone = build_autoencoder(options.autoencoder, spec, device, dtype)
        networks["autoencoder"] = lone.network
        files |= {f"autoencoder {name}": file for name, file in lone.files.items()}
        scale = spec.latent_scale if lone.latent_scale is None else lone.latent_scale
        shift = spec.latent_shift if lone.latent_shift is None else lone.latent_shift
        spec, recorded = replace(spec, autoencoder=lone.config, latent_scale=scale, latent_shift=shift), ""
    unet, autoencoder, *rest = (networks[part] for part in part_names(spec))
    towers = tuple(tower for tower in rest if isinstance(tower, TextTower))
    assert isinstance(unet, UNet) and isinstance(autoencoder, Autoencoder) and len(towers) == len(rest)
    tokenizers = (_read_tokenizer(path, spec),) * len(towers)
    return LoadedModel(spec, unet, autoencoder, towers, tokenizers, path, files, recorded, built.fit.notes)


def _build_own(folder: Path, device: torch.device | str, dtype: torch.dtype, options: LoadOptions) -> tuple[Built, str]:
    """The networks of one of Rein's folders, and its recorded hash."""
    description = read_description(folder)
    spec = description.spec
    modules = build_networks(spec, folder / SPEC_FILE)
    places = {name: description.place(folder, name) for name in modules}
    for name, module in modules.items():
        if name == AUTOENCODER_FILE and options.autoencoder is not None:
            continue
        _check_size(places[name], description.files.get(name))
        _fill(module, places[name], device, dtype)
    if options.prediction is not None:
        spec = replace(spec, prediction=options.prediction)
    files = {name: path for name, path in places.items() if name != AUTOENCODER_FILE or options.autoencoder is None}
    networks = dict(zip(part_names(spec), modules.values(), strict=True))
    return Built(spec, networks, files), _complete_hash(description)


def _complete_hash(description: Description) -> str:
    """The recorded hash, if all weight files are in it and no other."""
    return description.weights_hash if description.files.keys() == set(weight_files(description.spec)) else ""


def read_spec(folder: str | os.PathLike[str]) -> ModelSpec:
    """What the model in one of Rein's folders is, without its weights. Raises as `load_model`."""
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
    elif (home := tokenizer_home(folder)) is not None:
        tokenizer, name = Tokenizer.from_files(home), TOKENIZER_FILE
    else:
        raise DamagedFileError(f"{folder} lacks {TOKENIZER_FILE}: fetch or save the model again")
    for config in spec.towers:
        if tokenizer.vocabulary_size > config.vocabulary_size or tokenizer.end != config.end_token:
            raise DamagedFileError(
                f"{folder}: {name} ({tokenizer.vocabulary_size} tokens, end {tokenizer.end}) does not belong to a text "
                f"tower of {config.vocabulary_size} tokens with end {config.end_token}"
            )
    return tokenizer
