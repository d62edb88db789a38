"""A model folder without its weights: `model.json`, and the networks that it describes.

    {"format": "rein-model", "version": 1,
     "model": {...},                                            a `ModelSpec`
     "files": {"unet.safetensors": {"bytes": 1, "sha256": "..."}, ...}}

A file that an embedded model has too may be left there: its record then has that model's name, "of": "pocket".

Networks are built without memory ("meta" tensors); weights are given to them later.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from rein.errors import DamagedFileError, InputError, quoted
from rein.files import atomic_file, parse_json
from rein.formats.embedded import EMBEDDED, embedded_folder
from rein.nn.autoencoder import Autoencoder
from rein.nn.clip import TextTower
from rein.nn.specs import AutoencoderConfig, ModelSpec, TextTowerConfig, UNetConfig, from_dict, to_dict
from rein.nn.unet import UNet
from rein.text.tokenizer import FILE_NAME as TOKENIZER_FILE

FORMAT, VERSION = "rein-model", 1
SPEC_FILE = "model.json"
UNET_FILE, AUTOENCODER_FILE = "unet.safetensors", "autoencoder.safetensors"

_LARGEST_NUMBER = 2**20
"""No width or count of a real model comes near; larger ones would only make the reader work for ever."""

_MOST_REPEATED = 1000
_REPEATED = ("layers", "depth", "blocks_per_level")
_MOST_ENTRIES = 64


@dataclass(frozen=True)
class WeightRecord:
    """What `model.json` tells of a weight file; `of` is the embedded model in whose folder it is, "" for its own."""

    bytes: int
    sha256: str
    of: str = ""


@dataclass(frozen=True)
class Description:
    """The contents of a `model.json`. `files` is empty where nobody recorded them."""

    spec: ModelSpec
    files: Mapping[str, WeightRecord]

    @property
    def weights_hash(self) -> str:
        """SHA-256 over the names and SHA-256 of all weight files, 64 hexadecimal digits; "" where none are recorded."""
        return combined_hash({name: record.sha256 for name, record in self.files.items()})

    def home(self, folder: Path, name: str) -> Path:
        """Where weight file `name` of the model in `folder` is: in there, or in the folder of an embedded model."""
        record = self.files.get(name)
        return embedded_folder(record.of) if record is not None and record.of else folder

    def place(self, folder: Path, name: str) -> Path:
        """The path of weight file `name` of the model in `folder`."""
        return self.home(folder, name) / name


def combined_hash(digests: Mapping[str, str]) -> str:
    """One SHA-256 of several files' names and SHA-256; "" for none."""
    lines = "".join(f"{name} {digests[name]}\n" for name in sorted(digests))
    return hashlib.sha256(lines.encode()).hexdigest() if digests else ""


def file_digest(path: Path) -> str:
    """SHA-256 of a file, 64 hexadecimal digits."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def is_recorded(path: Path, record: WeightRecord | None) -> bool:
    """Whether a file is, bit for bit, the one that was saved; true where nothing was recorded. Reads all of it."""
    return record is None or file_digest(path) == record.sha256


def tower_file(index: int) -> str:
    """The file of text tower `index`, from 0."""
    return "text_tower.safetensors" if index == 0 else f"text_tower_{index + 1}.safetensors"


def weight_files(spec: ModelSpec) -> tuple[str, ...]:
    """Names of a model's weight files: U-Net, autoencoder, text towers."""
    return (UNET_FILE, AUTOENCODER_FILE, *(tower_file(index) for index in range(len(spec.towers))))


def write_description(folder: Path, spec: ModelSpec, base: str = "") -> None:
    """Write `model.json` for the weight files that are in `folder`; those that are not are `base`'s, an embedded model.

    Raises:
        OutputError: it cannot be written.
    """
    records = {}
    for name in weight_files(spec):
        of = base if base and not (folder / name).is_file() else ""
        path = (embedded_folder(of) if of else folder) / name
        records[name] = WeightRecord(path.stat().st_size, file_digest(path), of)
    files = {name: {key: value for key, value in asdict(record).items() if value} for name, record in records.items()}
    content = {"format": FORMAT, "version": VERSION, "model": to_dict(spec), "files": files}
    with atomic_file(folder / SPEC_FILE) as handle:
        handle.write((json.dumps(content, indent=1) + "\n").encode())


def leave_out(folder: Path, base: str) -> None:
    """Remove from a model's folder what the embedded model `base` has too: weight files, and with its tower the words.

    Raises:
        InputError, DamagedFileError: as `read_description`.
        OutputError: `model.json` cannot be written.
    """
    spec, home = read_description(folder).spec, embedded_folder(base)

    def same(name: str) -> bool:
        paths = folder / name, home / name
        return all(path.is_file() for path in paths) and file_digest(paths[0]) == file_digest(paths[1])

    shared = [name for name in weight_files(spec) if same(name)]
    if tower_file(0) in shared and same(TOKENIZER_FILE):
        shared.append(TOKENIZER_FILE)
    for name in shared:
        (folder / name).unlink()
    write_description(folder, spec, base)


