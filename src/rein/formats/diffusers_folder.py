"""A diffusers folder: a sub-folder for each part, with a configuration and weights, listed in model_index.json.

    model_index.json            which parts there are
    unet/config.json            and diffusion_pytorch_model.safetensors
    vae/                        the same
    text_encoder/config.json    and model.safetensors; SDXL has text_encoder_2 too
    scheduler/scheduler_config.json
    tokenizer/                  read only for the sign that it pads with: Rein has CLIP's vocabulary itself

Weights may be split into shards listed in an index, come in variants (`.fp16.`), and be PyTorch files (`.bin`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from rein.errors import DamagedFileError, InputError, quoted
from rein.files import parse_json
from rein.formats.diffusers_configs import named, read_autoencoder, read_schedule, read_tower, read_unet
from rein.formats.fill import Fit, Shards, compare, fill
from rein.formats.folder import AUTOENCODER_FILE
from rein.formats.keys import KeyMap, Place, key_map, networks_of, part_names
from rein.formats.places import find_autoencoder, find_towers
from rein.formats.single import Built, LoadOptions
from rein.formats.weights import Weights, open_weights
from rein.nn.specs import ModelSpec

INDEX_FILE = "model_index.json"
FOLDERS = {"unet": "unet", "autoencoder": "vae", "tower": "text_encoder", "tower_2": "text_encoder_2"}
_SCHEDULER = "scheduler/scheduler_config.json"
_LARGEST_JSON = 2**26

Files = tuple[Path, ...]


def is_diffusers_folder(folder: Path) -> bool:
    """Whether `folder` has the list of parts that diffusers writes."""
    return (folder / INDEX_FILE).is_file()


def read_json(path: Path) -> dict[str, Any]:
    """An object from a JSON file. Raises `InputError` where there is none, `DamagedFileError` where it is not JSON."""
    try:
        with path.open("rb") as handle:
            text = handle.read(_LARGEST_JSON + 1)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error
    try:
        value = parse_json(text) if len(text) <= _LARGEST_JSON else None
    except ValueError as error:
        raise DamagedFileError(f"cannot read {path}: it is not valid JSON ({str(error)[:100]})") from error
    if not isinstance(value, dict):
        raise DamagedFileError(f"cannot read {path}: it is not a JSON object of less than {_LARGEST_JSON} bytes")
    return value


def read_diffusers_spec(folder: Path) -> ModelSpec:
    """What the model in a diffusers folder is, from its configurations alone.

    Raises:
        InputError: a part is missing, or is of a kind that Rein does not draw with.
        DamagedFileError: a configuration is not JSON.
    """
    index = read_json(folder / INDEX_FILE)
    unet = _config(folder, "unet")
    penultimate = unet.get("addition_embed_type") == "text_time"
    towers = tuple(
        read_tower(_config(folder, part), _pad(folder, part), penultimate, f"{folder}/{FOLDERS[part]}/config.json")
        for part in _tower_parts(folder, index)
    )
    if not towers:
        raise InputError(f"{folder} has no text_encoder: fetch the model again, whole")
    autoencoder, scale, shift = read_autoencoder(_config(folder, "autoencoder"), f"{folder}/vae/config.json")
    scheduler = read_json(folder / _SCHEDULER)
    prediction, schedule = read_schedule(scheduler, f"{folder}/{_SCHEDULER}")
    spec = ModelSpec(
        name="custom",
        unet=read_unet(unet, towers, f"{folder}/unet/config.json"),
        autoencoder=autoencoder,
        towers=towers,
        prediction=prediction,
        schedule=schedule,
        latent_scale=scale,
        latent_shift=shift,
        zero_empty_negative=bool(index.get("force_zeros_for_empty_prompt", False)),
    )
    return named(spec, scheduler, unet.get("sample_size"))


def _tower_parts(folder: Path, index: Mapping[str, Any]) -> Iterator[str]:
    """The towers that the folder lists: a refiner has only the second, which is then the first that Rein counts."""
    for part in ("tower", "tower_2"):
        listed = index.get(FOLDERS[part])
        if isinstance(listed, list) and listed and listed[-1] is not None:
            yield part


def _config(folder: Path, part: str) -> dict[str, Any]:
    path = folder / FOLDERS[part] / "config.json"
    if not path.is_file():
        raise InputError(f"{folder} lacks {FOLDERS[part]}/config.json: fetch the model again, whole")
    return read_json(path)


def _pad(folder: Path, part: str) -> str | None:
    """The sign that the tower's tokenizer fills up with, where a file tells it."""
    place = folder / FOLDERS[part].replace("text_encoder", "tokenizer")
    for name in ("special_tokens_map.json", "tokenizer_config.json"):
        if (place / name).is_file():
            sign = read_json(place / name).get("pad_token")
            sign = sign.get("content") if isinstance(sign, dict) else sign
            if isinstance(sign, str):
                return sign
    return None


def weight_paths(folder: Path, variant: str | None) -> Files:
    """The files of one part's weights: one, or its shards.

    Without a `variant` plain files are preferred to variants, safetensors to PyTorch's files.

    Raises:
        InputError: there are none, or none of the variant.
        DamagedFileError: an index of shards is damaged or names a file that is not there.
    """
    present = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    stems = ("diffusion_pytorch_model", "model", "pytorch_model")
    found: dict[str, str] = {}
    for ending in ("safetensors", "bin"):
        for stem in stems:
            for name in present:
                kind = _variant_of(name, stem, ending)
                if kind is not None:
                    found.setdefault(kind, name)
    wanted = variant if variant is not None else ("" if "" in found else next(iter(found), ""))
    if wanted not in found:
        others = ", ".join(quoted(kind or "the plain one") for kind in found)
        lacks = f"no weights of variant {variant!r}" if variant else "no weights"
        raise InputError(f"{folder} has {lacks}; {f'it has {others}' if others else 'fetch the model again'}")
    path = folder / found[wanted]
    return _shards(path) if path.name.endswith(".json") else (path,)


