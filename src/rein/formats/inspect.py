"""What one of Rein's model folders holds, from headers; the numbers are read only to hash."""

from __future__ import annotations

import math
import os
from collections import Counter
from dataclasses import dataclass, fields
from pathlib import Path

from rein.errors import DamagedFileError, InputError
from rein.formats.folder import (
    SPEC_FILE,
    WeightRecord,
    build_networks,
    is_recorded,
    read_description,
    tokenizer_home,
)
from rein.formats.header import Header
from rein.formats.tensors import read_header
from rein.nn.specs import VARIANTS, ModelSpec
from rein.text.tokenizer import FILE_NAME as TOKENIZER_FILE


@dataclass(frozen=True)
class WeightFile:
    """One file of weights.

    Fields:
        name: without its folder.
        bytes: its size.
        types: tensors of each type, by the format's names ("F16"), the most frequent first.
        parameters: numbers in all its tensors.
        tensors: how many of them.
        problems: what is wrong with it; empty for a sound one.
    """

    name: str
    bytes: int = 0
    types: tuple[str, ...] = ()
    parameters: int = 0
    tensors: int = 0
    problems: tuple[str, ...] = ()


@dataclass(frozen=True)
class Inspection:
    """A model folder as it was found.

    Fields:
        changes: fields in which the model differs from the known variant of its name; None where there is none.
        weights_hash: as `rein.formats.checkpoint.LoadedModel.weights_hash`, from what was recorded at saving.
        missing: what should be in the folder and is not, the tokenizer too.
    """

    folder: Path
    spec: ModelSpec
    changes: tuple[str, ...] | None
    files: tuple[WeightFile, ...]
    weights_hash: str
    missing: tuple[str, ...]

    @property
    def parameters(self) -> int:
        """Numbers in all weight files together."""
        return sum(entry.parameters for entry in self.files)

    @property
    def problems(self) -> tuple[str, ...]:
        """Everything that keeps the model from loading."""
        wrong = tuple(f"{entry.name}: {problem}" for entry in self.files for problem in entry.problems)
        return tuple(f"{name} is missing" for name in self.missing) + wrong


def inspect_folder(folder: str | os.PathLike[str], hashed: bool = True) -> Inspection:
    """Look at a model folder. What is wrong with its weight files is told, not raised.

    Args:
        hashed: read the weight files in full and compare their SHA-256 with what was recorded when they were saved.

    Raises:
        InputError: it is no model folder.
        DamagedFileError: its `model.json` cannot be read.
    """
    folder = Path(folder)
    description = read_description(folder)
    spec, recorded = description.spec, description.files
    networks = build_networks(spec, folder / SPEC_FILE)
    files, missing = [], []
    for name, network in networks.items():
        path = description.place(folder, name)
        if not path.is_file():
            missing.append(name)
            continue
        wanted = {key: tuple(tensor.shape) for key, tensor in network.state_dict().items()}
        files.append(_weight_file(path, wanted, recorded.get(name), hashed))
    if spec.vocabulary == "own" and tokenizer_home(folder) is None:
        missing.append(TOKENIZER_FILE)
    return Inspection(folder, spec, _changes(spec), tuple(files), description.weights_hash, tuple(missing))


def _changes(spec: ModelSpec) -> tuple[str, ...] | None:
    known = VARIANTS.get(spec.name)
    if known is None:
        return None
    return tuple(entry.name for entry in fields(spec) if getattr(spec, entry.name) != getattr(known, entry.name))


def _weight_file(
    path: Path, wanted: dict[str, tuple[int, ...]], record: WeightRecord | None, hashed: bool
) -> WeightFile:
    try:
        header = read_header(path)
    except (DamagedFileError, InputError) as error:
        return WeightFile(path.name, path.stat().st_size, problems=(str(error).removeprefix(f"cannot read {path}: "),))
    found = {name: info.shape for name, info in header.tensors.items()}
    size = path.stat().st_size
    same_size = record is None or record.bytes == size
    shared = wanted.keys() & found.keys()
    problems = [
        _count(len(wanted.keys() - found.keys()), "of this network's tensors missing"),
        _count(len(found.keys() - wanted.keys()), "unknown to this network"),
        _count(sum(wanted[name] != found[name] for name in shared), "of another shape"),
        f"{size} bytes, {record.bytes} when it was saved" if record is not None and not same_size else "",
        "not what was saved: its SHA-256 is another" if hashed and same_size and not is_recorded(path, record) else "",
    ]
    return _described(path, header, tuple(problem for problem in problems if problem))


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number else ""


def _described(path: Path, header: Header, problems: tuple[str, ...]) -> WeightFile:
    types = Counter(info.dtype for info in header.tensors.values())
    parameters = sum(math.prod(info.shape) for info in header.tensors.values())
    names = tuple(name for name, _ in types.most_common())
    return WeightFile(path.name, path.stat().st_size, names, parameters, len(header.tensors), problems)