def read_description(folder: Path) -> Description:
    """Read `model.json`.

    Raises:
        InputError: there is no such folder, or it is no model folder.
        DamagedFileError: the file is not JSON, of a later version, or does not describe a model.
    """
    path = folder / SPEC_FILE
    try:
        content = parse_json(_text(folder))
    except ValueError as error:
        raise DamagedFileError(f"cannot read {path}: it is not valid JSON ({str(error)[:100]})") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        _refuse(path, f'it is not a "{FORMAT}" description')
    if content.get("version") != VERSION:
        _refuse(path, f"it has version {quoted(content.get('version'))} and this Rein reads {VERSION}: update Rein")
    model = content.get("model", {})
    check_numbers(model, "model", path)
    try:
        spec = from_dict(ModelSpec, model)
    except InputError as error:
        _refuse(path, str(error))
    assert isinstance(spec, ModelSpec)
    if not spec.towers:
        _refuse(path, "model.towers is empty: a model needs a text tower")
    return Description(spec, _records(content.get("files", {}), path))


def tokenizer_home(folder: Path) -> Path | None:
    """Which folder has the vocabulary of a model of Rein's: its own, or that of its first text tower; None if neither.

    Raises as `read_description`.
    """
    if (folder / TOKENIZER_FILE).is_file():
        return folder
    home = read_description(folder).home(folder, tower_file(0))
    return home if (home / TOKENIZER_FILE).is_file() else None


def _text(folder: Path) -> str:
    path = folder / SPEC_FILE
    try:
        return path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError) as error:
        kind = f"has no {SPEC_FILE}, so it is no model folder" if folder.is_dir() else "is not a folder"
        raise InputError(f"{folder} {kind}: give the folder of a model") from error
    except UnicodeDecodeError as error:
        raise DamagedFileError(f"cannot read {path}: it is not UTF-8 text") from error
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from error


def check_numbers(value: Any, where: str, path: Path) -> None:
    """Refuse lists and numbers that would make building the networks take for ever."""
    if isinstance(value, dict):
        for name, entry in value.items():
            check_numbers(entry, f"{where}.{name}", path)
    elif isinstance(value, list):
        if len(value) > _MOST_ENTRIES:
            _refuse(path, f"{where} has {len(value)} entries; at most {_MOST_ENTRIES} are read")
        for index, entry in enumerate(value):
            check_numbers(entry, f"{where}[{index}]", path)
    elif isinstance(value, int | float):
        most = _MOST_REPEATED if any(word in where for word in _REPEATED) else _LARGEST_NUMBER
        if not -_LARGEST_NUMBER <= value <= most:
            _refuse(path, f"{where} is {quoted(value)}; at most {most} is read")


def _records(files: Any, path: Path) -> dict[str, WeightRecord]:
    if not isinstance(files, dict):
        _refuse(path, "files is not an object")
    records = {}
    for name, entry in files.items():
        size, digest = (entry.get("bytes"), entry.get("sha256")) if isinstance(entry, dict) else (None, None)
        if not isinstance(size, int) or not isinstance(digest, str):
            _refuse(path, f"files.{name} does not give bytes and sha256")
        of = entry.get("of", "")
        if of not in ("", *EMBEDDED):
            _refuse(
                path, f"files.{name} is of {quoted(of)}, but only embedded models lend files: {', '.join(EMBEDDED)}"
            )
        records[name] = WeightRecord(size, digest, of)
    return records


Config = UNetConfig | AutoencoderConfig | TextTowerConfig


def build_network(config: Config) -> nn.Module:
    """The network of one configuration, on the meta device. Errors of PyTorch's pass."""
    with torch.device("meta"), _Unfilled():
        if isinstance(config, UNetConfig):
            return UNet(config)
        return Autoencoder(config) if isinstance(config, AutoencoderConfig) else TextTower(config)


def build_networks(spec: ModelSpec, path: Path) -> dict[str, nn.Module]:
    """The networks of `spec` by their weight files, on the meta device; `path` is named in errors.

    Raises:
        DamagedFileError: there are no such networks.
    """
    try:
        configs: list[Config] = [spec.unet, spec.autoencoder, *spec.towers]
        modules = [build_network(config) for config in configs]
    except (ValueError, RuntimeError, TypeError, IndexError, ZeroDivisionError) as error:
        reason = quoted(str(error), 150)
        raise DamagedFileError(f"cannot read {path}: its networks cannot be built ({reason})") from error
    return dict(zip(weight_files(spec), modules, strict=True))


class _Unfilled(TorchFunctionMode):
    """Leaves new weights without first values: drawing them on the meta device imports PyTorch's compiler, a second."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        named = kwargs or {}
        if getattr(func, "__module__", None) == "torch.nn.init":
            return named["tensor"] if "tensor" in named else args[0]
        return func(*args, **named)


def _refuse(path: Path, reason: str) -> NoReturn:
    raise DamagedFileError(f"cannot read {path}: {reason}")