def lone_weights(path: Path) -> Path:
    """The file of weights of a part that comes by itself: `path`, or what is in a folder with a configuration.

    Of the folder of a whole model it is the autoencoder's.

    Raises:
        InputError: the folder has no weights, or several files of them.
        DamagedFileError: an index of shards is damaged.
    """
    if not path.is_dir():
        return path
    if (path / AUTOENCODER_FILE).is_file():
        return path / AUTOENCODER_FILE
    files = weight_paths(path / FOLDERS["autoencoder"] if is_diffusers_folder(path) else path, None)
    if len(files) > 1:
        raise InputError(f"{path} has its weights in {len(files)} files: give a part whose weights are in one")
    return files[0]


def _variant_of(name: str, stem: str, ending: str) -> str | None:
    """The variant that a file of weights, or the index of one, is of: "" for the plain one; None for other files."""
    if re.fullmatch(rf"{stem}\.{ending}(\.index\.json)?", name):
        return ""
    index = re.fullmatch(rf"{stem}\.{ending}\.index\.([\w-]+)\.json", name)
    found = index or re.fullmatch(rf"{stem}\.(?!.*-of-)([\w-]+)\.{ending}", name)
    return found[1] if found else None


def _shards(index: Path) -> Files:
    table = read_json(index).get("weight_map")
    names = {str(name) for name in table.values()} if isinstance(table, dict) else set()
    if not names or not all(re.fullmatch(r"[\w.-]*\w", name) for name in names):
        raise DamagedFileError(f"cannot read {index}: its weight_map does not name files of the same folder")
    paths = tuple(index.parent / name for name in sorted(names))
    for path in paths:
        if not path.is_file():
            raise DamagedFileError(f"cannot read {index.parent}: its shard {path.name} is missing; fetch it again")
    return paths


@dataclass(frozen=True)
class OpenPart:
    """One part of a folder, opened: its weights, the map of their names, and how they fit."""

    part: str
    folder: Path
    weights: Shards
    keys: KeyMap
    fit: Fit

    @property
    def files(self) -> dict[str, Path]:
        """Its files by their place in the folder."""
        return {f"{self.folder.name}/{path.name}": path for path in self.weights.paths}


def open_parts(folder: Path, spec: ModelSpec, options: LoadOptions) -> Iterator[OpenPart]:
    """The parts of a folder, opened one by one; the autoencoder not where another one is to replace it.

    Raises:
        InputError: there are no weights, or none of the variant.
        DamagedFileError: a file cannot be read.
    """
    sources = folder_names(folder)
    if options.variant is not None and not any(_has(folder / source, options.variant) for source in sources):
        raise InputError(f"{folder} has no weights of variant {quoted(options.variant)}: leave the choice out")
    for part, source in zip(part_names(spec), sources, strict=True):
        if part == "autoencoder" and options.autoencoder is not None:
            continue
        # A part that lacks the variant comes plain, as long as another part has it.
        chosen = options.variant if options.variant and _has(folder / source, options.variant) else None
        weights = Shards([open_weights(path) for path in weight_paths(folder / source, chosen)])
        keys = key_map(spec, {part: folder_place(part, weights, folder / source)})
        yield OpenPart(part, folder / source, weights, keys, compare(keys, weights.infos))


def build_diffusers(
    folder: Path, device: torch.device | str, dtype: torch.dtype, options: LoadOptions | None = None
) -> Built:
    """The networks of the model in a diffusers folder.

    Raises:
        InputError: a part is missing, or is of a kind that Rein does not draw with.
        DamagedFileError: a file cannot be read, or would leave a network unfilled.
    """
    options = options or LoadOptions()
    spec = read_diffusers_spec(folder)
    if options.prediction is not None:
        spec = replace(spec, prediction=options.prediction)
    networks = networks_of(spec, folder)
    files: dict[str, Path] = {}
    extra: list[str] = []
    for opened in open_parts(folder, spec, options):
        opened.fit.check(opened.folder)
        fill(networks[opened.part], opened.keys.entries, opened.weights, device, dtype)
        files |= opened.files
        extra += [f"{opened.folder.name}/{name}" for name in opened.fit.extra]
    return Built(spec, networks, files, Fit(extra=tuple(extra)))


def _has(folder: Path, variant: str) -> bool:
    return folder.is_dir() and any(f".{variant}" in path.name for path in folder.iterdir())


def folder_names(folder: Path) -> tuple[str, ...]:
    """The sub-folders of a model's parts, in the order of `part_names`."""
    index = read_json(folder / INDEX_FILE)
    return ("unet", "vae", *(FOLDERS[part] for part in _tower_parts(folder, index)))


def folder_place(part: str, weights: Weights | Shards, where: Path) -> Place:
    """How a part's files name their tensors: as now, as before diffusers 0.17, or as transformers 5 does."""
    shapes = {name: tuple(info.shape) for name, info in weights.infos.items()}
    if part == "unet":
        return Place("", "native")
    place = find_autoencoder(shapes) if part == "autoencoder" else next((p for p, _ in find_towers(shapes)), None)
    if place is None:
        raise DamagedFileError(f"cannot use {where}: it holds no {'autoencoder' if part == 'autoencoder' else 'tower'}")
    return place
